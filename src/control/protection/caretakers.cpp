#include "control/protection/caretakers.h"

#include "control/core/log.h"
#include "control/host/keeper_units.h"
#include "control/vm/reconciler.h"
#include "keeper_protocol/client.h"
#include "keeper_protocol/config.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr auto kAskLimit = 2s;
constexpr auto kStopLimit = 10s;

}  // namespace

bool Caretakers::needed(const VmRow& row, SiteId peer) {
  if (row.role != VmRole::kActive || !connected_(peer)) return false;
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
  {
    std::lock_guard lock(mutex_);
    Care& care = cares_[vm];
    if (services_.units->running(unit)) {
      if (care.holds == 0) care.pid = services_.units->pid(unit);
      return true;
    }
    if (!turn.owns_lock() || care.holds > 0 || care.starting || care.level || !needed(row, peer))
      return false;
    const std::optional<UnitEnd> last = services_.units->ended(unit);
    if (last && last->will_restart) return false;
    if (care.failed && std::chrono::steady_clock::now() < care.failed_at + kTryAgain)
      return *care.failed;
    care.starting = true;
  }
  // Not under the mutex: the answer comes by the thread that on_unit() is called on.
  return started(vm, launch(row, protection));
}

// What the launcher said, and what became of it: an answer may be lost, and an end may come before
// the answer to the start.
Result<bool> Caretakers::started(VmId vm, Result<int64_t> pid) {
  const std::string unit = caretaker_unit(vm);
  std::lock_guard lock(mutex_);
  Care& care = cares_[vm];
  care.starting = false;
  no_start_.notify_all();
  if (services_.units->running(unit)) {
    // Who holds it off ends it now.
    if (care.holds > 0) return false;
    care.pid = services_.units->pid(unit);
    return true;
  }
  if (!pid.ok()) {
    care.failed = pid.error();
    care.failed_at = std::chrono::steady_clock::now();
    return std::move(pid).error();
  }
  const std::optional<UnitEnd> end = services_.units->ended(unit);
  if (care.holds > 0 || !end || end->will_restart) return false;
  note_end(vm, care, *end);
  if (care.failed) return *care.failed;
  return false;
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
  // One that was told to end says nothing by it.
  if (found == cares_.end() || found->second.pid != event.pid) return;
  note_end(
      vm, found->second,
      {.exit_status = event.exit_status, .signal = event.signal, .stderr_tail = event.stderr_tail});
}

// Under the mutex.
void Caretakers::note_end(VmId vm, Care& care, const UnitEnd& end) {
  care.pid = 0;
  care.level = end.exit_status == 0 && end.signal == 0;
  care.failed.reset();
  if (care.level) return;
  care.failed = error_of_end("the keeper that ships what the replica lacks", end);
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
    // As long as a call of the launcher may take: what is being started has to be ended.
    no_start_.wait(lock, [&care] { return !care.starting; });
    care.pid = 0;
    care.level = false;
    care.failed.reset();
  }
  const std::string unit = caretaker_unit(vm);
  const std::optional<UnitEnd> last = services_.units->ended(unit);
  const bool comes_back = last && last->will_restart;
  if (!services_.units->running(unit) && !comes_back) return;
  keeper_protocol::Client caretaker(services_.paths.run_file(vm, "control.sock"));
  const int64_t pid = services_.units->pid(unit);
  Result<keeper_protocol::Nothing> told = caretaker.ask(keeper_protocol::Stop{}, kAskLimit);
  if (told.ok() && services_.units->wait_over(unit, pid, kStopLimit)) return;
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
