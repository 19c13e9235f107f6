// Ending a VM's processes: one on request, all of a VM by a fence.
#include <signal.h>

#include <algorithm>

#include "launcher/supervisor.h"

namespace hf::launcher {

using std::chrono::milliseconds;

void Supervisor::handle_stop(uint64_t id, const StopRequest& request) {
  Reply reply{.id = id};
  if (request.set_aside_vm) return set_aside(id, *request.set_aside_vm, request.aside);
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
    if (request.remove_vm) return begin_removal(*request.remove_vm, {id});
    answer(reply);
    return;
  }
  std::vector<uint64_t>& waiters =
      request.remove_vm ? at->second.remove_waiters : at->second.stop_waiters;
  waiters.push_back(id);
  begin_stop(at->second, request.signal, milliseconds(request.timeout_ms));
}

void Supervisor::set_aside(uint64_t id, VmId vm, const std::string& name) {
  Reply reply{.id = id};
  const bool runs = std::ranges::any_of(
      units_, [&](const auto& item) { return item.second.vm == vm && !item.second.over(); });
  if (runs || removals_.contains(vm)) {
    reply.error = Error{.code = ErrorCode::kConflict,
                        .cause = "processes of VM " + vm.hex() + " still run",
                        .effect = "nothing was set aside",
                        .mend = "holdfast vm stop --force"};
  } else if (Status moved = tree_.set_aside(vm, name); !moved.ok()) {
    reply.error = std::move(moved).error();
  }
  answer(reply);
}

// Nothing of the VM runs, and nothing starts until it is done. A second request waits with the
// first.
void Supervisor::begin_removal(VmId vm, std::vector<uint64_t> waiters) {
  auto [at, fresh] = removals_.try_emplace(vm);
  at->second.insert(at->second.end(), waiters.begin(), waiters.end());
  if (!fresh) return;
  remover_.begin(vm,
                 [this, vm](const std::atomic<bool>& stop) { return tree_.remove_vm(vm, stop); });
}

void Supervisor::end_removals() {
  for (TreeRemover::Done& done : remover_.take_done()) {
    auto at = removals_.find(done.vm);
    HF_ASSERT(at != removals_.end());
    const std::vector<uint64_t> waiters = std::move(at->second);
    removals_.erase(at);
    if (done.status.ok()) {
      std::erase_if(units_, [&](const auto& item) {
        return item.second.vm == done.vm && item.second.over();
      });
    }
    for (uint64_t id : waiters) {
      Reply reply{.id = id};
      if (!done.status.ok()) reply.error = done.status.error();
      answer(reply);
    }
  }
}

Bar Supervisor::bar_of(VmId vm) const {
  auto at = bars_.find(vm);
  return at != bars_.end() ? at->second : first_bar_;
}

bool Supervisor::fenced(const Unit& unit, const FenceRequest& fence) {
  return unit.vm == fence.vm && !unit.over() &&
         (fence.reach == FenceReach::kAll || unit.role == Role::kQemu);
}

// The bar first: whatever was decided before it starts no more, however long the rest takes.
void Supervisor::handle_fence(uint64_t id, const FenceRequest& request) {
  if (bars_.size() >= kBarsMax && !bars_.contains(request.vm)) {
    for (const auto& [vm, bar] : bars_) first_bar_ = std::max(first_bar_, bar);
    bars_.clear();
  }
  bars_[request.vm] = bar_of(request.vm).next();
  for (auto& [name, unit] : units_) {
    if (fenced(unit, request)) begin_stop(unit, SIGKILL, milliseconds(10'000));
  }
  fences_.emplace_back(id, request);
  answer_fences();
}

void Supervisor::answer_fences() {
  std::erase_if(fences_, [this](const auto& waiting) {
    const auto& [id, fence] = waiting;
    if (std::ranges::any_of(units_, [&](const auto& item) { return fenced(item.second, fence); }))
      return false;
    answer(Reply{.id = id, .bar = bar_of(fence.vm)});
    return true;
  });
}

}  // namespace hf::launcher
