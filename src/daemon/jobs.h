// Long work as jobs: a bounded pool of threads runs plain blocking functions.
//
// A job has a subject (a VM's name, a site); two jobs never run for one subject at a time. Steps,
// result and error are kept in the catalog when it ends.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "daemon/catalog.h"
#include "sys/json.h"

namespace hf::daemon {

// What the work sees of its job.
class Progress {
 public:
  virtual ~Progress() = default;
  virtual void step(std::string text) = 0;  // begins the next step; shown with its time
};

using JobWork = std::function<Result<sys::JsonObject>(Progress&)>;

struct JobLimits {
  size_t threads = 4;
  size_t waiting_max = 64;
  size_t kept_max = 256;  // ended jobs kept in memory; older ones are in the catalog
};

class JobEngine {
 public:
  explicit JobEngine(Catalog& catalog, JobLimits limits = {});
  ~JobEngine();  // waits for the running jobs
  JobEngine(const JobEngine&) = delete;
  JobEngine& operator=(const JobEngine&) = delete;

  // The job's number. kConflict: a job for this subject runs. kLimit: too many wait.
  Result<uint64_t> submit(std::string kind, std::string subject, JobWork work);
  // {"id","kind","subject","state","version","steps":[{"text","at_ms"}],"elapsed_ms","result"|"error"}.
  // Waits until the version is above `seen` or the limit is over. A job that ended has no later
  // version.
  Result<sys::JsonObject> view(uint64_t id, uint64_t seen = 0,
                               std::chrono::milliseconds limit = {});
  Result<sys::JsonArray> list();

 private:
  struct Job;
  class JobProgress;
  void work_loop();
  void run(const std::shared_ptr<Job>& job);
  sys::JsonObject show(const Job& job) const;

  Catalog& catalog_;
  const JobLimits limits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable work_ready_;
  std::map<uint64_t, std::shared_ptr<Job>> jobs_;
  std::deque<std::shared_ptr<Job>> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hf::daemon
