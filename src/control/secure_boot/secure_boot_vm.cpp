#include "control/secure_boot/secure_boot_vm.h"

#include "control/core/log.h"
#include "control/host/boot_files.h"
#include "control/protection/protections.h"
#include "control/vm/unit_events.h"
#include "control/vm/vm_operations.h"
#include "secure_boot/change/variables_json.h"
#include "secure_boot/preflight/vbs_readiness.h"
#include "vm/definition.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr auto kDiskLimit = 60s;

Status require_stopped(Services& services, const VmRow& row) {
  if (!services.units->running(qemu_unit(row.id))) return {};
  return Error{.code = ErrorCode::kConflict,
               .cause = "VM \"" + row.name + "\" runs",
               .effect = "its Secure Boot keys were not changed",
               .mend = "holdfast secure-boot rollover " + row.name +
                       ", which reseals, stops and starts it, or with --in-guest does not stop it; "
                       "or holdfast vm stop " +
                       row.name};
}

// The disk of a guest that runs is read by its own keeper, beside it; one that does not stand
// cannot. Nobody else may in its place: the next one that stands takes the guest on where it waits.
Status stands(Services& services, const VmRow& row) {
  const std::optional<Error> why = services.unit_events->stall(row.id);
  if (!why) return {};
  return Error{.code = why->code,
               .cause = "VM \"" + row.name + "\" stands still: " + why->cause,
               .effect = "its disk is not read meanwhile",
               .mend = (why->mend.empty() ? "" : why->mend + "; or ") + "holdfast vm stop " +
                       row.name + " --force, then holdfast vm check " + row.name +
                       ": a stopped VM is read without any room"};
}

// By the keeper's end, or because none is there: one that comes up again and again reads between.
bool was_cut_off(const Error& error) {
  return error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kTimeout ||
         error.code == ErrorCode::kConflict;
}

// Ends the keeper that was started for a question, however the answer turned out.
class LoneKeeper {
 public:
  static Result<LoneKeeper> start(Services& services, const VmRow& row, Progress& progress,
                                  KeeperUse use) {
    // It has the key: a hand-over that begins meanwhile waits until it is gone.
    std::optional<Turns::Turn> turn = services.protections->turns().take(row.id, kStartTurn);
    if (!turn) return worked_on(row);
    TRY(check_may_start(services, row));
    // One that outlived its QEMU: what follows must not meet its state.
    if (services.units->running(keeper_unit(row.id))) TRY(finish_vm(services, row));
    progress.step("start the VM's keeper");
    LoneKeeper keeper(services, row, std::move(turn));
    TRY(start_keeper_alone(services, row, use));
    return keeper;
  }
  ~LoneKeeper() {
    if (services_ == nullptr) return;
    Status finished = finish_vm(*services_, row_);
    if (!finished.ok()) log_error(finished.error().describe());
  }
  LoneKeeper(LoneKeeper&& other) noexcept
      : services_(std::exchange(other.services_, nullptr)),
        row_(std::move(other.row_)),
        turn_(std::move(other.turn_)) {}
  LoneKeeper& operator=(LoneKeeper&&) = delete;

 private:
  LoneKeeper(Services& services, VmRow row, std::optional<Turns::Turn> turn)
      : services_(&services), row_(std::move(row)), turn_(std::move(turn)) {}
  Services* services_;
  VmRow row_;
  std::optional<Turns::Turn> turn_;  // given back when the keeper is gone
};

}  // namespace

Status with_vm_keeper(Services& services, const VmRow& row, Progress& progress,
                      const std::function<Status(const keeper_protocol::Client&)>& work,
                      KeeperUse use) {
  if (row.role == VmRole::kStandby) {
    const Result<ProtectionRow> protection = services.catalog->protection(row.id);
    const Result<PeerRow> home = protection.ok() ? services.catalog->peer(protection->peer)
                                                 : Result<PeerRow>(protection.error());
    return Error{
        .code = ErrorCode::kConflict,
        .cause = "this site holds a replica of VM \"" + row.name + "\", without the key to read it",
        .effect = "nothing was read or changed",
        .mend = "give the command at the site that the VM is run by" +
                (home.ok() ? ": " + home->name : std::string())};
  }
  const keeper_protocol::Client client(services.paths.run_file(row.id, "control.sock"));
  if (services.units->running(qemu_unit(row.id))) return work(client);
  LoneKeeper keeper = TRY(LoneKeeper::start(services, row, progress, use));
  return work(client);
}

Result<secure_boot::SecureBootVariables> variables_of(const sys::JsonObject& keeper_answer) {
  return secure_boot::secure_boot_variables_from_json(
      *TRY(sys::get_object(keeper_answer, "variables")));
}

Result<sys::JsonObject> show_secure_boot(Services& services, VmId vm, Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  sys::JsonObject answer =
      TRY(ask_vm_keeper(services, row, keeper_protocol::SecureBoot{}, progress, KeeperUse::kLook));
  secure_boot::SecureBootVariables variables = TRY(variables_of(answer));
  sys::JsonObject view = secure_boot::secure_boot_view(variables);
  view["state"] = secure_boot::to_json(variables);
  view["vm"] = row.name;
  if (const sys::JsonValue* saved = answer.if_contains("saved")) view["saved"] = *saved;
  return view;
}

Result<sys::JsonObject> edit_secure_boot(Services& services, VmId vm,
                                         const std::vector<secure_boot::Change>& changes,
                                         const std::string& actor, Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  TRY(require_stopped(services, row));
  for (const secure_boot::Change& change : changes) {
    TRY(services.catalog->audit(actor, "secure-boot edit", row.name, describe(change)));
  }
  keeper_protocol::SecureBootEdit edit;
  for (const secure_boot::Change& change : changes) {
    edit.changes.push_back({.variable = change.variable,
                            .action = std::string(secure_boot::name_of(change.action)),
                            .data = change.data});
  }
  sys::JsonObject answer = TRY(ask_vm_keeper(services, row, edit, progress));
  services.happened("secure-boot.edited", row.name,
                    std::to_string(changes.size()) +
                        " of its Secure Boot variables' values were "
                        "changed: holdfast secure-boot show " +
                        row.name,
                    progress.by());
  answer["vm"] = row.name;
  return answer;
}

Result<sys::JsonObject> keep_secure_boot(Services& services, VmId vm, SavedStore what,
                                         const std::string& name, const std::string& actor,
                                         Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  if (what == SavedStore::kRestore) TRY(require_stopped(services, row));
  const auto ask = [&]<typename Asked>(const Asked& question) -> Status {
    TRY(services.catalog->audit(actor, Asked::kOp, row.name, name));
    TRY(ask_vm_keeper(services, row, question, progress));
    return {};
  };
  const auto told = [&](std::string_view done) {
    services.happened("secure-boot.store", row.name,
                      "its variable store " + std::string(done) + " \"" + name + "\"",
                      progress.by());
  };
  switch (what) {
    case SavedStore::kSave:
      TRY(ask(keeper_protocol::SecureBootSave{.name = name}));
      told("was saved as");
      break;
    case SavedStore::kRestore:
      TRY(ask(keeper_protocol::SecureBootRestore{.name = name}));
      told("was restored from");
      break;
    case SavedStore::kForget:
      TRY(ask(keeper_protocol::SecureBootForget{.name = name}));
      break;
  }
  return sys::JsonObject{{"vm", row.name}, {"name", name}};
}

Result<sys::JsonObject> check_boot(Services& services, VmId vm, Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  vm::Definition definition = TRY(vm::parse_definition(row.definition));
  const bool running = services.units->running(qemu_unit(row.id));
  std::optional<LoneKeeper> keeper;
  if (!running) keeper.emplace(TRY(LoneKeeper::start(services, row, progress, KeeperUse::kLook)));
  progress.step("read what the disk boots");
  Result<BootFiles> read =
      read_boot_files(services.paths.run_file(row.id, "control.sock"), kDiskLimit);
  if (!read.ok() && running && was_cut_off(read.error())) TRY(stands(services, row));
  BootFiles found = TRY(std::move(read));
  secure_boot::VbsReadiness vbs = secure_boot::vbs_readiness({.secure_boot = definition.secure_boot,
                                                              .smm = definition.secure_boot,
                                                              .vtpm = definition.vtpm});
  sys::JsonObject report = std::move(found.report);
  report["vm"] = row.name;
  report["running"] = running;
  report["vbs"] = secure_boot::to_json(vbs);
  report["text"] = found.text + "VBS          " + vbs.summary + "\n";
  return report;
}

}  // namespace hf::control
