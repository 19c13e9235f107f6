// Control groups (version 2) for the processes of VMs: what a process forks dies with it, its
// memory is not swapped, and it makes no endless number of processes.
//
// The site's group is made below the launcher's own where systemd has delegated that, else at the
// top of the hierarchy; named after the state directory, so that the next launcher finds it. In it
// each unit has a group of its name.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace hf::launcher {

class Cgroup {
 public:
  Cgroup() = default;
  bool valid() const { return directory_.valid(); }
  int directory() const { return directory_.get(); }
  // Nothing was ever killed in it. The kernel takes a process that is begun in a group that was
  // killed (Linux 5.14 to 6.18 at least) for one of those that were, and kills it too.
  bool fresh() const { return fresh_; }
  // SIGKILL to all in it.
  Status kill();
  // Until it is empty after kill(), for another few milliseconds.
  bool empty() const;

 private:
  friend class SiteCgroup;
  sys::UniqueFd directory_;
  bool fresh_ = false;
};

class SiteCgroup {
 public:
  // Not usable where version 2 is not mounted or may not be written: missing() says so.
  static SiteCgroup open(const struct stat& state_directory);

  // As where there are none; `why` goes on "control groups (version 2)".
  static SiteCgroup none(const std::string& why);

  bool usable() const { return directory_.valid(); }
  // What is not to be had here, a sentence each.
  const std::vector<std::string>& missing() const { return missing_; }

  // The unit's group, made with its limits; what is left in it of an earlier one is killed.
  Result<Cgroup> make(const std::string& unit);
  // Of a unit that an earlier launcher started. kNotFound if it has none.
  Result<Cgroup> find(const std::string& unit);
  // Empty ones only.
  void remove(const std::string& unit);
  // The site's own, once nothing of it runs; else it stays.
  void remove_site();

 private:
  void enable_controllers();

  sys::UniqueFd parent_;
  std::string name_;
  sys::UniqueFd directory_;
  std::vector<std::string> missing_;
  bool swap_ = false;
  bool pids_ = false;
};

}  // namespace hf::launcher
