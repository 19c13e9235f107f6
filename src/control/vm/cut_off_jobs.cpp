#include "control/vm/cut_off_jobs.h"

#include "control/vm/vm_operations.h"

namespace hf::control {
namespace {

Became of_no_vm(const JobRow& job) {
  if (job.kind == "vm-create") {
    return {.effect = "the VM was not created; nothing of it is left",
            .mend = "give the command again"};
  }
  if (job.kind == "vm-delete") {
    return {.effect = "VM \"" + job.subject + "\" is deleted", .mend = "nothing is left to do"};
  }
  return {.effect = "there is no VM \"" + job.subject + "\" here any more",
          .mend = "holdfast vm list"};
}

// The command that comes to the same end from wherever the job was.
std::string again(const JobRow& job, const VmRow& row) {
  const std::string& name = row.name;
  if (job.kind == "failover") {
    return (row.role == VmRole::kActive ? "holdfast vm start " : "holdfast failover unplanned ") +
           name;
  }
  if (job.kind == "vm-start") return "holdfast vm start " + name;
  if (job.kind == "vm-stop") return "holdfast vm stop " + name;
  if (job.kind == "vm-delete") return "holdfast vm delete " + name;
  if (job.kind == "vm-create") return "holdfast vm show " + name;
  if (job.kind.starts_with("protection-")) return "holdfast protection show " + name;
  if (job.kind.starts_with("secure-boot-")) return "holdfast secure-boot show " + name;
  return "holdfast vm show " + name;
}

}  // namespace

Became what_became(Services& services, const JobRow& job) {
  if (job.subject == kTheSite)
    return {.effect = "guests that had not shut down yet run on", .mend = "holdfast site stop"};
  const Result<VmRow> row = services.catalog->vm_named(job.subject);
  if (!row.ok() && row.error().code == ErrorCode::kNotFound) return of_no_vm(job);
  if (!row.ok()) return {.effect = "what became of it is not known", .mend = "holdfast vm list"};
  const bool runs = services.units->running(qemu_unit(row->id));
  std::string effect = "VM \"" + row->name + "\" is now: " + vm_state(services, *row);
  const bool taken = job.kind == "failover" && row->role == VmRole::kActive;
  if (taken) effect += "; it is this site's, under epoch " + std::to_string(row->epoch.value);
  const bool reached =
      (runs && (job.kind == "vm-start" || taken)) || (!runs && job.kind == "vm-stop");
  if (reached) return {.effect = std::move(effect), .mend = "holdfast vm show " + row->name};
  return {.effect = std::move(effect), .mend = again(job, *row)};
}

}  // namespace hf::control
