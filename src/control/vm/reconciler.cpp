#include "control/vm/reconciler.h"

#include <algorithm>
#include <utility>

#include "control/core/log.h"
#include "control/protection/recovery_rules.h"
#include "control/services.h"
#include "control/vm/vm_operations.h"

namespace hf::control {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {
constexpr auto kAgain = 250ms;  // while something is left to mend
}

void Reconciler::start() {
  thread_ = std::thread([this] { run(); });
}

void Reconciler::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Reconciler::Gate& Reconciler::gate(VmId vm) {
  std::lock_guard lock(mutex_);
  std::unique_ptr<Gate>& gate = gates_[vm];
  if (gate == nullptr) gate = std::make_unique<Gate>();
  return *gate;
}

Result<Reconciler::Pass> Reconciler::pass(const VmRow& started) {
  Pass pass(gate(started.id).passing);
  TRY(still_ours(started, TRY(services_.catalog->vm(started.id))));
  return pass;
}

Reconciler::Turn Reconciler::turn_to_finish(VmId vm, std::chrono::milliseconds limit) {
  return Turn(gate(vm).finishing, limit);
}

Status Reconciler::fence(VmId vm) {
  VmRow row = TRY(services_.catalog->vm(vm));
  if (row.role == VmRole::kActive) return {};
  Status killed;
  Status revoked;
  {
    // No start passes meanwhile, and those that come later see the role.
    Pass pass(gate(vm).passing);
    if (services_.units->running(qemu_unit(vm))) {
      log_warning("VM " + row.name + " is " + std::string(to_string(row.role)) +
                  " here: its guest is killed");
    }
    killed = services_.units->kill_guests(vm);
    revoked = services_.vault.revoke(vm);
  }
  wake();
  TRY(std::move(killed));
  return revoked;
}

void Reconciler::wake() {
  {
    std::lock_guard lock(mutex_);
    due_ = true;
  }
  changed_.notify_all();
}

void Reconciler::add(Chore chore) {
  {
    std::lock_guard lock(mutex_);
    std::erase_if(chores_, [&](const Chore& other) {
      return other.kind == chore.kind && other.vm == chore.vm;
    });
    chores_.push_back(std::move(chore));
  }
  wake();
}

void Reconciler::release_running() {
  {
    std::lock_guard lock(mutex_);
    vault_is_new_ = true;
  }
  wake();
}

void Reconciler::run() {
  Time again{};
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      auto woken = [this] { return stopping_ || due_; };
      if (again == Time::max()) {
        changed_.wait(lock, woken);
      } else {
        changed_.wait_until(lock, again, woken);
      }
      if (stopping_) return;
      due_ = false;
    }
    const bool certain = end_doubt();
    const bool fenced = fence_all();
    again = std::min(release_again(), do_chores());
    if (!certain || !fenced) again = std::min(again, Clock::now() + kAgain);
  }
}

// As long as it is not known what runs nothing can be made to agree.
bool Reconciler::end_doubt() {
  if (!services_.units->in_doubt()) return true;
  Status known = services_.units->refresh();
  if (!known.ok()) log_error("what runs here is not known: " + known.error().describe());
  return known.ok();
}

Reconciler::Time Reconciler::release_again() {
  bool all = false;
  {
    std::lock_guard lock(mutex_);
    all = std::exchange(vault_is_new_, false);
  }
  if (all) {
    Result<std::vector<VmRow>> rows = services_.catalog->vms();
    if (!rows.ok()) {
      log_error(rows.error().describe());
      std::lock_guard lock(mutex_);
      vault_is_new_ = true;
      return Clock::now() + kAgain;
    }
    for (const VmRow& row : *rows) unreleased_.insert(row.id);
    release_pace_.reset();
    release_at_ = {};
  }
  bool left = false;
  for (auto at = unreleased_.begin(); at != unreleased_.end() && release_at_ <= Clock::now();) {
    // Not waited for: whoever has it may wait for the launcher, and fences come first.
    Pass pass(gate(*at).passing, std::try_to_lock);
    if (!pass.owns_lock()) {
      left = true;
      ++at;
      continue;
    }
    Result<VmRow> row = services_.catalog->vm(*at);
    const bool runs =
        services_.units->running(keeper_unit(*at)) || services_.units->running(qemu_unit(*at));
    if (row.ok() && row->role == VmRole::kActive && runs) {
      if (Status released = services_.release_passing(*row); !released.ok()) {
        log_error(released.error().describe());
        release_at_ = Clock::now() + release_pace_.next();
        break;
      }
    }
    at = unreleased_.erase(at);
  }
  if (unreleased_.empty()) return Time::max();
  return std::max(release_at_, left ? Clock::now() + kAgain : Time{});
}

// All guests die before the first keeper is waited for.
bool Reconciler::fence_all() {
  Result<std::vector<VmRow>> rows = services_.catalog->vms();
  if (!rows.ok()) {
    log_error(rows.error().describe());
    return false;
  }
  bool done = true;
  auto log_failure = [&done](const Status& status) {
    if (status.ok()) return;
    log_error(status.error().describe());
    done = false;
  };
  std::vector<VmRow> left;
  for (const VmRow& row : *rows) {
    if (row.role == VmRole::kActive) continue;
    if (services_.units->running(qemu_unit(row.id))) {
      log_failure(fence(row.id));
      left.push_back(row);
    } else if (services_.units->running(keeper_unit(row.id))) {
      left.push_back(row);
    }
  }
  for (const VmRow& row : left) {
    // Whoever has the turn now ends it all, or lets the last records leave first.
    Turn turn = turn_to_finish(row.id, 0ms);
    if (turn.owns_lock()) {
      log_failure(finish_vm_in_turn(services_, row));
    } else {
      done = false;
    }
  }
  return done;
}

Reconciler::Time Reconciler::do_chores() {
  std::vector<Chore> chores;
  {
    std::lock_guard lock(mutex_);
    chores.swap(chores_);
  }
  std::vector<Chore> left;
  Time again = Time::max();
  for (Chore& chore : chores) {
    Result<VmRow> row = services_.catalog->vm(chore.vm);
    if (!row.ok() || !chore.needed()) continue;
    if (chore.not_before > Clock::now()) {
      again = std::min(again, chore.not_before);
    } else {
      if (services_.jobs->submit(chore.kind, row->name, chore.work, {.record = chore.record}).ok())
        continue;
      again = std::min(again, Clock::now() + kAgain);  // another job works on the VM
    }
    left.push_back(std::move(chore));
  }
  std::lock_guard lock(mutex_);
  for (Chore& chore : left) {
    // One that came meanwhile is newer.
    auto same = [&](const Chore& other) {
      return other.kind == chore.kind && other.vm == chore.vm;
    };
    if (std::ranges::none_of(chores_, same)) chores_.push_back(std::move(chore));
  }
  return again;
}

}  // namespace hf::control
