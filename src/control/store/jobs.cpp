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
  JobRecord record = JobRecord::kRow;
  Micros created;
  std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
  std::shared_ptr<Notice> changed = std::make_shared<Notice>();
  bool ended = false;
  bool preempted = false;
  bool has_preempted = false;
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
    }
    job_.changed->tell();
  }
  bool preempted() const override {
    std::lock_guard lock(engine_.mutex_);
    return job_.preempted;
  }
  bool has_preempted() const override { return job_.has_preempted; }

 private:
  JobEngine& engine_;
  Job& job_;
};

JobEngine::JobEngine(Catalog& catalog, JobLimits limits) : catalog_(catalog), limits_(limits) {
  Error error{.code = ErrorCode::kInternal,
              .cause = "holdfastd ended while the job ran",
              .effect = "the job was not finished",
              .mend = "look at the VM (holdfast vm show) and give the command again"};
  sys::JsonObject detail{{"error", sys::error_to_json(error)}};
  if (Status failed = catalog.fail_left_over_jobs(sys::to_text(detail), catalog_now());
      !failed.ok()) {
    log_error(failed.error().describe());
  }
  for (size_t i = 0; i < limits_.threads; ++i) threads_.emplace_back([this] { work_loop(); });
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
                                   const std::vector<std::string>& preempts, JobRecord record) {
  auto job = std::make_shared<Job>();
  job->created = catalog_now();
  job->kind = std::move(kind);
  job->subject = std::move(subject);
  job->work = std::move(work);
  job->record = record;
  std::vector<std::shared_ptr<Job>> ending;
  {
    std::lock_guard lock(mutex_);
    ending = TRY(make_way(job->subject, preempts));
    job->has_preempted = !ending.empty();
    beginning_.insert(job->subject);
  }
  // Nobody who looks at a job waits for the disk that this one is written to.
  Result<uint64_t> id = uint64_t{0};
  if (record == JobRecord::kRow) id = catalog_.add_job(job->kind, job->subject, job->created);
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
    if (job->record == JobRecord::kNone) {
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
  return job;
}

void JobEngine::run(const std::shared_ptr<Job>& job) {
  JobProgress progress(*this, *job);
  Result<sys::JsonObject> outcome = job->work(progress);
  JobRow row{.id = job->id, .state = outcome.ok() ? "done" : "failed", .finished = catalog_now()};
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
  row.detail = sys::to_text(show(ended));
  if (job->record == JobRecord::kRow) {
    if (Status kept = catalog_.finish_job(row); !kept.ok()) log_error(kept.error().describe());
  }
  {
    std::lock_guard lock(mutex_);
    *job = std::move(ended);
    busy_.erase(job->subject);
    if (job->record == JobRecord::kNone) jobs_.erase(job->id);
  }
  work_ready_.notify_all();
  job->changed->tell();
}

sys::JsonObject JobEngine::show(const Job& job) const {
  sys::JsonObject view{{"id", job.id},
                       {"kind", job.kind},
                       {"subject", job.subject},
                       {"state", !job.ended  ? "running"
                                 : job.error ? "failed"
                                             : "done"},
                       {"version", job.changed->version()},
                       {"created_us", job.created.value},
                       {"elapsed_ms", job.ended ? job.elapsed_ms : job.age_ms()},
                       {"steps", job.steps}};
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
  JobRow row = TRY(catalog_.job(id));
  JobLook look{.view = TRY(sys::parse_json_object(row.detail)), .ended = true};
  look.view["id"] = row.id;
  look.view["kind"] = row.kind;
  look.view["subject"] = row.subject;
  look.view["state"] = row.state;
  look.view["created_us"] = row.created.value;
  return look;
}

Result<sys::JsonArray> JobEngine::list() {
  sys::JsonArray all;
  for (const JobRow& row : TRY(catalog_.jobs(limits_.kept_max))) all.push_back(TRY(view(row.id)));
  return all;
}

}  // namespace hf::control
