// Long work as jobs: a bounded pool of threads runs plain blocking functions.
//
// A job has a subject (a VM's name, a site); two jobs never run for one subject at a time. One that
// may pre-empt the other asks it to end and waits, without a thread, until it has. Steps, result
// and error are kept in the catalog when it ends.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "control/core/notice.h"
#include "control/store/catalog.h"
#include "sys/json.h"

namespace hf::control {

// What the work sees of its job.
class Progress {
 public:
  virtual ~Progress() = default;
  virtual void step(std::string text) = 0;  // begins the next step; shown with its time
  // Another job waits for this one to end: work that takes long looks, undoes what it began, and
  // returns an error that says so.
  virtual bool preempted() const { return false; }
  // This job has pre-empted another one, which has ended.
  virtual bool has_preempted() const { return false; }
};

enum class JobRecord {
  kRow,  // in the catalog, from its beginning
  // Not in the catalog: what is tried again and again by itself. It keeps others off its subject as
  // any job does, and is forgotten when it ends.
  kNone,
};

using JobWork = std::function<Result<sys::JsonObject>(Progress&)>;

// A job as it is now, and what tells when it has changed: `changed`'s version is the job's.
struct JobLook {
  sys::JsonObject view;
  uint64_t version = 0;
  bool ended = false;
  std::shared_ptr<Notice> changed;  // null: it ended long ago, nothing changes any more
};

struct JobLimits {
  size_t threads = 16;
  size_t waiting_max = 64;
  size_t kept_max = 256;  // ended jobs kept in memory; older ones are in the catalog
};

class JobEngine {
 public:
  explicit JobEngine(Catalog& catalog, JobLimits limits = {});
  ~JobEngine();  // waits for the running jobs
  JobEngine(const JobEngine&) = delete;
  JobEngine& operator=(const JobEngine&) = delete;

  // The job's number. kConflict: a job for this subject runs, and its kind is none of `preempts`.
  // kLimit: too many wait.
  Result<uint64_t> submit(std::string kind, std::string subject, JobWork work,
                          const std::vector<std::string>& preempts = {},
                          JobRecord record = JobRecord::kRow);
  // {"id","kind","subject","state","version","steps":[{"text","at_ms"}],"elapsed_ms","result"|"error"}.
  // A job that ended has no later version.
  Result<JobLook> look(uint64_t id);
  Result<sys::JsonObject> view(uint64_t id) { return TRY(look(id)).view; }
  Result<sys::JsonArray> list();

  // Numbers from here on are of jobs without a row.
  static constexpr uint64_t kUnrecordedFirst = uint64_t{1} << 48;

 private:
  struct Job;
  class JobProgress;
  void work_loop();
  std::shared_ptr<Job> take_waiting();
  void run(const std::shared_ptr<Job>& job);
  // Under the mutex: the jobs that a new one for `subject` pre-empts, or why it may not begin.
  Result<std::vector<std::shared_ptr<Job>>> make_way(
      const std::string& subject, const std::vector<std::string>& preempts) const;
  sys::JsonObject show(const Job& job) const;

  Catalog& catalog_;
  const JobLimits limits_;
  std::mutex mutex_;
  std::condition_variable work_ready_;
  uint64_t next_unrecorded_ = kUnrecordedFirst;
  std::set<std::string> beginning_;  // subjects of the jobs that are being written down
  std::map<uint64_t, std::shared_ptr<Job>> jobs_;
  std::deque<std::shared_ptr<Job>> waiting_;
  std::set<std::string> busy_;  // subjects of the jobs that run now
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hf::control
