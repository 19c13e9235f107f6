// What the daemon and the launcher say to each other: one JSON object a SEQPACKET message, with
// descriptors beside it (SCM_RIGHTS). Three verbs, answered by id, and two events.
//
//   {"id":n,"verb":"start",…}   → {"id":n,"ok":true,"pid":p}
//   {"id":n,"verb":"stop",…}    → {"id":n,"ok":true}, when the process is gone
//   {"id":n,"verb":"status"}    → {"id":n,"ok":true,"units":[…]}
//   refused                     → {"id":n,"ok":false,"error":{"code","cause","effect","mend"}}
//   {"event":"exited",…}, {"event":"started",…}
//
// A unit's descriptors are numbered from 3: its sockets in the order of the request, then the
// config (if any), then the passed ones. LISTEN_FDNAMES has their names, the config's is "config".
// QEMU does not read names: its command line refers to the numbers (fd_number()).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "launcher/site_config.h"
#include "sys/json.h"

namespace hf::launcher {

constexpr size_t kMessageBytesMax = size_t{128} << 10;
constexpr size_t kSocketsMax = 32;   // a unit
constexpr size_t kUnitNameMax = 80;  // [a-z0-9-]
constexpr size_t kUnitsMax = 1024;   // a launcher
constexpr size_t kStderrTailMax = size_t{8} << 10;

enum class UnitKind { kKeeper, kQemu };

// Who may connect. The launcher makes the socket with that owner.
enum class SocketAccess {
  kVm,  // the VM's keeper and QEMU (its group, mode 0660; 0600 with uid_base 0): disks, vars, tpm
  kDaemon,  // the daemon only (mode 0600): control, feed, qmp, console
};

enum class RestartPolicy {
  kNever,
  // At once after a crash or a failure; not after exit status 0, nor when the process said itself
  // why it cannot start (start_failure_line) and another try would not help.
  kAlways,
};

struct SocketSpec {
  std::string name;
  std::string path;  // relative to STATE; only run/vms/<vm>/<file> is accepted
  SocketAccess access = SocketAccess::kVm;
};

struct StartRequest {
  std::string unit;  // "keeper-<vm>", "qemu-<vm>", "import-<vm>": any free name
  UnitKind kind = UnitKind::kKeeper;
  VmId vm;
  uint32_t vm_number = 0;         // picks the users the VM's processes run as
  std::vector<std::string> argv;  // QEMU only; argv[0] must be qemu-system-x86_64
  std::vector<SocketSpec> sockets;
  std::optional<sys::JsonObject> config;
  std::vector<std::string> fd_names;  // of the descriptors attached to the message
  RestartPolicy restart = RestartPolicy::kNever;
  // QEMU with user networking needs the host's; a keeper never gets it.
  bool host_network = false;
  // "daemon/replicas/<vm>" or empty: renamed to vms/<vm>/journal and given to the keeper's user,
  // before the start. kExists if the VM has a journal already.
  std::string adopt_dir;
};

// The number the descriptor has in the started process.
constexpr int fd_number(size_t index) { return 3 + static_cast<int>(index); }

struct StopRequest {
  std::string unit;
  int signal = 15;              // 15 or 9
  uint64_t timeout_ms = 10000;  // then SIGKILL; at most 600 s
  // Also removes vms/<vm> and run/vms/<vm> afterwards: the VM is deleted. No unit of the VM may
  // run then. The unit itself need not exist.
  std::optional<VmId> remove_vm;
};

struct UnitStatus {
  std::string unit;
  int64_t pid = 0;
  bool running = false;
  int exit_status = 0;  // once exited by itself
  int signal = 0;       // or by this signal
  uint64_t restarts = 0;
};

struct Event {
  enum class Kind { kExited, kStarted } kind = Kind::kExited;
  std::string unit;
  int64_t pid = 0;
  int exit_status = 0;
  int signal = 0;
  bool will_restart = false;
  std::string stderr_tail;  // sys::find_start_failure() reads the reason out of it
};

struct Reply {
  uint64_t id = 0;
  std::optional<Error> error;
  int64_t pid = 0;
  std::vector<UnitStatus> units;
};

struct Request {
  enum class Verb { kStart, kStop, kStatus } verb = Verb::kStatus;
  uint64_t id = 0;
  StartRequest start;
  StopRequest stop;
};

// Decoding checks form and limits; what is allowed is for the supervisor to say.
std::string encode(const Request& request);
std::string encode(const Reply& reply);
std::string encode(const Event& event);
Result<Request> decode_request(std::string_view text);

// What the daemon receives: exactly one of the two.
struct FromLauncher {
  std::optional<Reply> reply;
  std::optional<Event> event;
};
Result<FromLauncher> decode_from_launcher(std::string_view text);

}  // namespace hf::launcher
