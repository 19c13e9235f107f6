// What the daemon asks to start, looked at as if a stranger asked: everything that reaches a
// process of a VM's is that VM's own, and no word of a command line comes from outside.
#pragma once

#include <string>
#include <vector>

#include "launcher/protocol/protocol.h"

namespace hf::launcher {

// What is true of this site, whatever a request says.
struct StartPlace {
  std::string state;  // absolute
  SiteId site;
  std::string firmware_root = "/usr/share/OVMF";
};

// Names of descriptors and sockets, their number, paths, the config.
Status check_start_request(const StartRequest& request, size_t fd_count, const StartPlace& place);

// Paths only of this VM, of the vault's socket and of the installed firmware's templates, and only
// in the members that are meant for them; VM and site are those of the request and of this site.
Status check_keeper_config(VmId vm, const sys::JsonObject& config, const StartPlace& place);

// QEMU's words, and the sockets that they name by number, in this order. kConflict, kNotFound: the
// firmware that the VM was made with is not installed.
struct QemuPlan {
  std::vector<std::string> argv;
  std::vector<SocketSpec> sockets;
  bool host_network = false;  // user networking is QEMU's own NAT, in the host's network
};
Result<QemuPlan> plan_qemu(VmId vm, const Machine& machine, const StartPlace& place);

}  // namespace hf::launcher
