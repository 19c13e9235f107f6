#include "daemon/jobs.h"

#include "daemon/catalog_inner.h"
#include "daemon/log.h"

namespace hf::daemon {

using SteadyTime = std::chrono::steady_clock::time_point;

struct JobEngine::Job {
  uint64_t id = 0;
  std::string kind;
  std::string subject;
  JobWork work;
  Micros created;
  SteadyTime begun = std::chrono::steady_clock::now();
  uint64_t version = 1;
  bool ended = false;
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
    std::lock_guard lock(engine_.mutex_);
    job_.steps.push_back(sys::JsonObject{{"text", text}, {"at_ms", job_.age_ms()}});
    ++job_.version;
    engine_.changed_.notify_all();
  }

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
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

Result<uint64_t> JobEngine::submit(std::string kind, std::string subject, JobWork work) {
  std::lock_guard lock(mutex_);
  for (const auto& [id, job] : jobs_) {
    if (job->ended || job->subject != subject) continue;
    return Error{.code = ErrorCode::kConflict,
                 .cause = "job " + std::to_string(id) + " (" + job->kind + ") still runs for \"" +
                          subject + "\"",
                 .effect = "nothing was begun",
                 .mend = "wait for it: holdfast job show " + std::to_string(id)};
  }
  if (waiting_.size() >= limits_.waiting_max) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = "too many jobs wait",
                 .effect = "nothing was begun",
                 .mend = "try again when some have ended: holdfast job list"};
  }
  auto job = std::make_shared<Job>();
  job->created = catalog_now();
  job->id = TRY(catalog_.add_job(kind, subject, job->created));
  job->kind = std::move(kind);
  job->subject = std::move(subject);
  job->work = std::move(work);
  jobs_[job->id] = job;
  waiting_.push_back(job);
  while (jobs_.size() > limits_.kept_max && jobs_.begin()->second->ended)
    jobs_.erase(jobs_.begin());
  work_ready_.notify_one();
  return job->id;
}

void JobEngine::work_loop() {
  for (;;) {
    std::shared_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      work_ready_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      job = waiting_.front();
      waiting_.pop_front();
    }
    run(job);
  }
}

void JobEngine::run(const std::shared_ptr<Job>& job) {
  JobProgress progress(*this, *job);
  Result<sys::JsonObject> outcome = job->work(progress);
  JobRow row{.id = job->id, .state = outcome.ok() ? "done" : "failed", .finished = catalog_now()};
  std::lock_guard lock(mutex_);
  if (outcome.ok()) {
    job->result = std::move(outcome).value();
  } else {
    log_error("job " + std::to_string(job->id) + " " + job->kind + " " + job->subject + ": " +
              outcome.error().describe());
    job->error = std::move(outcome).error();
  }
  job->work = nullptr;
  job->elapsed_ms = job->age_ms();
  job->ended = true;
  ++job->version;
  row.detail = sys::to_text(show(*job));
  if (Status kept = catalog_.finish_job(row); !kept.ok()) log_error(kept.error().describe());
  changed_.notify_all();
}

sys::JsonObject JobEngine::show(const Job& job) const {
  sys::JsonObject view{{"id", job.id},
                       {"kind", job.kind},
                       {"subject", job.subject},
                       {"state", !job.ended  ? "running"
                                 : job.error ? "failed"
                                             : "done"},
                       {"version", job.version},
                       {"created_us", job.created.value},
                       {"elapsed_ms", job.ended ? job.elapsed_ms : job.age_ms()},
                       {"steps", job.steps}};
  if (job.result) view["result"] = *job.result;
  if (job.error) view["error"] = sys::error_to_json(*job.error);
  return view;
}

Result<sys::JsonObject> JobEngine::view(uint64_t id, uint64_t seen,
                                        std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  auto found = jobs_.find(id);
  if (found != jobs_.end()) {
    std::shared_ptr<Job> job = found->second;
    changed_.wait_for(lock, limit, [&] { return stopping_ || job->ended || job->version > seen; });
    return show(*job);
  }
  lock.unlock();
  JobRow row = TRY(catalog_.job(id));
  sys::JsonObject view = TRY(sys::parse_json_object(row.detail));
  view["id"] = row.id;
  view["kind"] = row.kind;
  view["subject"] = row.subject;
  view["state"] = row.state;
  view["created_us"] = row.created.value;
  return view;
}

Result<sys::JsonArray> JobEngine::list() {
  sys::JsonArray all;
  for (const JobRow& row : TRY(catalog_.jobs(limits_.kept_max))) all.push_back(TRY(view(row.id)));
  return all;
}

}  // namespace hf::daemon
