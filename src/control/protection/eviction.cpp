// The end of a protection by this site's operator alone.
#include "control/core/log.h"
#include "control/protection/protections.h"
#include "control/protection/replica_rules.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr auto kEvictionTurn = 5s;

Error not_a_replica(const VmRow& row) {
  return {.code = ErrorCode::kConflict,
          .cause = "VM \"" + row.name + "\" is no replica here: its role is " +
                   std::string(to_string(row.role)),
          .effect = "nothing was removed",
          .mend = "holdfast replica list"};
}
}  // namespace

Result<sys::JsonObject> Protections::evict_replica(VmId vm, const std::string& actor,
                                                   Progress& progress) {
  const std::optional<Turns::Turn> turn = turns_.take(vm, kEvictionTurn);
  const VmRow row = TRY(services_.catalog->vm(vm));
  if (!turn) return at_work(row.name, services_.site.name, "nothing was removed");
  const Result<ProtectionRow> protection = services_.catalog->protection(vm);
  // One without a protection was left by an eviction that did not come to its end.
  if (row.role != VmRole::kStandby || (protection.ok() && protection->direction != Direction::kIn))
    return not_a_replica(row);
  progress.step("remove the replica and its key");
  TRY(not_held_here(row));
  // First of all: its source cannot have it started again.
  TRY(services_.catalog->remove_protection(vm));
  TRY(remove_replica(row, actor + ", by replica evict", progress.by()));
  return sys::JsonObject{{"vm", row.name}, {"vm_id", vm.hex()}, {"evicted", true}};
}

Result<sys::JsonObject> Protections::end_without_peer(VmId vm, const std::string& actor,
                                                      Progress& progress) {
  const VmRow row = TRY(services_.catalog->vm(vm));
  TRY(services_.catalog->audit(actor, "protection ended without the peer", row.name, vm.hex()));
  progress.step("end replication");
  Caretakers::Hold off(caretakers_, vm);
  end_stream(vm);
  TRY(services_.catalog->remove_protection(vm));
  if (services_.units->running(keeper_unit(vm))) {
    keeper_protocol::Client keeper(services_.paths.run_file(vm, "control.sock"));
    static_cast<void>(keeper.ask(keeper_protocol::Unprotect{}, 2s));
  }
  log_info("the protection of VM " + row.name + " was ended by " + actor);
  services_.happened("protection.disabled", row.name,
                     "is not protected any more: the trust in the other site has ended",
                     progress.by());
  return sys::JsonObject{{"vm", row.name}, {"vm_id", vm.hex()}, {"protected", false}};
}

}  // namespace hf::control
