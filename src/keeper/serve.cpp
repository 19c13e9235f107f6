#include "keeper/serve.h"

#include <cstdio>
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
  if (served.ok() && config.look) (void)keeper.release();  // what it wrote is nobody's
  if (served.ok()) return served;
  const bool told_to_stop = keeper->told_to_stop();
  (void)keeper.release();
  Error error = with_advice(std::move(served).error(), config.journal_dir);
  if (!told_to_stop) return error;
  // What fails is started again; what was told to stop must not be. What it could not write at its
  // end, as on a full disk, its next start recovers.
  std::fputs(("holdfast-keeper: stopped, but not in order: " + error.describe() + "\n").c_str(),
             stderr);
  return {};
}

}  // namespace hf::keeper
