// What the daemon and the launcher say to each other: one JSON object a SEQPACKET message, with
// descriptors beside it (SCM_RIGHTS). Requests are answered by id; events come by themselves.
//
//   {"id":n,"verb":"start","start":{…}}   → {"reply":{"id":n,"pid":p}}
//   {"id":n,"verb":"stop","stop":{…}}     → {"reply":{"id":n}}, when the process is gone
//   {"id":n,"verb":"fence","fence":{…}}   → {"reply":{"id":n,"bar":b}}, when all of the VM is gone
//   {"id":n,"verb":"status","status":{…}} → {"reply":{"id":n,"units":[…],"bars":{…},…}}, a page
//   refused                               → {"reply":{"id":n,"error":{…}}}
//   {"event":{"kind":"exited",…}}, {"event":{"kind":"started",…}}, {"event":{"kind":"closing"}}
//
// The daemon says *what* it wants to run, never how: a keeper by its config, QEMU by the VM's
// definition. The launcher checks that again and makes the command line; a daemon that was taken
// over has no word in it.
//
// A keeper's descriptors are numbered from 3: its sockets in the order of the request, then the
// config (if any), then the passed ones. LISTEN_FDNAMES has their names, the config's is "config".
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "hypervisor/qemu_command.h"
#include "launcher/protocol/site_config.h"
#include "sys/typed_json.h"
#include "sys/unix_socket.h"
#include "vm/definition.h"

namespace hf::launcher {

constexpr size_t kMessageBytesMax = size_t{128} << 10;
constexpr size_t kSocketsMax = 32;      // a unit
constexpr size_t kUnitNameMax = 120;    // [a-z0-9-]
constexpr size_t kUnitsMax = 4096;      // a launcher
constexpr size_t kStatusPageMax = 256;  // units, and as many bars, in one answer
constexpr size_t kStderrTailMax = size_t{8} << 10;

// How often a VM was fenced, as the launcher counts: a start names the bar that it was decided
// under, and is refused once that is not the VM's any more. Never repeats while the host is up.
using Bar = StrongNumber<struct BarTag, uint64_t>;

enum class UnitKind { kKeeper, kQemu };
constexpr auto json_words(sys::JsonOf<UnitKind>) {
  return std::array{sys::JsonWord{"keeper", UnitKind::kKeeper},
                    sys::JsonWord{"qemu", UnitKind::kQemu}};
}

// Who may connect. The launcher makes the socket with that owner.
enum class SocketAccess {
  kVm,      // the VM's keeper and QEMU (its group, mode 0660; 0600 with uid_base 0)
  kDaemon,  // the daemon only (mode 0600)
};
constexpr auto json_words(sys::JsonOf<SocketAccess>) {
  return std::array{sys::JsonWord{"vm", SocketAccess::kVm},
                    sys::JsonWord{"daemon", SocketAccess::kDaemon}};
}

enum class RestartPolicy {
  kNever,
  // At once after a crash or a failure; not after exit status 0, nor when the process said itself
  // why it cannot start (start_failure_line) and another try would not help.
  kAlways,
};
constexpr auto json_words(sys::JsonOf<RestartPolicy>) {
  return std::array{sys::JsonWord{"never", RestartPolicy::kNever},
                    sys::JsonWord{"always", RestartPolicy::kAlways}};
}

struct SocketSpec {
  std::string name;
  std::string path;  // relative to STATE; only run/vms/<vm>/<file> is accepted
  SocketAccess access = SocketAccess::kVm;
};
constexpr auto json_members(sys::JsonOf<SocketSpec>) {
  return std::tuple(sys::json_member("name", &SocketSpec::name, {.length_max = 32}),
                    sys::json_member("path", &SocketSpec::path, {.length_max = 128}),
                    sys::json_member("access", &SocketSpec::access));
}

// What QEMU runs. Its sockets qmp.sock, console.sock and, if the definition has the port, qga.sock
// are made in run/vms/<vm>, for the daemon only.
struct Machine {
  vm::Definition definition;
  hypervisor::Accelerator accelerator = hypervisor::Accelerator::kTcg;
};
constexpr auto json_members(sys::JsonOf<Machine>) {
  return std::tuple(sys::json_member("definition", &Machine::definition),
                    sys::json_member("accelerator", &Machine::accelerator));
}

struct StartRequest {
  std::string unit;  // "keeper-<vm>", "qemu-<vm>", "import-<vm>": any free name
  UnitKind kind = UnitKind::kKeeper;
  VmId vm;
  uint32_t vm_number = 0;  // picks the users the VM's processes run as
  Bar bar;
  std::optional<Machine> machine;  // QEMU; it has nothing of what follows
  std::vector<SocketSpec> sockets;
  // Its paths have to be the VM's own (start_check.h).
  std::optional<sys::JsonObject> config;
  std::vector<std::string> fd_names;  // of the descriptors attached to the message
  RestartPolicy restart = RestartPolicy::kNever;
};
constexpr auto json_members(sys::JsonOf<StartRequest>) {
  return std::tuple(
      sys::json_member("unit", &StartRequest::unit, {.length_min = 1, .length_max = kUnitNameMax}),
      sys::json_member("kind", &StartRequest::kind), sys::json_member("vm", &StartRequest::vm),
      sys::json_member("vm_number", &StartRequest::vm_number, {.max = kVmNumberMax}),
      sys::json_member("bar", &StartRequest::bar),
      sys::json_member("machine", &StartRequest::machine),
      sys::json_member_or_default("sockets", &StartRequest::sockets, {.items_max = kSocketsMax}),
      sys::json_member("config", &StartRequest::config),
      sys::json_member_or_default("fd_names", &StartRequest::fd_names,
                                  {.length_max = 32, .items_max = sys::kPassedFdsMax}),
      sys::json_member_or_default("restart", &StartRequest::restart));
}
Status json_check(const StartRequest& request);

// The number the descriptor has in the started process.
constexpr int fd_number(size_t index) { return 3 + static_cast<int>(index); }

inline constexpr size_t kAsideNameMax = 64;

struct StopRequest {
  std::string unit;
  int signal = 15;              // 15 or 9
  uint64_t timeout_ms = 10000;  // then SIGKILL; at most 600 s
  // Also removes vms/<vm> and run/vms/<vm> afterwards: the VM is deleted. No unit of the VM may
  // run then. The unit itself need not exist.
  std::optional<VmId> remove_vm = std::nullopt;
  // Instead of it: moves vms/<vm>/journal to aside/<aside>, where it outlives the VM. Nothing runs
  // of the VM then. Once it was done, the same again does nothing.
  std::optional<VmId> set_aside_vm = std::nullopt;
  std::string aside = {};
};
constexpr auto json_members(sys::JsonOf<StopRequest>) {
  return std::tuple(
      sys::json_member("unit", &StopRequest::unit, {.length_min = 1, .length_max = kUnitNameMax}),
      sys::json_member_or_default("signal", &StopRequest::signal, {.max = 15}),
      sys::json_member_or_default("timeout_ms", &StopRequest::timeout_ms, {.max = 600'000}),
      sys::json_member("remove_vm", &StopRequest::remove_vm),
      sys::json_member("set_aside_vm", &StopRequest::set_aside_vm),
      sys::json_member_or_default("aside", &StopRequest::aside, {.length_max = kAsideNameMax}));
}
Status json_check(const StopRequest& request);

// What a fence kills. A keeper whose guest is dead may still ship what the guest wrote.
enum class FenceReach { kGuests, kAll };
constexpr auto json_words(sys::JsonOf<FenceReach>) {
  return std::array{sys::JsonWord{"guests", FenceReach::kGuests},
                    sys::JsonWord{"all", FenceReach::kAll}};
}

// The VM's guests, or all of its processes, are killed at once and its bar raised, so that nothing
// that was decided before starts afterwards. Answered when they are reaped; also when there were
// none.
struct FenceRequest {
  VmId vm;
  FenceReach reach = FenceReach::kAll;
};
constexpr auto json_members(sys::JsonOf<FenceRequest>) {
  return std::tuple(sys::json_member("vm", &FenceRequest::vm),
                    sys::json_member("reach", &FenceRequest::reach));
}

// Everything there is to say does not fit into one message: whoever asks goes on after the last
// unit and the last VM that it was told of, for as long as there is more.
struct StatusRequest {
  std::string after_unit;  // in the order of their names; empty: from the first
  std::optional<VmId> after_vm;
};
constexpr auto json_members(sys::JsonOf<StatusRequest>) {
  return std::tuple(sys::json_member_or_default("after_unit", &StatusRequest::after_unit,
                                                {.length_max = kUnitNameMax}),
                    sys::json_member("after_vm", &StatusRequest::after_vm));
}

struct UnitStatus {
  std::string unit;
  int64_t pid = 0;
  bool running = false;
  int exit_status = 0;  // once exited by itself; -1: not known
  int signal = 0;       // or by this signal
  uint64_t restarts = 0;
};
constexpr auto json_members(sys::JsonOf<UnitStatus>) {
  return std::tuple(sys::json_member("unit", &UnitStatus::unit, {.length_max = kUnitNameMax}),
                    sys::json_member("pid", &UnitStatus::pid),
                    sys::json_member("running", &UnitStatus::running),
                    sys::json_member("exit_status", &UnitStatus::exit_status, {.min = -1}),
                    sys::json_member("signal", &UnitStatus::signal),
                    sys::json_member("restarts", &UnitStatus::restarts));
}

struct Event {
  // kClosing: the site is stopped once no guest runs, or `limit_ms` from now; it is of no unit.
  enum class Kind { kExited, kStarted, kClosing } kind = Kind::kExited;
  std::string unit;
  int64_t pid = 0;
  int exit_status = 0;
  int signal = 0;
  bool will_restart = false;
  std::string stderr_tail;  // UTF-8; sys::find_start_failure() reads the reason out of it
  uint64_t limit_ms = 0;
};
constexpr auto json_words(sys::JsonOf<Event::Kind>) {
  return std::array{sys::JsonWord{"exited", Event::Kind::kExited},
                    sys::JsonWord{"started", Event::Kind::kStarted},
                    sys::JsonWord{"closing", Event::Kind::kClosing}};
}
constexpr auto json_members(sys::JsonOf<Event>) {
  return std::tuple(
      sys::json_member("kind", &Event::kind),
      sys::json_member_or_default("unit", &Event::unit, {.length_max = kUnitNameMax}),
      sys::json_member_or_default("pid", &Event::pid),
      sys::json_member_or_default("exit_status", &Event::exit_status, {.min = -1}),
      sys::json_member_or_default("signal", &Event::signal),
      sys::json_member_or_default("will_restart", &Event::will_restart),
      sys::json_member_or_default("stderr_tail", &Event::stderr_tail,
                                  {.length_max = kStderrTailMax, .text = sys::JsonText::kAny}),
      sys::json_member_or_default("limit_ms", &Event::limit_ms));
}

// What is missing on this host of what keeps processes apart; each a sentence.
using Weaknesses = std::vector<std::string>;

struct Reply {
  uint64_t id = 0;
  std::optional<Error> error;
  int64_t pid = 0;
  std::vector<UnitStatus> units;    // by name
  Bar bar;                          // fence: the VM's new one; status: of VMs never fenced
  std::map<std::string, Bar> bars;  // of the others, by the id's hex
  Weaknesses weaknesses;
  bool more = false;  // status: units or bars after these
};
constexpr auto json_members(sys::JsonOf<Reply>) {
  return std::tuple(
      sys::json_member("id", &Reply::id), sys::json_member("error", &Reply::error),
      sys::json_member_or_default("pid", &Reply::pid),
      sys::json_member_or_default("units", &Reply::units, {.items_max = kStatusPageMax}),
      sys::json_member_or_default("bar", &Reply::bar),
      sys::json_member_or_default("bars", &Reply::bars, {.items_max = kStatusPageMax}),
      sys::json_member_or_default("weaknesses", &Reply::weaknesses, {.items_max = 16}),
      sys::json_member_or_default("more", &Reply::more));
}

struct Request {
  enum class Verb { kStart, kStop, kFence, kStatus } verb = Verb::kStatus;
  uint64_t id = 0;
  std::optional<StartRequest> start;
  std::optional<StopRequest> stop;
  std::optional<FenceRequest> fence;
  std::optional<StatusRequest> status;  // left out: from the beginning
};
constexpr auto json_words(sys::JsonOf<Request::Verb>) {
  return std::array{sys::JsonWord{"start", Request::Verb::kStart},
                    sys::JsonWord{"stop", Request::Verb::kStop},
                    sys::JsonWord{"fence", Request::Verb::kFence},
                    sys::JsonWord{"status", Request::Verb::kStatus}};
}
constexpr auto json_members(sys::JsonOf<Request>) {
  return std::tuple(
      sys::json_member("verb", &Request::verb), sys::json_member("id", &Request::id),
      sys::json_member("start", &Request::start), sys::json_member("stop", &Request::stop),
      sys::json_member("fence", &Request::fence), sys::json_member("status", &Request::status));
}
// The verb's own part and no other.
Status json_check(const Request& request);

// Below what a socket takes as one message where nobody set anything (net.core.wmem_default).
constexpr size_t kAnswerBytesMax = size_t{192} << 10;
// What the daemon receives: exactly one of the two.
struct FromLauncher {
  std::optional<Reply> reply;
  std::optional<Event> event;
};
constexpr auto json_members(sys::JsonOf<FromLauncher>) {
  return std::tuple(sys::json_member("reply", &FromLauncher::reply),
                    sys::json_member("event", &FromLauncher::event));
}
Status json_check(const FromLauncher& message);

// Decoding checks form and limits; what is allowed is for the supervisor to say.
std::string encode(const Request& request);
std::string encode(const Reply& reply);
std::string encode(const Event& event);
Result<Request> decode_request(std::string_view text);
Result<FromLauncher> decode_from_launcher(std::string_view text);

// UTF-8, whatever the bytes are: what is none becomes '?'.
std::string readable(std::string_view bytes);

}  // namespace hf::launcher
