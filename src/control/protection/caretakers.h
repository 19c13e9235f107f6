// The keepers without a key that look after this site's stopped VMs: while the replica of one lacks
// records, such a keeper ships them, and ends when the replica has all. A VM's directory has one
// keeper at a time: who starts another one holds the caretaker off meanwhile.
//
// Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "control/services.h"

namespace hf::control {

inline std::string caretaker_unit(VmId vm) { return "caretaker-" + vm.hex(); }

class Caretakers {
 public:
  explicit Caretakers(Services& services) : services_(services) {}

  // Starts the VM's if it needs one. Whether one runs now. An error says why it could not start,
  // or why the last one ended; it is tried again no sooner than kTryAgain.
  Result<bool> tend(VmId vm, SiteId peer);
  // The launcher tells that it began or ended.
  void on_unit(VmId vm, const launcher::Event& event);
  // The replica has all of it, said the last one. Not after another keeper had the directory.
  bool level(VmId vm);

  // While one lives none runs: it is ended first, which may take seconds.
  class Hold {
   public:
    Hold(Caretakers& owner, VmId vm) : owner_(owner), vm_(vm) { owner_.hold_off(vm_); }
    ~Hold() { owner_.let_on(vm_); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    Caretakers& owner_;
    VmId vm_;
  };
  void end(VmId vm) { Hold hold(*this, vm); }

  static constexpr std::chrono::seconds kTryAgain{30};

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Care {
    int holds = 0;
    int64_t pid = 0;  // of the one that runs by tend()'s word: its own end counts
    bool launching = false;
    std::optional<launcher::Event> early;  // an end that was told while it was being launched
    bool level = false;
    std::optional<Error> failed;
    Time failed_at;
  };
  void hold_off(VmId vm);
  void let_on(VmId vm);
  bool needed(const VmRow& row, SiteId peer);
  void settle(VmId vm, Care& care, const launcher::Event& ended);
  Result<int64_t> launch(const VmRow& row, const ProtectionRow& protection);

  Services& services_;
  // Not held over a call to the launcher: the thread that reads its answers takes it in on_unit().
  std::mutex mutex_;
  std::condition_variable launched_;
  std::map<VmId, Care> cares_;
};

}  // namespace hf::control
