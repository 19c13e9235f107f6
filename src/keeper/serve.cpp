#include "keeper/serve.h"

#include <memory>

#include "keeper/keeper.h"

namespace hf::keeper {
namespace {

// A disk that is full when a keeper starts is what a keeper that ran says of it.
Error with_advice(Error error, const std::string& directory) {
  if (error.code != ErrorCode::kNoSpace || !error.mend.empty()) return error;
  return std::move(error)
      .with_effect("The VM's disks stand still; what it had flushed is safe")
      .with_mend("free space on the file system of " + directory +
                 "; under a running guest the keeper starts again by itself");
}

}  // namespace

Status serve_vm(const keeper_protocol::ServeConfig& config, sys::InheritedFds& fds,
                vault::KeyClient& vault) {
  auto keeper = std::make_unique<Keeper>(config, vault);
  Status served = keeper->start(fds);
  if (served.ok()) served = keeper->run_until_stopped();
  // An error leaves work under way that only the end of the process ends; a destructor would have
  // to wait for a disk or a guest that does not answer.
  if (served.ok()) return served;
  (void)keeper.release();
  return with_advice(std::move(served).error(), config.journal_dir);
}

}  // namespace hf::keeper
