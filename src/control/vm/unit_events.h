// What the launcher tells of processes that began or ended, and what has to be done about it.
#pragma once

#include <functional>

#include "control/services.h"
#include "control/vm/revivals.h"
#include "control/vm/stalls.h"

namespace hf::control {

class UnitEvents {
 public:
  // Starts the keeper of a running guest again.
  using Revive = std::function<Status(const VmRow&)>;
  explicit UnitEvents(Services& services, Revive revive = nullptr);

  // On the launcher client's thread, which also brings the answers to what others ask of the
  // launcher: waits for nobody who may wait for one.
  void take(const launcher::Event& event);
  // A VM that ran before this holdfastd did: its keeper may have given up when nobody listened.
  void take_up(VmId vm);
  // Why the guest of a running VM stands still, if it does.
  std::optional<Error> stall(VmId vm) const { return stalls_.of(vm); }

 private:
  void on_qemu_ended(VmId vm, const launcher::Event& event);
  void on_keeper_ended(VmId vm, const launcher::Event& event);
  void revive(VmId vm);
  void stalled(const VmRow& row, Error why);
  void runs_again_if_it_stands(VmId vm);

  Services& services_;
  const Revive revive_;
  Revivals revivals_;
  Stalls stalls_;
};

}  // namespace hf::control
