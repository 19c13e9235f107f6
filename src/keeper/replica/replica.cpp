#include "keeper/replica/replica.h"

#include <memory>

#include "keeper/replica/caretaker.h"
#include "keeper/replica/replica_keeper.h"

namespace hf::keeper {

namespace {

template <typename Mode, typename Config>
Status run(const Config& config, sys::InheritedFds& fds) {
  auto keeper = std::make_unique<Mode>(config);
  Status ended = keeper->start(fds);
  if (ended.ok()) ended = keeper->run_until_stopped();
  // An error leaves work under way that only the end of the process ends.
  if (!ended.ok()) (void)keeper.release();
  return ended;
}

}  // namespace

Status receive_vm(const keeper_protocol::ReplicaConfig& config, sys::InheritedFds& fds) {
  return run<ReplicaKeeper>(config, fds);
}

Status look_after_vm(const keeper_protocol::CaretakerConfig& config, sys::InheritedFds& fds) {
  return run<Caretaker>(config, fds);
}

}  // namespace hf::keeper
