// VMs as the API shows them.
#include "control/attest/attestation.h"
#include "control/protection/protections.h"
#include "control/title/title_view.h"
#include "control/vm/unit_events.h"
#include "control/vm/vm_operations.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;

std::optional<Error> stall_of(const Services& services, VmId vm) {
  if (!services.unit_events) return std::nullopt;
  return services.unit_events->stall(vm);
}

std::string vm_state(Services& services, const VmRow& row) {
  if (services.units->running(qemu_unit(row.id)))
    return stall_of(services, row.id) ? "stalled" : "running";
  if (row.role == VmRole::kCreating)
    return services.units->running(import_unit(row.id)) ? "importing" : "creating";
  if (row.role == VmRole::kStandby) return "standby";
  if (row.role == VmRole::kSuperseded) return "superseded";
  return row.wanted_running ? "stopped (was running)" : "stopped";
}

Result<sys::JsonObject> vm_summary(Services& services, const VmRow& given) {
  VmRow row = TRY(services.catalog->vm(given.id));
  vm::Definition definition = TRY(vm::parse_definition(row.definition));
  const Result<ProtectionRow> protection = services.catalog->protection(row.id);
  const bool stands = protection.ok() && protection->state == ProtectionState::kStands;
  sys::JsonObject view{{"id", row.id.hex()},
                       {"name", row.name},
                       {"state", vm_state(services, row)},
                       {"role", to_string(row.role)},
                       {"epoch", row.epoch.value},
                       {"security_type", vm::security_type(definition)},
                       {"secure_boot", definition.secure_boot},
                       {"vtpm", definition.vtpm},
                       {"cpus", definition.cpus},
                       {"memory_mib", definition.memory_mib},
                       {"protected", stands},
                       {"created_us", row.created.value}};
  if (std::optional<attestation::Verdict> verdict = TRY(services.attestation->verdict_now(row))) {
    view["boot"] = attestation::name_of(*verdict);
  }
  if (view.at("state") == "stalled") {
    if (const std::optional<Error> why = stall_of(services, row.id))
      view["reason"] = sys::error_to_json(*why);
  }
  if (!row.note.empty()) view["note"] = row.note;
  if (const std::string other = services.protections->settlements().conflict(row.id);
      !other.empty()) {
    view["conflict"] = other;
  }
  return view;
}

Result<sys::JsonObject> vm_detail(Services& services, const VmRow& row) {
  sys::JsonObject view = TRY(vm_summary(services, row));
  vm::Definition definition = TRY(vm::parse_definition(row.definition));
  if (definition.vtpm) {
    sys::JsonArray banks;
    for (const vm::PcrBank bank : vm::pcr_banks(definition)) {
      banks.emplace_back(sys::json_word(bank));
    }
    view["pcr_banks"] = std::move(banks);
  }
  view["definition"] = to_json(definition);
  view["vm_number"] = row.number;
  view["keeper_pid"] = services.units->pid(keeper_unit(row.id));
  view["qemu_pid"] = services.units->pid(qemu_unit(row.id));
  if (services.units->running(keeper_unit(row.id))) {
    const keeper_protocol::Client client(services.paths.run_file(row.id, "control.sock"));
    Result<keeper_protocol::AnyStatus> keeper = client.ask(keeper_protocol::GetStatus{}, 2s);
    if (keeper.ok()) {
      view["keeper"] = keeper_protocol::encode_reply(*keeper);
    } else {
      view["keeper"] = sys::JsonObject{{"error", sys::error_to_json(keeper.error())}};
    }
  } else if (std::optional<UnitEnd> end = services.units->ended(keeper_unit(row.id));
             end && services.units->running(qemu_unit(row.id))) {
    view["keeper"] = sys::JsonObject{
        {"state", "ended"}, {"error", sys::error_to_json(error_of_end("the keeper", *end))}};
  }
  Result<sys::JsonObject> title = title_view(services, row);
  view["title"] = title.ok() ? sys::JsonValue(*title)
                             : sys::JsonValue{{"error", sys::error_to_json(title.error())}};
  Result<vault::KeyInfo> key = services.vault.key_info(row.id);
  if (key.ok()) {
    view["key"] = sys::JsonObject{
        {"id", key->key_id.hex()}, {"version", key->version.value}, {"released", key->released}};
  } else {
    view["key"] = sys::JsonObject{{"error", sys::error_to_json(key.error())}};
  }
  return view;
}

}  // namespace hf::control
