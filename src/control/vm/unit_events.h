// What the launcher tells of processes that began or ended, and what has to be done about it.
#pragma once

#include <functional>

#include "control/services.h"
#include "control/vm/revivals.h"

namespace hf::control {

class UnitEvents {
 public:
  // Starts the keeper of a running guest again.
  using Revive = std::function<Status(const VmRow&)>;
  explicit UnitEvents(Services& services, Revive revive = nullptr);

  // On the launcher client's thread, which also brings the answers to what others ask of the
  // launcher: waits for nobody who may wait for one.
  void take(const launcher::Event& event);

 private:
  void on_qemu_ended(VmId vm, const launcher::Event& event);
  void on_keeper_ended(VmId vm, const launcher::Event& event);
  void revive(VmId vm);

  Services& services_;
  const Revive revive_;
  Revivals revivals_;
};

}  // namespace hf::control
