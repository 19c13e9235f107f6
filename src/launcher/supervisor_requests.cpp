// What the daemon asks of the supervisor: checks, and carrying it out.
#include <algorithm>
#include <cstdio>
#include <utility>

#include "launcher/process/guest_filter.h"
#include "launcher/start_check.h"
#include "launcher/supervisor.h"
#include "launcher/tree/host_users.h"
#include "sys/bounded_io.h"

namespace hf::launcher {
namespace {

using std::chrono::milliseconds;

Error refuse(ErrorCode code, std::string cause) {
  return Error{.code = code,
               .cause = std::move(cause),
               .effect = "nothing was started",
               .mend = "holdfast vm show"};
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
    lose_daemon();  // it ends, or has lost its head: its exit tells
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
      auto pid = handle_start(*request->start, std::move(message->fds));
      if (pid.ok()) {
        reply.pid = *pid;
      } else {
        reply.error = pid.error();
      }
      break;
    }
    case Request::Verb::kStop:
      handle_stop(request->id, *request->stop);
      return;
    case Request::Verb::kFence:
      handle_fence(request->id, *request->fence);
      return;
    case Request::Verb::kStatus:
      tell_status(request->status.value_or(StatusRequest{}), reply);
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
  if (removals_.contains(request.vm)) {
    return refuse(ErrorCode::kConflict, "VM " + request.vm.hex() + " is being removed");
  }
  if (Bar bar = bar_of(request.vm); request.bar != bar) {
    Error stale =
        refuse(ErrorCode::kConflict,
               "VM " + request.vm.hex() + " was fenced after this start was decided (bar " +
                   std::to_string(request.bar.value) + ", now " + std::to_string(bar.value) + ")");
    return std::move(stale).with_mend("look whether the VM may still run here: holdfast vm show");
  }
  return check_start_request(request, fd_count, place());
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
    case Role::kLink:
      spec.user = spec.group = users.link();
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

Result<Unit> Supervisor::make_unit(const StartRequest& request, std::optional<QemuPlan> plan,
                                   std::vector<sys::UniqueFd> fds) {
  Unit unit;
  unit.name = request.unit;
  unit.role = request.kind == UnitKind::kKeeper ? Role::kKeeper : Role::kQemu;
  unit.vm = request.vm;
  unit.restart = request.restart;
  unit.backoff = Backoff(options_.restart_limits);
  ProcessSpec& spec = unit.spec;
  set_users(spec, unit.role, request.vm_number);
  std::vector<SocketSpec> sockets = request.sockets;
  bool host_network = false;
  if (plan) {
    spec.program = options_.programs.qemu;
    spec.argv = std::move(plan->argv);
    spec.argv.insert(spec.argv.begin() + 1, options_.programs.qemu_arguments.begin(),
                     options_.programs.qemu_arguments.end());
    sockets = std::move(plan->sockets);
    unit.directory = TRY(tree_.run_directory(request.vm));
    spec.directory = unit.directory.get();
    host_network = plan->host_network;
    spec.filter = TRY(guest_filter(host_network ? GuestNetwork::kUser : GuestNetwork::kNone));
  } else {
    spec.program = options_.programs.keeper;
    spec.argv = {"holdfast-keeper"};
    std::ranges::copy(options_.programs.keeper_arguments, std::back_inserter(spec.argv));
  }
  spec.empty_network = empty_network_ && !host_network;
  auto add = [&unit](const std::string& name, sys::UniqueFd fd) {
    unit.spec.fds.push_back({.name = name, .fd = fd.get()});
    unit.fds.push_back(std::move(fd));
  };
  for (const SocketSpec& socket : sockets) {
    auto listener = tree_.listen(request.vm, request.vm_number, socket);
    if (!listener.ok()) {
      unlink_sockets(unit);
      return listener.error();
    }
    add(socket.name, std::move(listener->fd));
    unit.sockets.push_back(
        {.spec = socket, .device = listener->file.device, .inode = listener->file.inode});
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
    return refuse(ErrorCode::kLimit, std::to_string(kUnitsMax) + " processes run already");
  }
  units_.erase(old);
  return {};
}

Result<int64_t> Supervisor::handle_start(const StartRequest& request,
                                         std::vector<sys::UniqueFd> fds) {
  TRY(check_start(request, fds.size()));
  std::optional<QemuPlan> plan;
  if (request.machine) plan = TRY(plan_qemu(request.vm, *request.machine, place()));
  // Nothing of the VM's was made so far.
  TRY(tree_.prepare_vm(request.vm, request.vm_number));
  units_.erase(request.unit);
  TRY(make_room());
  Unit unit = TRY(make_unit(request, std::move(plan), std::move(fds)));
  Status launched = bind_keeper(unit);
  if (launched.ok()) launched = launch(unit);
  if (!launched.ok()) {
    unlink_sockets(unit);
    return launched.error();
  }
  int64_t pid = unit.pid;
  units_.emplace(request.unit, std::move(unit));
  return pid;
}

// A page of it: what comes after what was told before, in the order of the names.
void Supervisor::tell_status(const StatusRequest& from, Reply& reply) const {
  reply.bar = first_bar_;
  if (from.after_unit.empty() && !from.after_vm) reply.weaknesses = weaknesses_;
  auto next = units_.upper_bound(from.after_unit);
  for (; next != units_.end() && reply.units.size() < kStatusPageMax; ++next) {
    const Unit& unit = next->second;
    reply.units.push_back(UnitStatus{.unit = next->first,
                                     .pid = unit.pid,
                                     .running = !unit.over(),
                                     .exit_status = unit.last_exit.status,
                                     .signal = unit.last_exit.signal,
                                     .restarts = unit.restarts});
  }
  auto bar = from.after_vm ? bars_.upper_bound(*from.after_vm) : bars_.begin();
  for (; bar != bars_.end() && reply.bars.size() < kStatusPageMax; ++bar) {
    reply.bars.emplace(bar->first.hex(), bar->second);
  }
  reply.more = next != units_.end() || bar != bars_.end();
}

// At the end of a round, when nobody holds on to a unit.
void Supervisor::forget_ended() {
  if (!std::exchange(some_ended_, false)) return;
  std::vector<std::pair<TimePoint, std::string>> ended;
  for (const auto& [name, unit] : units_) {
    if (unit.vm && unit.over()) ended.emplace_back(unit.ended_at, name);
  }
  if (ended.size() <= kEndedUnitsMax) return;
  std::ranges::sort(ended);
  ended.resize(ended.size() - kEndedUnitsMax);
  for (const auto& [at, name] : ended) units_.erase(name);
}

}  // namespace hf::launcher
