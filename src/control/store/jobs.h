// Long work as jobs: a bounded pool of threads runs plain blocking functions.
//
// A job has a subject (a VM's name, a site); two jobs never run for one subject at a time. One that
// may pre-empt the other asks it to end and waits, without a thread, until it has. Its steps are in
// the catalog as they come, result and error when it ends. One that a dying holdfastd left is
// interrupted: the next one says so, and what became of it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
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
  virtual void percent(unsigned /*of the step*/) {}
  // Another job waits for this one to end: work that takes long looks, undoes what it began, and
  // returns an error that says so.
  virtual bool preempted() const { return false; }
  // The same, because somebody wants it to end. Never of work that was submitted as one that cannot
  // be cancelled.
  virtual bool cancelled() const { return false; }
  // This job has pre-empted another one, which has ended.
  virtual bool has_preempted() const { return false; }
  virtual const By& by() const {
    static const By kItself;
    return kItself;
  }
};

enum class JobRecord {
  kRow,  // in the catalog, from its beginning
  // Not in the catalog: what is tried again and again by itself. It keeps others off its subject as
  // any job does, and is forgotten when it ends.
  kNone,
};

using JobWork = std::function<Result<sys::JsonObject>(Progress&)>;

struct JobOptions {
  std::vector<std::string> preempts = {};  // kinds of jobs for the same subject
  JobRecord record = JobRecord::kRow;
  By by = {};
  // Why it is not cancelled once it has begun. Empty: its work looks at Progress::cancelled().
  std::string not_cancelled = "holdfastd does this by itself, and does it again";
};

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
                          JobOptions options = {});
  // Tells it to end; it has when it says so. kConflict: it has ended, or is not cancelled.
  Status cancel(uint64_t id, const By& by);
  // {"id","kind","subject","state","version","steps":[{"text","at_ms"}],"percent","elapsed_ms",
  // "actor","origin","cancellable","result"|"error"}. A job that ended has no later version.
  Result<JobLook> look(uint64_t id);
  Result<sys::JsonObject> view(uint64_t id) { return TRY(look(id)).view; }
  Result<sys::JsonArray> list();

  // Those that the holdfastd before this one left, until it is known what became of them.
  const std::vector<JobRow>& interrupted() const { return interrupted_; }
  // As far as it is known: its effect and mend. And an event.
  void explain_interrupted(const JobRow& row, std::string effect, std::string mend);

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
  static Result<JobLook> look_back(const JobRow& row);

  void tell_end(const Job& job);
  bool told_before(const Job& job);
  void note(const Job& job);

  Catalog& catalog_;
  const JobLimits limits_;
  std::vector<JobRow> interrupted_;
  std::mutex mutex_;
  std::condition_variable work_ready_;
  uint64_t next_unrecorded_ = kUnrecordedFirst;
  std::set<std::string> beginning_;  // subjects of the jobs that are being written down
  std::map<uint64_t, std::shared_ptr<Job>> jobs_;
  std::deque<std::shared_ptr<Job>> waiting_;
  std::set<std::string> busy_;  // subjects of the jobs that run now
  std::map<std::pair<std::string, std::string>, std::string> told_failures_;  // by kind, subject
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hf::control
