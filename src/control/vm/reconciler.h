// Makes what runs at this site agree with what the catalog says, and keeps at it until it does.
//
// The fence is state, not an event: a VM whose role is not active has no guest here and no key
// released, whatever job works on it, and whenever this process began. A start asks for a pass: it
// is given for a VM that is active under the epoch that the start knows, and while it is held no
// fence passes. Who changes a role stores it first and calls fence() then, so that either the start
// sees the new role or the fence sees what was started.
//
// Thread-safe. One thread, which sleeps while there is nothing to mend.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "control/store/catalog.h"
#include "control/store/jobs.h"

namespace hf::control {

struct Services;

class Reconciler {
 public:
  explicit Reconciler(Services& services) : services_(services) {}
  ~Reconciler() { stop(); }
  Reconciler(const Reconciler&) = delete;
  Reconciler& operator=(const Reconciler&) = delete;

  void start();
  void stop();

  // To release the key or to start a process of a VM: hold it over that one step. kConflict: the VM
  // is not this site's to run under `started`'s epoch, or not any more.
  using Pass = std::unique_lock<std::mutex>;
  Result<Pass> pass(const VmRow& started);

  // Kills the VM's guest and takes its key back, if its role says so. Done when the guest is dead;
  // what else is left of the VM ends soon after. Not to be called with a pass.
  Status fence(VmId vm);

  // One thread at a time ends what is left of a VM after its guest. Not owned: somebody else had it
  // all of `limit`.
  using Turn = std::unique_lock<std::timed_mutex>;
  Turn turn_to_finish(VmId vm, std::chrono::milliseconds limit);

  // Something may have changed that has to be looked at.
  void wake();
  // The vault is another process, which knows of no release. Does not block.
  void vault_began();
  // A job that has to be done when no other works on the VM, for as long as `needed` says so.
  struct Chore {
    std::string kind;
    VmId vm;
    std::function<bool()> needed;
    JobWork work;
  };
  void add(Chore chore);

 private:
  struct Gate {
    std::mutex passing;
    std::timed_mutex finishing;
  };
  Gate& gate(VmId vm);
  void run();
  bool fence_all();  // false: something is left to do
  bool do_chores();

  Services& services_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool due_ = true;
  bool vault_began_ = false;
  std::map<VmId, std::unique_ptr<Gate>> gates_;
  std::vector<Chore> chores_;
  std::thread thread_;
};

}  // namespace hf::control
