#include "daemon/secure_boot_vm.h"

#include "daemon/boot_files.h"
#include "daemon/keeper_client.h"
#include "daemon/log.h"
#include "daemon/vm_definition.h"
#include "daemon/vm_operations.h"
#include "secure_boot/change/variables_json.h"
#include "secure_boot/preflight/vbs_readiness.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

constexpr auto kKeeperLimit = 10s;
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

// Ends the keeper that was started for a question, however the answer turned out.
class LoneKeeper {
 public:
  static Result<LoneKeeper> start(Services& services, const VmRow& row, Progress& progress) {
    TRY(check_may_start(services, row, {}));
    // One that outlived its QEMU: what follows must not meet its state.
    if (services.units->running(keeper_unit(row.id))) TRY(finish_vm(services, row));
    progress.step("start the VM's keeper");
    LoneKeeper keeper(services, row);
    TRY(start_keeper_alone(services, row));
    return keeper;
  }
  ~LoneKeeper() {
    if (services_ == nullptr) return;
    Status finished = finish_vm(*services_, row_);
    if (!finished.ok()) log_error(finished.error().describe());
  }
  LoneKeeper(LoneKeeper&& other) noexcept
      : services_(std::exchange(other.services_, nullptr)), row_(std::move(other.row_)) {}
  LoneKeeper& operator=(LoneKeeper&&) = delete;

 private:
  LoneKeeper(Services& services, VmRow row) : services_(&services), row_(std::move(row)) {}
  Services* services_;
  VmRow row_;
};

}  // namespace

Result<sys::JsonObject> ask_vm_keeper(Services& services, const VmRow& row,
                                      const sys::JsonObject& question, Progress& progress) {
  std::string socket = services.paths.run_file(row.id, "control.sock");
  if (services.units->running(qemu_unit(row.id))) return ask_keeper(socket, question, kKeeperLimit);
  LoneKeeper keeper = TRY(LoneKeeper::start(services, row, progress));
  return ask_keeper(socket, question, kKeeperLimit);
}

Result<secure_boot::SecureBootVariables> variables_of(const sys::JsonObject& keeper_answer) {
  return secure_boot::secure_boot_variables_from_json(
      *TRY(sys::get_object(keeper_answer, "variables")));
}

attestation::KeyVariables key_variables(const secure_boot::SecureBootVariables& variables) {
  attestation::KeyVariables all;
  auto add = [&all](std::string_view name, const std::optional<Bytes>& content) {
    if (content) all[std::string(name)] = *content;
  };
  add("PK", variables.pk);
  add("KEK", variables.kek);
  add("db", variables.db);
  add("dbx", variables.dbx);
  add("MokList", variables.mok);
  add("MokListX", variables.mokx);
  add("SbatLevel", variables.sbat_level);
  return all;
}

Result<std::vector<secure_boot::Change>> parse_changes(const sys::JsonArray& list) {
  if (list.empty() || list.size() > secure_boot::kChangesMax) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = std::to_string(list.size()) + " changes at once",
                 .effect = "nothing was changed",
                 .mend = "give 1 to 64"};
  }
  std::vector<secure_boot::Change> changes;
  for (const sys::JsonValue& item : list) {
    if (!item.is_object()) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "\"changes\" holds no objects"};
    }
    secure_boot::Change change = TRY(secure_boot::change_from_json(item.get_object()));
    TRY(secure_boot::check(change));
    changes.push_back(std::move(change));
  }
  return changes;
}

sys::JsonArray to_json(const std::vector<secure_boot::Change>& changes) {
  sys::JsonArray list;
  for (const secure_boot::Change& change : changes) list.push_back(secure_boot::to_json(change));
  return list;
}

Result<sys::JsonObject> show_secure_boot(Services& services, VmId vm, Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  sys::JsonObject answer = TRY(ask_vm_keeper(services, row, {{"op", "secure_boot"}}, progress));
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
  sys::JsonObject answer = TRY(ask_vm_keeper(
      services, row, {{"op", "secure_boot_edit"}, {"changes", to_json(changes)}}, progress));
  answer.erase("ok");
  answer["vm"] = row.name;
  return answer;
}

Result<sys::JsonObject> keep_secure_boot(Services& services, VmId vm, SavedStore what,
                                         const std::string& name, const std::string& actor,
                                         Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  std::string op = what == SavedStore::kSave      ? "secure_boot_save"
                   : what == SavedStore::kRestore ? "secure_boot_restore"
                                                  : "secure_boot_forget";
  if (what == SavedStore::kRestore) TRY(require_stopped(services, row));
  TRY(services.catalog->audit(actor, op, row.name, name));
  TRY(ask_vm_keeper(services, row, {{"op", op}, {"name", name}}, progress));
  return sys::JsonObject{{"vm", row.name}, {"name", name}};
}

Result<sys::JsonObject> check_boot(Services& services, VmId vm, Progress& progress) {
  VmRow row = TRY(services.catalog->vm(vm));
  VmDefinition definition = TRY(parse_definition(row.definition));
  const bool running = services.units->running(qemu_unit(row.id));
  std::optional<LoneKeeper> keeper;
  if (!running) keeper.emplace(TRY(LoneKeeper::start(services, row, progress)));
  progress.step("read what the disk boots");
  BootFiles found =
      TRY(read_boot_files(services.paths.run_file(row.id, "control.sock"), kDiskLimit));
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

}  // namespace hf::daemon
