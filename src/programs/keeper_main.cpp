// holdfast-keeper: one VM's own process. Started by the launcher, which hands it everything: the
// configuration as descriptor "config", the sockets by name.

#include <cstdio>

#include "keeper/create.h"
#include "keeper/replica/replica.h"
#include "keeper/serve.h"
#include "keeper_protocol/config.h"
#include "sys/fd.h"
#include "sys/json.h"
#include "sys/process.h"

namespace {

using namespace hf;

Status run_as(const keeper_protocol::CreateConfig& config, sys::InheritedFds& fds) {
  vault::KeyClient vault({.socket_path = config.vault_socket});
  return keeper::create_vm(config, fds, vault);
}
Status run_as(const keeper_protocol::ServeConfig& config, sys::InheritedFds& fds) {
  vault::KeyClient vault({.socket_path = config.vault_socket});
  return keeper::serve_vm(config, fds, vault);
}
Status run_as(const keeper_protocol::ReplicaConfig& config, sys::InheritedFds& fds) {
  return keeper::receive_vm(config, fds);
}
Status run_as(const keeper_protocol::CaretakerConfig& config, sys::InheritedFds& fds) {
  return keeper::look_after_vm(config, fds);
}

Status run() {
  TRY(sys::harden_process());
  sys::InheritedFds fds = TRY(sys::take_inherited_fds());
  sys::UniqueFd file = TRY(fds.take("config"));
  const Bytes text = TRY(sys::read_all(file.get(), keeper_protocol::kConfigBytesMax));
  const keeper_protocol::Config config = TRY(keeper_protocol::decode_config(as_text(text)));
  return std::visit([&fds](const auto& mode) { return run_as(mode, fds); }, config);
}

}  // namespace

int main(int argc, char**) {
  if (argc > 1) {
    std::fputs("holdfast-keeper is started by holdfast-launcher and takes no arguments.\n", stderr);
    return 2;
  }
  Status done = run();
  if (done.ok()) return 0;
  std::fputs((sys::startup_error_line(done.error()) + "\n").c_str(), stderr);
  return 1;
}
