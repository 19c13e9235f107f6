// What the daemon asks of the supervisor: checks, and carrying it out.
#include <algorithm>
#include <cstdio>

#include "launcher/host_users.h"
#include "launcher/supervisor.h"
#include "sys/bounded_io.h"

namespace hf::launcher {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kQemuName = "qemu-system-x86_64";
constexpr size_t kArgumentsMax = 512;

Error refuse(ErrorCode code, std::string cause) {
  return Error{.code = code,
               .cause = std::move(cause),
               .effect = "nothing was started",
               .mend = "holdfast vm show"};
}

bool plain_name(std::string_view name) {
  auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  return !name.empty() && name.size() <= 32 && std::ranges::all_of(name, allowed);
}

}  // namespace

void Supervisor::on_daemon_message() {
  auto message = sys::receive_message(daemon_socket_.get(), kMessageBytesMax, milliseconds(0));
  if (!message.ok()) {
    if (message.error().code == ErrorCode::kTimeout) return;
    std::fprintf(stderr, "holdfast-launcher: a request that cannot be read: %s\n",
                 message.error().describe().c_str());
    return;
  }
  if (message->data.empty()) {
    daemon_socket_.reset();  // the daemon ends, or has lost its head: its exit tells
    return;
  }
  auto request = decode_request(as_text(message->data));
  if (!request.ok()) {
    Reply reply{.error = request.error()};
    if (auto object = sys::parse_json_object(as_text(message->data)); object.ok()) {
      reply.id = sys::get_u64_or(*object, "id", 0).ok() ? *sys::get_u64_or(*object, "id", 0) : 0;
    }
    answer(reply);
    return;
  }
  if (!ready_) {
    ready_ = true;
    if (on_ready_) on_ready_();
  }
  Reply reply{.id = request->id};
  switch (request->verb) {
    case Request::Verb::kStart: {
      auto pid = handle_start(request->start, std::move(message->fds));
      if (pid.ok()) {
        reply.pid = *pid;
      } else {
        reply.error = pid.error();
      }
      break;
    }
    case Request::Verb::kStop:
      handle_stop(request->id, request->stop);
      return;
    case Request::Verb::kStatus:
      reply.units = status();
      break;
  }
  answer(reply);
}

Status Supervisor::check_start(const StartRequest& request, size_t fd_count) const {
  if (stage_ != Stage::kRunning) return refuse(ErrorCode::kUnavailable, "the site is stopping");
  auto at = units_.find(request.unit);
  if (at != units_.end() && !at->second.over()) {
    return refuse(ErrorCode::kConflict,
                  request.unit + " runs already (process " + std::to_string(at->second.pid) + ")");
  }
  if (request.unit == "vault" || request.unit == "daemon") {
    return refuse(ErrorCode::kInvalidArgument, "\"" + request.unit + "\" is the launcher's own");
  }
  if (request.fd_names.size() != fd_count) {
    return refuse(ErrorCode::kInvalidArgument, std::to_string(fd_count) + " descriptors for " +
                                                   std::to_string(request.fd_names.size()) +
                                                   " names");
  }
  std::vector<std::string> names = request.fd_names;
  for (const SocketSpec& socket : request.sockets) {
    names.push_back(socket.name);
    TRY(check_socket_path(request.vm, socket.path));
  }
  if (request.config) names.emplace_back("config");
  std::ranges::sort(names);
  if (!std::ranges::all_of(names, plain_name) || std::ranges::adjacent_find(names) != names.end()) {
    return refuse(ErrorCode::kInvalidArgument,
                  "descriptor names must be different, of a-z, 0-9, - and _");
  }
  if (!request.adopt_dir.empty()) TRY(check_adopt_path(request.vm, request.adopt_dir));
  if (request.kind == UnitKind::kQemu) {
    if (request.argv.empty() || request.argv[0] != kQemuName ||
        request.argv.size() > kArgumentsMax) {
      return refuse(ErrorCode::kPermission, "only qemu-system-x86_64 is started, not \"" +
                                                (request.argv.empty() ? "" : request.argv[0]) +
                                                "\"");
    }
  } else if (!request.argv.empty()) {
    return refuse(ErrorCode::kPermission, "a keeper takes no arguments");
  } else if (request.host_network) {
    return refuse(ErrorCode::kPermission, "a keeper has no network");
  }
  return {};
}

void Supervisor::set_users(ProcessSpec& spec, Role role, uint32_t vm_number) const {
  const Users& users = tree_.users();
  spec.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
                      "HOLDFAST_STATE=" + tree_.path(),
                      "HOLDFAST_DAEMON_UID=" + std::to_string(users.daemon())};
  spec.lock_memory = root_ && role != Role::kDaemon;
  if (users.uid_base == 0) return;
  spec.change_user = true;
  switch (role) {
    case Role::kVault:
      spec.user = spec.group = users.vault();
      break;
    case Role::kDaemon:
      spec.user = spec.group = users.daemon();
      spec.extra_group = device_group("/dev/kvm", "kvm");  // it finds out whether KVM works
      break;
    case Role::kKeeper:
      spec.user = spec.group = users.keeper(vm_number);
      break;
    case Role::kQemu:
      spec.user = users.qemu(vm_number);
      spec.group = users.keeper(vm_number);
      spec.extra_group = device_group("/dev/kvm", "kvm");
      break;
  }
}

Result<Unit> Supervisor::make_unit(const StartRequest& request, std::vector<sys::UniqueFd> fds) {
  Unit unit;
  unit.name = request.unit;
  unit.role = request.kind == UnitKind::kKeeper ? Role::kKeeper : Role::kQemu;
  unit.vm = request.vm;
  unit.restart = request.restart;
  unit.backoff = Backoff(options_.restart_limits);
  ProcessSpec& spec = unit.spec;
  set_users(spec, unit.role, request.vm_number);
  if (request.kind == UnitKind::kKeeper) {
    spec.program = options_.programs.keeper;
    spec.argv = {"holdfast-keeper"};
    std::ranges::copy(options_.programs.keeper_arguments, std::back_inserter(spec.argv));
  } else {
    spec.program = options_.programs.qemu;
    spec.argv = request.argv;
  }
  spec.empty_network = empty_network_ && !request.host_network;
  auto add = [&unit](const std::string& name, sys::UniqueFd fd) {
    unit.spec.fds.push_back({.name = name, .fd = fd.get()});
    unit.fds.push_back(std::move(fd));
  };
  for (const SocketSpec& socket : request.sockets) {
    add(socket.name, TRY(tree_.listen(request.vm, request.vm_number, socket)));
    unit.sockets.push_back(socket);
  }
  if (request.config) {
    std::string text = sys::to_text(*request.config);
    add("config", TRY(sys::sealed_memfd("config", as_bytes(text))));
  }
  for (size_t i = 0; i < fds.size(); ++i) add(request.fd_names[i], std::move(fds[i]));
  return unit;
}

Status Supervisor::make_room() {
  if (units_.size() < kUnitsMax) return {};
  auto old = std::ranges::find_if(units_, [](const auto& item) { return item.second.over(); });
  if (old == units_.end()) {
    return refuse(ErrorCode::kLimit, "1024 processes run already");
  }
  units_.erase(old);
  return {};
}

Result<int64_t> Supervisor::handle_start(const StartRequest& request,
                                         std::vector<sys::UniqueFd> fds) {
  TRY(check_start(request, fds.size()));
  TRY(tree_.prepare_vm(request.vm, request.vm_number));
  units_.erase(request.unit);
  TRY(make_room());
  Unit unit = TRY(make_unit(request, std::move(fds)));
  Status launched;
  if (!request.adopt_dir.empty()) {
    launched = tree_.adopt(request.vm, request.vm_number, request.adopt_dir);
  }
  if (launched.ok()) launched = launch(unit);
  if (!launched.ok()) {
    for (const SocketSpec& socket : unit.sockets) tree_.unlink_socket(request.vm, socket);
    return launched.error();
  }
  int64_t pid = unit.pid;
  units_.emplace(request.unit, std::move(unit));
  return pid;
}

void Supervisor::handle_stop(uint64_t id, const StopRequest& request) {
  Reply reply{.id = id};
  auto at = units_.find(request.unit);
  bool known = at != units_.end() && at->second.vm.has_value();
  if (!known && !request.remove_vm) {
    reply.error = Error{.code = ErrorCode::kNotFound,
                        .cause = "there is no process named " + request.unit,
                        .effect = "nothing was stopped",
                        .mend = "holdfast vm list"};
    answer(reply);
    return;
  }
  bool running = known && !at->second.over();
  if (request.remove_vm) {
    bool own = running && at->second.vm == request.remove_vm;
    bool others = std::ranges::any_of(units_, [&](const auto& item) {
      return item.second.vm == request.remove_vm && !item.second.over() &&
             item.first != request.unit;
    });
    if (others || (running && !own)) {
      reply.error = Error{.code = ErrorCode::kConflict,
                          .cause = "processes of VM " + request.remove_vm->hex() + " still run",
                          .effect = "nothing was removed",
                          .mend = "holdfast vm stop --force"};
      answer(reply);
      return;
    }
  }
  if (!running) {
    if (request.remove_vm) {
      Status removed = tree_.remove_vm(*request.remove_vm);
      if (!removed.ok()) reply.error = removed.error();
    }
    answer(reply);
    return;
  }
  at->second.stop_waiters.push_back(id);
  if (request.remove_vm) at->second.remove_vm = request.remove_vm;
  begin_stop(at->second, request.signal, milliseconds(request.timeout_ms));
}

std::vector<UnitStatus> Supervisor::status() const {
  std::vector<UnitStatus> units;
  units.reserve(units_.size());
  for (const auto& [name, unit] : units_) {
    units.push_back(UnitStatus{.unit = name,
                               .pid = unit.pid,
                               .running = !unit.over(),
                               .exit_status = unit.last_exit.status,
                               .signal = unit.last_exit.signal,
                               .restarts = unit.restarts});
  }
  return units;
}

}  // namespace hf::launcher
