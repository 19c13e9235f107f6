#include "control/protection/caretakers.h"

#include "control/core/log.h"
#include "control/host/keeper_units.h"
#include "control/peers/peer_service.h"
#include "control/vm/reconciler.h"
#include "keeper_protocol/client.h"
#include "keeper_protocol/config.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr auto kAskLimit = 2s;
constexpr auto kStopLimit = 10s;
constexpr auto kLaunchLimit = 40s;  // above what two calls to the launcher take

}  // namespace

bool Caretakers::needed(const VmRow& row, SiteId peer) {
  if (row.role != VmRole::kActive || !services_.peers->connected(peer)) return false;
  Units& units = *services_.units;
  if (units.running(qemu_unit(row.id)) || units.running(keeper_unit(row.id))) return false;
  const std::optional<UnitEnd> keeper = units.ended(keeper_unit(row.id));
  return !keeper || !keeper->will_restart;
}

Result<bool> Caretakers::tend(VmId vm, SiteId peer) {
  const VmRow row = TRY(services_.catalog->vm(vm));
  const ProtectionRow protection = TRY(services_.catalog->protection(vm));
  const std::string unit = caretaker_unit(vm);
  // Who ends the VM now takes its key back first, and looks again afterwards.
  Reconciler::Turn turn = services_.reconciler->turn_to_finish(vm, 0ms);
  std::unique_lock lock(mutex_);
  const Care& care = cares_[vm];
  if (care.launching) return false;
  if (services_.units->running(unit)) {
    if (care.holds == 0) cares_[vm].pid = services_.units->pid(unit);
    return true;
  }
  if (!turn.owns_lock() || care.holds > 0 || care.level || !needed(row, peer)) return false;
  const std::optional<UnitEnd> last = services_.units->ended(unit);
  if (last && last->will_restart) return false;
  if (care.failed && std::chrono::steady_clock::now() < care.failed_at + kTryAgain)
    return *care.failed;
  cares_[vm].launching = true;
  cares_[vm].early.reset();
  lock.unlock();
  Result<int64_t> pid = launch(row, protection);
  lock.lock();
  // Looked up anew: who held it off longer than a launch takes has let it go.
  Care& launched = cares_[vm];
  launched.launching = false;
  launched_.notify_all();
  if (!pid.ok()) {
    launched.failed = pid.error();
    launched.failed_at = std::chrono::steady_clock::now();
    return std::move(pid).error();
  }
  launched.pid = *pid;
  if (launched.early && launched.early->pid == *pid) settle(vm, launched, *launched.early);
  return launched.pid != 0;
}

Result<int64_t> Caretakers::launch(const VmRow& row, const ProtectionRow& protection) {
  keeper_protocol::CaretakerConfig config{
      .vm = row.id,
      .site = services_.site.site_id,
      .epoch = row.epoch,
      .journal_dir = services_.paths.journal(row.id),
      .vault_socket = services_.paths.vault_keys(),
      .peer_site = protection.peer,
      .public_key = TRY(journal_key_of(protection.journal_public_key))};
  return services_.units->start(
      keyless_keeper_request(row, caretaker_unit(row.id), keeper_protocol::encode_config(config)),
      {});
}

void Caretakers::on_unit(VmId vm, const launcher::Event& event) {
  if (event.kind != launcher::Event::Kind::kExited || event.will_restart) return;
  std::lock_guard lock(mutex_);
  auto found = cares_.find(vm);
  if (found == cares_.end()) return;
  if (found->second.launching) {
    found->second.early = event;
    return;
  }
  // One that was told to end says nothing by it.
  if (found->second.pid == event.pid) settle(vm, found->second, event);
}

// Under the mutex.
void Caretakers::settle(VmId vm, Care& care, const launcher::Event& ended) {
  care.pid = 0;
  care.level = ended.exit_status == 0 && ended.signal == 0;
  care.failed.reset();
  if (care.level) return;
  care.failed = error_of_end(
      "the keeper that ships what the replica lacks",
      {.exit_status = ended.exit_status, .signal = ended.signal, .stderr_tail = ended.stderr_tail});
  care.failed_at = std::chrono::steady_clock::now();
  log_error("VM " + vm.hex() + ": " + care.failed->describe());
}

bool Caretakers::level(VmId vm) {
  std::lock_guard lock(mutex_);
  auto found = cares_.find(vm);
  return found != cares_.end() && found->second.level;
}

void Caretakers::hold_off(VmId vm) {
  {
    std::unique_lock lock(mutex_);
    Care& care = cares_[vm];
    care.holds += 1;
    launched_.wait_for(lock, kLaunchLimit,
                       [&] { return !care.launching; });  // it is held: it stays
    care.pid = 0;
    care.level = false;
    care.failed.reset();
  }
  const std::string unit = caretaker_unit(vm);
  const std::optional<UnitEnd> last = services_.units->ended(unit);
  const bool comes_back = last && last->will_restart;
  if (!services_.units->running(unit) && !comes_back) return;
  keeper_protocol::Client caretaker(services_.paths.run_file(vm, "control.sock"));
  Result<keeper_protocol::Nothing> told = caretaker.ask(keeper_protocol::Stop{}, kAskLimit);
  if (told.ok() && services_.units->wait_end(unit, kStopLimit).ok()) return;
  // It writes nothing that a kill could tear.
  Status killed = services_.units->stop(unit, 9, kStopLimit);
  if (!killed.ok()) log_error(killed.error().describe());
}

void Caretakers::let_on(VmId vm) {
  std::lock_guard lock(mutex_);
  auto found = cares_.find(vm);
  if (found == cares_.end() || --found->second.holds > 0) return;
  cares_.erase(found);
}

}  // namespace hf::control
