#include "control/store/jobs.h"

#include <algorithm>

#include "control/core/log.h"
#include "control/store/catalog_inner.h"

namespace hf::control {

struct JobEngine::Job {
  uint64_t id = 0;
  std::string kind;
  std::string subject;
  JobWork work;
  JobOptions options;
  Micros created;
  std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
  std::shared_ptr<Notice> changed = std::make_shared<Notice>();
  bool begun_work = false;
  bool ended = false;
  bool preempted = false;
  std::optional<By> cancelled_by;
  bool has_preempted = false;
  std::optional<unsigned> percent;  // of the newest step
  int64_t elapsed_ms = 0;
  sys::JsonArray steps;
  std::optional<sys::JsonObject> result;
  std::optional<Error> error;

  int64_t age_ms() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                 begun)
        .count();
  }
};

class JobEngine::JobProgress final : public Progress {
 public:
  JobProgress(JobEngine& engine, Job& job) : engine_(engine), job_(job) {}
  void step(std::string text) override {
    {
      std::lock_guard lock(engine_.mutex_);
      job_.steps.push_back(sys::JsonObject{{"text", text}, {"at_ms", job_.age_ms()}});
      job_.percent.reset();
    }
    job_.changed->tell();
    engine_.note(job_);
  }
  void percent(unsigned percent) override {
    {
      std::lock_guard lock(engine_.mutex_);
      if (job_.percent == percent) return;
      job_.percent = percent;
    }
    job_.changed->tell();
    engine_.note(job_);
  }
  bool preempted() const override {
    std::lock_guard lock(engine_.mutex_);
    return job_.preempted;
  }
  bool cancelled() const override {
    std::lock_guard lock(engine_.mutex_);
    return job_.cancelled_by.has_value();
  }
  bool has_preempted() const override { return job_.has_preempted; }
  const By& by() const override { return job_.options.by; }

 private:
  JobEngine& engine_;
  Job& job_;
};

namespace {

Error cut_off() {
  return {.code = ErrorCode::kInternal,
          .cause = "holdfastd ended while the job ran",
          .effect = "the job was not finished",
          .mend = "look at the VM (holdfast vm show) and give the command again"};
}

bool is_over(std::string_view state) { return state != "running"; }

}  // namespace

JobEngine::JobEngine(Catalog& catalog, JobLimits limits) : catalog_(catalog), limits_(limits) {
  Result<std::vector<JobRow>> left = catalog.interrupt_left_over_jobs(catalog_now());
  if (left.ok()) {
    interrupted_ = std::move(left).value();
  } else {
    log_error(left.error().describe());
  }
  for (size_t i = 0; i < limits_.threads; ++i) threads_.emplace_back([this] { work_loop(); });
}

void JobEngine::explain_interrupted(const JobRow& row, std::string effect, std::string mend) {
  const Error error{.code = ErrorCode::kInternal,
                    .cause = cut_off().cause,
                    .effect = std::move(effect),
                    .mend = std::move(mend)};
  Result<sys::JsonObject> detail = sys::parse_json_object(row.detail);
  if (!detail.ok()) detail = sys::JsonObject{};
  (*detail)["error"] = sys::error_to_json(error);
  JobRow explained = row;
  explained.detail = sys::to_text(*detail);
  if (Status kept = catalog_.finish_job(explained); !kept.ok()) log_error(kept.error().describe());
  tell(catalog_, {.severity = Severity::kWarning,
                  .kind = "job.interrupted",
                  .subject = row.subject,
                  .text = "job " + std::to_string(row.id) + " (" + row.kind +
                          ") was cut off: " + error.cause + "; " + error.effect,
                  .by = row.by});
}

void JobEngine::note(const Job& job) {
  if (job.options.record != JobRecord::kRow) return;
  std::string detail;
  {
    std::lock_guard lock(mutex_);
    detail = sys::to_text(show(job));
  }
  if (Status noted = catalog_.note_job(job.id, detail); !noted.ok())
    log_warning(noted.error().describe());
}

JobEngine::~JobEngine() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_ready_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

Result<uint64_t> JobEngine::submit(std::string kind, std::string subject, JobWork work,
                                   JobOptions options) {
  const JobRecord record = options.record;
  auto job = std::make_shared<Job>();
  job->created = catalog_now();
  job->kind = std::move(kind);
  job->subject = std::move(subject);
  job->work = std::move(work);
  job->options = std::move(options);
  std::vector<std::shared_ptr<Job>> ending;
  {
    std::lock_guard lock(mutex_);
    ending = TRY(make_way(job->subject, job->options.preempts));
    job->has_preempted = !ending.empty();
    beginning_.insert(job->subject);
  }
  // Nobody who looks at a job waits for the disk that this one is written to.
  Result<uint64_t> id = uint64_t{0};
  if (record == JobRecord::kRow) {
    id = catalog_.add_job(job->kind, job->subject, job->created, job->options.by);
  }
  std::lock_guard lock(mutex_);
  beginning_.erase(job->subject);
  job->id = TRY(std::move(id));
  if (record == JobRecord::kNone) job->id = next_unrecorded_++;
  jobs_[job->id] = job;
  for (const std::shared_ptr<Job>& before : ending) before->preempted = true;
  waiting_.push_back(job);
  while (jobs_.size() > limits_.kept_max && jobs_.begin()->second->ended)
    jobs_.erase(jobs_.begin());
  work_ready_.notify_one();
  return job->id;
}

Result<std::vector<std::shared_ptr<JobEngine::Job>>> JobEngine::make_way(
    const std::string& subject, const std::vector<std::string>& preempts) const {
  std::vector<std::shared_ptr<Job>> ending;
  for (const auto& [id, job] : jobs_) {
    if (job->ended || job->subject != subject) continue;
    if (std::ranges::find(preempts, job->kind) != preempts.end()) {
      ending.push_back(job);
      continue;
    }
    if (job->options.record == JobRecord::kNone) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = job->kind + " is under way for \"" + subject + "\"",
                   .effect = "nothing was begun",
                   .mend = "give the command again in a moment"};
    }
    return Error{.code = ErrorCode::kConflict,
                 .cause = "job " + std::to_string(id) + " (" + job->kind + ") still runs for \"" +
                          subject + "\"",
                 .effect = "nothing was begun",
                 .mend = "wait for it: holdfast job show " + std::to_string(id)};
  }
  if (beginning_.contains(subject)) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "another job for \"" + subject + "\" begins at this moment",
                 .effect = "nothing was begun",
                 .mend = "holdfast job list shows it"};
  }
  if (waiting_.size() + beginning_.size() >= limits_.waiting_max) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = "too many jobs wait",
                 .effect = "nothing was begun",
                 .mend = "try again when some have ended: holdfast job list"};
  }
  return ending;
}

void JobEngine::work_loop() {
  for (;;) {
    std::shared_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      work_ready_.wait(lock, [&] { return stopping_ || (job = take_waiting()) != nullptr; });
      if (stopping_) return;
    }
    run(job);
  }
}

// The first whose subject is free.
std::shared_ptr<JobEngine::Job> JobEngine::take_waiting() {
  auto next = std::ranges::find_if(
      waiting_, [this](const std::shared_ptr<Job>& job) { return !busy_.contains(job->subject); });
  if (next == waiting_.end()) return nullptr;
  std::shared_ptr<Job> job = *next;
  waiting_.erase(next);
  busy_.insert(job->subject);
  job->begun_work = true;
  return job;
}

Status JobEngine::cancel(uint64_t id, const By& by) {
  auto refuse = [id](std::string cause, std::string effect) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = std::move(cause),
                 .effect = std::move(effect),
                 .mend = "holdfast job show " + std::to_string(id)};
  };
  std::shared_ptr<Job> job;
  {
    std::lock_guard lock(mutex_);
    if (auto found = jobs_.find(id); found != jobs_.end()) job = found->second;
    if (job != nullptr && !job->ended) {
      if (job->begun_work && !job->options.not_cancelled.empty()) {
        return refuse("job " + std::to_string(id) + " (" + job->kind +
                          ") cannot be cancelled: " + job->options.not_cancelled,
                      "it goes on");
      }
      if (!job->cancelled_by) job->cancelled_by = by;
    }
  }
  if (job == nullptr) TRY(catalog_.job(id));  // it ended long ago, or there is none
  if (job == nullptr || job->ended)
    return refuse("job " + std::to_string(id) + " has ended already", "nothing was cancelled");
  job->changed->tell();
  return {};
}

void JobEngine::run(const std::shared_ptr<Job>& job) {
  JobProgress progress(*this, *job);
  Result<sys::JsonObject> outcome =
      progress.cancelled()
          ? Result<sys::JsonObject>(
                Error{.code = ErrorCode::kConflict,
                      .cause = "job " + std::to_string(job->id) + " was cancelled before it began",
                      .effect = "nothing was done",
                      .mend = "if it is wanted after all, give the command again"})
          : job->work(progress);
  JobRow row{.id = job->id, .finished = catalog_now()};
  if (!outcome.ok()) {
    log_error("job " + std::to_string(job->id) + " " + job->kind + " " + job->subject + ": " +
              outcome.error().describe());
  }
  Job ended;  // as it will be, for the catalog: it is seen as ended once that is durable
  {
    std::lock_guard lock(mutex_);
    job->work = nullptr;
    ended = *job;
  }
  if (outcome.ok()) {
    ended.result = std::move(outcome).value();
  } else {
    ended.error = std::move(outcome).error();
  }
  ended.elapsed_ms = job->age_ms();
  ended.ended = true;
  const sys::JsonObject shown = show(ended);
  row.state = shown.at("state").as_string();
  row.detail = sys::to_text(shown);
  if (job->options.record == JobRecord::kRow) {
    if (Status kept = catalog_.finish_job(row); !kept.ok()) log_error(kept.error().describe());
    tell_end(ended);
  }
  {
    std::lock_guard lock(mutex_);
    *job = std::move(ended);
    busy_.erase(job->subject);
    if (job->options.record == JobRecord::kNone) jobs_.erase(job->id);
  }
  work_ready_.notify_all();
  job->changed->tell();
}

// Nothing failed, or it is what holdfastd tries again and again, and fails as it did before.
bool JobEngine::told_before(const Job& job) {
  constexpr size_t kRememberedMax = 1'000;
  const auto what = std::pair(job.kind, job.subject);
  std::lock_guard lock(mutex_);
  if (!job.error) {
    told_failures_.erase(what);
    return true;
  }
  if (job.options.by.actor != By{}.actor) return false;
  if (told_failures_.size() >= kRememberedMax) told_failures_.clear();
  return std::exchange(told_failures_[what], job.error->cause) == job.error->cause;
}

// What was done is told by who did it; what was not, here.
void JobEngine::tell_end(const Job& job) {
  if (told_before(job)) return;
  const bool cancelled = job.cancelled_by.has_value();
  tell(catalog_,
       {.severity = cancelled ? Severity::kInfo : Severity::kWarning,
        .kind = cancelled ? "job.cancelled" : "job.failed",
        .subject = job.subject,
        .text = job.kind + (cancelled ? " was cancelled: " : " was refused or failed: ") +
                job.error->cause + (job.error->effect.empty() ? "" : "; " + job.error->effect),
        .by = cancelled ? *job.cancelled_by : job.options.by});
}

sys::JsonObject JobEngine::show(const Job& job) const {
  sys::JsonObject view{{"id", job.id},
                       {"kind", job.kind},
                       {"subject", job.subject},
                       {"state", !job.ended                     ? "running"
                                 : !job.error                   ? "done"
                                 : job.cancelled_by.has_value() ? "cancelled"
                                                                : "failed"},
                       {"version", job.changed->version()},
                       {"created_us", job.created.value},
                       {"elapsed_ms", job.ended ? job.elapsed_ms : job.age_ms()},
                       {"steps", job.steps},
                       {"actor", job.options.by.actor},
                       {"origin", job.options.by.origin}};
  if (!job.ended) {
    const bool can = !job.begun_work || job.options.not_cancelled.empty();
    view["cancellable"] = can;
    if (!can) view["not_cancellable"] = job.options.not_cancelled;
    if (job.percent) view["percent"] = *job.percent;
  }
  if (job.result) view["result"] = *job.result;
  if (job.error) view["error"] = sys::error_to_json(*job.error);
  return view;
}

Result<JobLook> JobEngine::look(uint64_t id) {
  {
    std::lock_guard lock(mutex_);
    if (auto found = jobs_.find(id); found != jobs_.end()) {
      const Job& job = *found->second;
      // The version first: what comes after it is news.
      JobLook look{.version = job.changed->version(), .ended = job.ended, .changed = job.changed};
      look.view = show(job);
      look.view["version"] = look.version;
      return look;
    }
  }
  return look_back(TRY(catalog_.job(id)));
}

// At one that ended long ago, or with another holdfastd.
Result<JobLook> JobEngine::look_back(const JobRow& row) {
  JobLook look{.view = TRY(sys::parse_json_object(row.detail)), .ended = is_over(row.state)};
  look.view["id"] = row.id;
  look.view["kind"] = row.kind;
  look.view["subject"] = row.subject;
  look.view["state"] = row.state;
  look.view["created_us"] = row.created.value;
  look.view["actor"] = row.by.actor;
  look.view["origin"] = row.by.origin;
  for (std::string_view now : {"cancellable", "not_cancellable", "percent"}) look.view.erase(now);
  if (row.state == "interrupted" && !look.view.contains("error"))
    look.view["error"] = sys::error_to_json(cut_off());
  return look;
}

Result<sys::JsonArray> JobEngine::list() {
  sys::JsonArray all;
  for (const JobRow& row : TRY(catalog_.jobs(limits_.kept_max))) all.push_back(TRY(view(row.id)));
  return all;
}

}  // namespace hf::control
