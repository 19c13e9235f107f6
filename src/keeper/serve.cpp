#include "keeper/serve.h"

#include <memory>

#include "keeper/keeper.h"

namespace hf::keeper {

Status serve_vm(const Config& config, sys::InheritedFds& fds, vault::KeyClient& vault) {
  auto keeper = std::make_unique<Keeper>(config, vault);
  Status served = keeper->start(fds);
  if (served.ok()) served = keeper->run_until_stopped();
  // An error leaves work under way that only the end of the process ends; a destructor would have
  // to wait for a disk or a guest that does not answer.
  if (!served.ok()) (void)keeper.release();
  return served;
}

}  // namespace hf::keeper
