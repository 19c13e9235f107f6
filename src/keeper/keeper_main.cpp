// holdfast-keeper: one VM's own process. Started by the launcher, which hands it everything: the
// configuration as descriptor "config", the sockets by name.

#include <cstdio>

#include "keeper/config.h"
#include "keeper/create.h"
#include "keeper/serve.h"
#include "sys/fd.h"
#include "sys/json.h"
#include "sys/process.h"

namespace {

using namespace hf;

constexpr size_t kConfigBytesMax = size_t{256} << 10;

Status run() {
  TRY(sys::harden_process());
  sys::InheritedFds fds = TRY(sys::take_inherited_fds());
  sys::UniqueFd file = TRY(fds.take("config"));
  const Bytes text = TRY(sys::read_all(file.get(), kConfigBytesMax));
  const keeper::Config config = TRY(keeper::parse_config(as_text(text)));
  vault::KeyClient vault({.socket_path = config.vault_socket});
  return config.mode == keeper::Mode::kCreate ? keeper::create_vm(config, fds, vault)
                                              : keeper::serve_vm(config, fds, vault);
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
