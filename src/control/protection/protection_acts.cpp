// The source's side of a protection: beginning it, ending it. Both are by level: asked for again,
// what is there is taken as it is, and what a lost answer or a kill left undone is finished.
#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/store/catalog_inner.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr Millis kPeerLimit = 30s;  // it starts a keeper, or ends one

// Nobody knows what became of an offer that left and was not answered.
Error unanswered(Error error, const VmRow& row, const PeerRow& peer, bool stands) {
  error.effect = stands ? "the VM is protected as before"
                        : "whether site " + peer.name + " has made a replica of it is not known; " +
                              "the VM is not protected";
  error.mend = "the same again finds out and finishes it: holdfast protection enable " + row.name +
               " --to " + peer.name;
  return error;
}

bool maybe_done(const Error& error, const peer::Delivery& delivery) {
  return !delivery.unheard &&
         (error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kTimeout);
}

}  // namespace

std::string Protections::peer_name(SiteId site) {
  const Result<PeerRow> peer = services_.catalog->peer(site);
  return peer.ok() ? peer->name : site.hex();
}

Error Protections::protected_elsewhere(const VmRow& row, const ProtectionRow& protection) {
  return {.code = ErrorCode::kExists,
          .cause = "VM \"" + row.name + "\" is protected by site " + peer_name(protection.peer) +
                   " already",
          .effect = "nothing was changed",
          .mend = "first: holdfast protection disable " + row.name};
}

Result<sys::JsonObject> Protections::enable(VmId vm, const PeerRow& peer, Progress& progress) {
  const VmRow row = TRY(services_.catalog->vm(vm));
  const Result<ProtectionRow> before = services_.catalog->protection(row.id);
  if (!before.ok() && before.error().code != ErrorCode::kNotFound) return Error(before.error());
  if (row.role != VmRole::kActive) {
    return Error{
        .code = ErrorCode::kConflict,
        .cause = "VM \"" + row.name + "\" is " + std::string(to_string(row.role)) + " at this site",
        .effect = "it is not protected from here",
        .mend = "protect it where it is active: at site " +
                (before.ok() ? peer_name(before->peer) : std::string("PEER")) +
                ": holdfast vm show " + row.name};
  }
  if (before.ok() && before->peer != peer.site) return protected_elsewhere(row, *before);
  // From now on nothing is merged away that the replica has not.
  keeper_protocol::Client keeper(services_.paths.run_file(row.id, "control.sock"));
  bool runs = services_.units->running(keeper_unit(row.id));
  if (runs) TRY(keeper.ask(keeper_protocol::Protect{.peer_site = peer.site}, 5s));
  Undo undo;
  undo.add([&] {
    if (runs && !before.ok()) static_cast<void>(keeper.ask(keeper_protocol::Unprotect{}, 5s));
  });
  progress.step("wrap the key for " + peer.name);
  vault::KeyInfo key = TRY(services_.vault.key_info(row.id));
  Bytes wrap = TRY(services_.vault.wrap_for(row.id, peer.site));
  progress.step("offer the VM to " + peer.name);
  const Offer offer{.vm = row.id,
                    .name = row.name,
                    .definition = row.definition,
                    .epoch = row.epoch,
                    .wrap = wrap,
                    .certificate = key.certificate};
  peer::Delivery delivery;
  Result<Taken> taken = services_.peers->ask<Taken>(peer.site, offer, kPeerLimit, &delivery);
  if (!taken.ok() && maybe_done(taken.error(), delivery))
    return unanswered(std::move(taken).error(), row, peer, before.ok());
  TRY(std::move(taken));
  TRY(services_.catalog->put_protection({.vm = row.id,
                                         .peer = peer.site,
                                         .direction = Direction::kOut,
                                         .journal_public_key = to_hex(key.journal_public_key),
                                         .minted_at = key.minted_at,
                                         .created = catalog_now()}));
  undo.dismiss();
  streams_.add(row.id, peer.site);
  log_info("VM " + row.name + " is protected by site " + peer.name);
  return sys::JsonObject{{"vm", row.name}, {"peer", peer.name}, {"direction", "out"}};
}

Result<sys::JsonObject> Protections::disable(VmId vm, Progress& progress) {
  const VmRow row = TRY(services_.catalog->vm(vm));
  const Result<ProtectionRow> known = services_.catalog->protection(row.id);
  if (!known.ok() && known.error().code == ErrorCode::kNotFound)
    return sys::JsonObject{{"vm", row.name}, {"protected", false}};
  const ProtectionRow protection = TRY(known);
  if (protection.direction == Direction::kIn) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" is protected by site " +
                          peer_name(protection.peer) + "; this one holds the replica",
                 .effect = "nothing was changed",
                 .mend = "at site " + peer_name(protection.peer) +
                         ": holdfast protection disable " + row.name};
  }
  // What the other site holds is the VM now, or may become it: it is not this site's to remove.
  if (row.role == VmRole::kSuperseded) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" was taken over at the other site under epoch " +
                          std::to_string(row.epoch.value),
                 .effect = "nothing was changed, here or there",
                 .mend = "holdfast vm delete " + row.name +
                         " removes what is left of it here, and nothing at the other site"};
  }
  progress.step("end replication");
  Caretakers::Hold off(caretakers_, row.id);
  end_stream(row.id);
  progress.step("ask the peer to remove its replica");
  Result<Removed> withdrawn =
      services_.peers->ask<Removed>(protection.peer, Withdrawal{.vm = row.id}, kPeerLimit);
  TRY(services_.catalog->remove_protection(row.id));
  if (services_.units->running(keeper_unit(row.id))) {
    keeper_protocol::Client keeper(services_.paths.run_file(row.id, "control.sock"));
    static_cast<void>(keeper.ask(keeper_protocol::Unprotect{}, 2s));
  }
  sys::JsonObject result{
      {"vm", row.name}, {"protected", false}, {"replica_removed", withdrawn.ok()}};
  if (!withdrawn.ok()) {
    log_warning("the replica of " + row.name +
                " stays at its peer: " + withdrawn.error().describe());
    result["replica_error"] = sys::error_to_json(withdrawn.error());
  }
  return result;
}

}  // namespace hf::control
