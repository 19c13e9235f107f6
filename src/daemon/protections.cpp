#include "daemon/protections.h"

#include "daemon/catalog_inner.h"
#include "daemon/keeper_client.h"
#include "daemon/log.h"
#include "daemon/peer_service.h"
#include "daemon/vm_operations.h"

namespace hf::daemon {

using namespace std::chrono_literals;

Protections::Protections(Services& services) : services_(services), desk_(services) {}
Protections::~Protections() { stop(); }

void Protections::start() {
  Result<std::vector<ProtectionRow>> rows = services_.catalog->protections();
  if (!rows.ok()) return log_error(rows.error().describe());
  std::lock_guard lock(mutex_);
  for (const ProtectionRow& row : *rows) {
    if (row.direction == Direction::kOut) {
      streams_[row.vm] = std::make_shared<OutgoingStream>(services_, row.vm, row.peer);
    }
  }
}

void Protections::stop() {
  desk_.stop();
  std::map<VmId, std::shared_ptr<OutgoingStream>> streams;
  {
    std::lock_guard lock(mutex_);
    streams.swap(streams_);
  }
}

std::shared_ptr<OutgoingStream> Protections::stream(VmId vm) {
  std::lock_guard lock(mutex_);
  auto found = streams_.find(vm);
  return found == streams_.end() ? nullptr : found->second;
}

void Protections::vm_started(VmId vm) {
  if (auto outgoing = stream(vm)) outgoing->vm_started();
}

bool Protections::drain(VmId vm, std::chrono::milliseconds limit) {
  auto outgoing = stream(vm);
  return outgoing == nullptr || outgoing->drain(limit);
}

void Protections::superseded(VmId vm) {
  Result<VmRow> row = services_.catalog->vm(vm);
  if (!row.ok() || !services_.units->running(keeper_unit(vm))) return;
  Services& services = services_;
  Result<uint64_t> job =
      services_.jobs->submit("vm-superseded", row->name, [&services, vm](Progress& progress) {
        return stop_vm(services, vm, {.force = true}, progress);
      });
  if (!job.ok()) log_info("stopping superseded VM " + row->name + ": " + job.error().cause);
}

Result<sys::JsonObject> Protections::enable(const VmRow& row, const PeerRow& peer,
                                            Progress& progress) {
  if (row.role != VmRole::kActive) {
    return Error{
        .code = ErrorCode::kConflict,
        .cause = "VM \"" + row.name + "\" is " + std::string(to_string(row.role)) + " at this site",
        .effect = "it is not protected from here",
        .mend = "protect it at the site where it is active"};
  }
  if (Result<ProtectionRow> before = services_.catalog->protection(row.id); before.ok()) {
    return Error{.code = ErrorCode::kExists,
                 .cause = "VM \"" + row.name + "\" is protected already",
                 .effect = "nothing was changed",
                 .mend = "holdfast protection show " + row.name};
  }
  // Nothing may be merged away before the replica has it.
  std::string control = services_.paths.run_file(row.id, "control.sock");
  bool runs = services_.units->running(keeper_unit(row.id));
  if (runs) TRY(ask_keeper(control, {{"op", "pin"}, {"sequence", 0}}, 5s));
  Undo undo;
  undo.add([&] {
    if (runs) static_cast<void>(ask_keeper(control, {{"op", "unpin"}}, 5s));
  });
  progress.step("wrap the key for " + peer.name);
  vault::KeyInfo key = TRY(services_.vault.key_info(row.id));
  Bytes wrap = TRY(services_.vault.wrap_for(row.id, peer.site));
  progress.step("offer the VM to " + peer.name);
  TRY(services_.peers->call(peer.site,
                            {{"op", "offer"},
                             {"vm", row.id.hex()},
                             {"name", row.name},
                             {"definition", row.definition},
                             {"epoch", row.epoch.value},
                             {"wrap", to_hex(wrap)},
                             {"certificate", to_hex(key.certificate)}},
                            30s));
  TRY(services_.catalog->put_protection({.vm = row.id,
                                         .peer = peer.site,
                                         .direction = Direction::kOut,
                                         .journal_public_key = to_hex(key.journal_public_key),
                                         .minted_at = key.minted_at,
                                         .created = catalog_now()}));
  undo.dismiss();
  {
    std::lock_guard lock(mutex_);
    streams_[row.id] = std::make_shared<OutgoingStream>(services_, row.id, peer.site);
  }
  log_info("VM " + row.name + " is protected by site " + peer.name);
  return sys::JsonObject{{"vm", row.name}, {"peer", peer.name}, {"direction", "out"}};
}

Result<sys::JsonObject> Protections::disable(const VmRow& row, Progress& progress) {
  ProtectionRow protection = TRY(services_.catalog->protection(row.id));
  if (protection.direction == Direction::kIn) {
    return Error{
        .code = ErrorCode::kConflict,
        .cause = "VM \"" + row.name + "\" is protected by its own site; this one holds the replica",
        .effect = "nothing was changed",
        .mend = "holdfast protection disable " + row.name + " at its own site"};
  }
  progress.step("end replication");
  {
    std::shared_ptr<OutgoingStream> ending;
    std::lock_guard lock(mutex_);
    if (auto found = streams_.find(row.id); found != streams_.end()) {
      ending = std::move(found->second);
      streams_.erase(found);
    }
  }
  progress.step("ask the peer to remove its replica");
  Result<sys::JsonObject> withdrawn =
      services_.peers->call(protection.peer, {{"op", "withdraw"}, {"vm", row.id.hex()}}, 30s);
  TRY(services_.catalog->remove_protection(row.id));
  static_cast<void>(
      ask_keeper(services_.paths.run_file(row.id, "control.sock"), {{"op", "unpin"}}, 2s));
  sys::JsonObject result{
      {"vm", row.name}, {"protected", false}, {"replica_removed", withdrawn.ok()}};
  if (!withdrawn.ok()) {
    log_warning("the replica of " + row.name +
                " stays at its peer: " + withdrawn.error().describe());
    result["replica_error"] = sys::error_to_json(withdrawn.error());
  }
  return result;
}

namespace {

Result<sys::JsonObject> show_replica(Services& services, const ReplicaView& view) {
  static_cast<void>(services);
  sys::JsonObject show{{"state", view.connected ? "receiving" : "waiting"},
                       {"durable", view.durable.position.sequence.value},
                       {"durable_incarnation", view.durable.position.incarnation.hex()},
                       {"durable_time_us", view.durable_time.value},
                       {"home_durable", view.home_durable.value}};
  uint64_t behind = view.home_durable.value > view.durable.position.sequence.value
                        ? view.home_durable.value - view.durable.position.sequence.value
                        : 0;
  show["lag_records"] = behind;
  if (view.error) show["error"] = sys::error_to_json(*view.error);
  return show;
}

}  // namespace

Result<sys::JsonObject> Protections::show(const VmRow& row) {
  ProtectionRow protection = TRY(services_.catalog->protection(row.id));
  sys::JsonObject show;
  if (protection.direction == Direction::kIn) {
    show = TRY(show_replica(services_, desk_.view(row.id)));
  } else if (auto outgoing = stream(row.id)) {
    show = outgoing->show();
  }
  Result<PeerRow> peer = services_.catalog->peer(protection.peer);
  show["vm"] = row.name;
  show["vm_id"] = row.id.hex();
  show["epoch"] = row.epoch.value;
  show["direction"] = protection.direction == Direction::kOut ? "out" : "in";
  show["peer"] = peer.ok() ? peer->name : protection.peer.hex();
  return show;
}

Result<sys::JsonArray> Protections::show_all() {
  sys::JsonArray all;
  for (const ProtectionRow& protection : TRY(services_.catalog->protections())) {
    all.push_back(TRY(show(TRY(services_.catalog->vm(protection.vm)))));
  }
  return all;
}

}  // namespace hf::daemon
