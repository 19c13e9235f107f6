// The source's side of a protection: beginning it, ending it. Both are by level: asked for again,
// what is there is taken as it is, and what a lost answer or a kill left undone is finished.
#include "control/core/log.h"
#include "control/lifecycle/effect_hook.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/protection/replica_rules.h"
#include "control/store/catalog_inner.h"
#include "control/title/titles.h"
#include "control/vm/reconciler.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;
using lifecycle::Act;
using lifecycle::Effect;

namespace {

constexpr Millis kPeerLimit = 30s;  // it starts a keeper, or ends one
constexpr Millis kReachLimit = 3s;
constexpr Millis kAskLimit = 3s;
constexpr Millis kSilenceLimit = 8s;
// A hand-over that is under way ends first.
constexpr Millis kTurnLimit = 20s;

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

// A replica that its site has not removed may be taken over there until it has.
Error stays_there(Error error, const VmRow& row, const std::string& peer) {
  error.effect = "replication has ended; site " + peer +
                 " still holds the replica, and may take the VM over until it is removed";
  error.mend = "it is removed by itself when site " + peer +
               " is back (holdfast site peers); if that site never comes back: "
               "holdfast protection "
               "disable " +
               row.name + " --without-peer";
  return error;
}

Error was_taken_over(const VmRow& row, const std::string& peer) {
  return {.code = ErrorCode::kConflict,
          .cause = "VM \"" + row.name + "\" was taken over at site " + peer + " under epoch " +
                   std::to_string(row.epoch.value),
          .effect = "nothing was removed, here or there",
          .mend = "holdfast vm delete " + row.name +
                  " removes what is left of it here, and nothing at the other site"};
}

}  // namespace

std::string Protections::peer_name(SiteId site) {
  if (site == services_.site.site_id) return services_.site.name;
  const Result<PeerRow> peer = services_.catalog->peer(site);
  return peer.ok() ? peer->name : site.hex();
}

// Handed over, it becomes the standby in a moment; taken over, what is left of it here is nobody's.
Error Protections::not_its_any_more(const VmRow& row, const std::string& peer) {
  const Result<vault::TitleView> view = services_.vault.title(row.id);
  Error error = was_taken_over(row, peer);
  if (!view.ok() || !view->head->statement().is_standby(services_.site.site_id)) return error;
  error.cause = "VM \"" + row.name + "\" was handed over to site " + peer +
                ", and this site stands by for it";
  error.mend = "at site " + peer + ": holdfast protection disable " + row.name;
  return error;
}

Error Protections::protected_elsewhere(const VmRow& row, const ProtectionRow& protection) {
  return {.code = ErrorCode::kExists,
          .cause = "VM \"" + row.name + "\" is protected by site " + peer_name(protection.peer) +
                   " already",
          .effect = "nothing was changed",
          .mend = "first: holdfast protection disable " + row.name};
}

Result<sys::JsonObject> Protections::enable(VmId vm, const PeerRow& peer, Progress& progress) {
  const std::optional<Turns::Turn> turn = turns_.take(vm, kTurnLimit);
  if (!turn) {
    return at_work(TRY(services_.catalog->vm(vm)).name, services_.site.name,
                   "its protection is as before");
  }
  const VmRow row = TRY(services_.catalog->vm(vm));
  const Result<ProtectionRow> before = services_.catalog->protection(vm);
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
  TRY(settlements_.none(row, "its protection is as before"));
  // From now on nothing is merged away that the replica has not.
  keeper_protocol::Client keeper(services_.paths.run_file(vm, "control.sock"));
  const bool runs = services_.units->running(keeper_unit(vm));
  if (runs) TRY(keeper.ask(keeper_protocol::Protect{.peer_site = peer.site}, 5s));
  const bool stood = before.ok() && before->state == ProtectionState::kStands;
  Undo undo;
  undo.add([&] {
    if (runs && !stood) static_cast<void>(keeper.ask(keeper_protocol::Unprotect{}, 5s));
  });
  progress.step("wrap the key for " + peer.name);
  const vault::KeyInfo key = TRY(services_.vault.key_info(vm));
  const Bytes wrap = TRY(services_.vault.wrap_for(vm, peer.site));
  ProtectionRow protection{.vm = vm,
                           .peer = peer.site,
                           .direction = Direction::kOut,
                           .journal_public_key = to_hex(key.journal_public_key),
                           .minted_at = key.minted_at,
                           .created = catalog_now(),
                           .state = ProtectionState::kOffered};
  if (!before.ok()) {
    // First here, then there: no site holds a replica that the VM's own knows nothing of.
    TRY(as_effect(services_.paths, vm, Act::kProtect, Effect::kStoreOffered,
                  [&] { return services_.catalog->put_protection(protection); }));
    undo.add([&] {
      static_cast<void>(as_effect(services_.paths, vm, Act::kProtect, Effect::kForgetProtection,
                                  [&] { return services_.catalog->remove_protection(vm); }));
    });
  }
  progress.step("offer the VM to " + peer.name);
  const Offer offer{.vm = vm,
                    .name = row.name,
                    .definition = row.definition,
                    .epoch = row.epoch,
                    .title = TRY(services_.titles->all(vm)),
                    .wrap = wrap,
                    .certificate = key.certificate};
  peer::Delivery delivery{.within = kReachLimit};
  Result<Taken> taken = as_effect(services_.paths, vm, Act::kProtect, Effect::kOffer, [&] {
    return services_.peers->ask<Taken>(peer.site, offer, kPeerLimit, &delivery);
  });
  if (!taken.ok() && maybe_done(taken.error(), delivery)) {
    undo.dismiss();
    return unanswered(std::move(taken).error(), row, peer, stood);
  }
  TRY(std::move(taken));
  // It has said that it takes the VM: from now on it is a member, and what is shipped makes it a
  // standby.
  if (Status member = make_member(row, peer); !member.ok()) {
    undo.dismiss();
    return unanswered(std::move(member).error(), row, peer, stood);
  }
  protection.state = ProtectionState::kStands;
  TRY(as_effect(services_.paths, vm, Act::kProtect, Effect::kStoreProtected,
                [&] { return services_.catalog->put_protection(protection); }));
  undo.dismiss();
  TRY(as_effect(services_.paths, vm, Act::kProtect, Effect::kStartStream, [&] {
    streams_.add(vm, peer.site);
    return Status();
  }));
  log_info("VM " + row.name + " is protected by site " + peer.name);
  services_.happened("protection.enabled", row.name,
                     std::string(stood ? "is still" : "is now") + " protected by site " + peer.name,
                     progress.by());
  return sys::JsonObject{{"vm", row.name}, {"peer", peer.name}, {"direction", "out"}};
}

Status Protections::make_member(const VmRow& row, const PeerRow& peer) {
  TitleKeeper::Exchanged asked =
      TRY(as_effect(services_.paths, row.id, Act::kProtect, Effect::kExchange,
                    [&] { return services_.titles->exchange(row.id, peer.site, kAskLimit); }));
  const title::Member* member = asked.view.head->statement().members.find(peer.site);
  if (member != nullptr && member->standing != title::Standing::kMember) return {};
  TRY(as_effect(services_.paths, row.id, Act::kProtect, Effect::kSign, [&] {
    return services_.titles->sign(row, {.kind = title::Kind::kProtect, .subject = peer.site});
  }));
  TRY(services_.titles->exchange(row.id, peer.site, kAskLimit));
  return {};
}

Result<sys::JsonObject> Protections::disable(VmId vm, const DisableOptions& options,
                                             Progress& progress) {
  std::optional<Turns::Turn> turn = turns_.take(vm, kTurnLimit);
  const VmRow row = TRY(services_.catalog->vm(vm));
  if (!turn) return at_work(row.name, services_.site.name, "its protection is as before");
  Result<ProtectionRow> known = services_.catalog->protection(vm);
  if (!known.ok() && known.error().code == ErrorCode::kNotFound) {
    if (options.without_peer) TRY(expel_others(row, options));
    return sys::JsonObject{{"vm", row.name}, {"protected", false}};
  }
  ProtectionRow protection = TRY(std::move(known));
  if (protection.direction == Direction::kIn) {
    if (row.role == VmRole::kStandby) {
      turn.reset();  // it takes its own
      return give_up_replica(row, protection, options, progress.by());
    }
    // Of before it was taken over: it means nothing any more.
    TRY(services_.catalog->remove_protection(vm));
    return sys::JsonObject{{"vm", row.name}, {"protected", false}};
  }
  const std::string peer = peer_name(protection.peer);
  TRY(settlements_.none(row, "its protection is as before"));
  // What the other site holds is the VM now, or may become it: it is not this site's to remove.
  if (row.role == VmRole::kSuperseded) return not_its_any_more(row, peer);
  progress.step("end replication");
  Caretakers::Hold off(caretakers_, vm);
  TRY(as_effect(services_.paths, vm, Act::kWithdraw, Effect::kEndStream, [&] {
    end_stream(vm);
    return Status();
  }));
  // First here, then there: what is asked of the other site is asked until it is done. Until then
  // it is still the site that may take the VM over, and that a start asks.
  protection.state = ProtectionState::kWithdrawing;
  TRY(as_effect(services_.paths, vm, Act::kWithdraw, Effect::kStoreWithdrawing,
                [&] { return services_.catalog->put_protection(protection); }));
  if (services_.units->running(keeper_unit(vm))) {
    keeper_protocol::Client keeper(services_.paths.run_file(vm, "control.sock"));
    static_cast<void>(keeper.ask(keeper_protocol::Unprotect{}, 2s));
  }
  progress.step("ask site " + peer + " to remove its replica");
  peer::Delivery delivery{.within = kReachLimit};
  const vault::TitleView title = TRY(services_.vault.title(vm));
  const Withdrawal withdrawal{
      .vm = vm, .title = TRY(services_.titles->all(vm)), .head = title.head->digest()};
  Result<Removed> removed =
      as_effect(services_.paths, vm, Act::kWithdraw, Effect::kAskWithdrawal, [&] {
        return services_.peers->ask<Removed>(protection.peer, withdrawal, kPeerLimit, &delivery);
      });
  if (removed.ok() && !removed->title.empty()) {
    const auto resigned = [&](const vault::TitleView& view) {
      return !view.head->statement().is_standby(protection.peer);
    };
    TRY(services_.titles->learn_all(vm, protection.peer, removed->title, resigned, kAskLimit));
  }
  if (!removed.ok()) {
    log_warning("the replica of " + row.name + " stays at site " + peer + ": " +
                removed.error().describe());
    // It may have been taken over there, which is for this site to learn.
    Result<TitleKeeper::Exchanged> answer =
        as_effect(services_.paths, vm, Act::kWithdraw, Effect::kExchange,
                  [&] { return services_.titles->exchange(vm, protection.peer, kAskLimit); });
    if (answer.ok()) {
      const VmRow now = TRY(services_.catalog->vm(vm));
      if (now.role == VmRole::kSuperseded) return not_its_any_more(now, peer);
    }
    if (answer.ok() || !options.without_peer) {
      streams_.add_withdrawal(vm, protection.peer);
      Error error = stays_there(std::move(removed).error(), row, peer);
      if (answer.ok()) {  // it is there, and has its reasons
        error.mend = "holdfast protection show " + row.name +
                     " says how it stands; it is asked again by itself";
        return error;
      }
      services_.happened("protection.disabled", row.name,
                         "its replication has ended; " + error.effect, progress.by(),
                         Severity::kWarning);
      return sys::JsonObject{{"vm", row.name},
                             {"protected", false},
                             {"replica_removed", false},
                             {"replica_error", sys::error_to_json(error)}};
    }
    TRY(services_.catalog->audit(options.actor, "protection disable --without-peer", row.name,
                                 vm.hex()));
    TRY(expel_others(row, options));
  }
  TRY(as_effect(services_.paths, vm, Act::kWithdraw, Effect::kForgetProtection,
                [&] { return services_.catalog->remove_protection(vm); }));
  services_.happened("protection.disabled", row.name,
                     "is not protected by site " + peer + " any more; its replica " +
                         (removed.ok() ? "is removed" : "stays there (--without-peer)"),
                     progress.by());
  return sys::JsonObject{{"vm", row.name}, {"protected", false}, {"replica_removed", removed.ok()}};
}

// Who stands by, and cannot be asked, does so no longer: on the operator's word that it never comes
// back with this state. Of a site that is not paired any more, too.
Status Protections::expel_others(const VmRow& row, const DisableOptions& options) {
  const vault::TitleView view = TRY(services_.vault.title(row.id));
  if (!holds(view, services_.site.site_id)) return {};
  for (const title::Member& member : view.head->statement().members.all()) {
    if (member.site == services_.site.site_id || member.standing == title::Standing::kMember)
      continue;
    TRY(as_effect(services_.paths, row.id, Act::kWithdraw, Effect::kAskMembers,
                  [&] { return services_.titles->ask_members(row.id, kAskLimit); }));
    const TitleKeeper::Act expel{
        .kind = title::Kind::kExpel, .subject = member.site, .word = options.word};
    TRY(as_effect(services_.paths, row.id, Act::kWithdraw, Effect::kSign,
                  [&] { return services_.titles->sign_within(row, expel, kSilenceLimit); }));
  }
  return {};
}

void Protections::withdraw_again(VmId vm) {
  auto needed = [this, vm] {
    const Result<VmRow> row = services_.catalog->vm(vm);
    const Result<ProtectionRow> protection = services_.catalog->protection(vm);
    return row.ok() && row->role == VmRole::kActive && protection.ok() &&
           protection->state == ProtectionState::kWithdrawing;
  };
  services_.reconciler->add({.kind = "protection-disable",
                             .vm = vm,
                             .needed = needed,
                             .work = [this, vm, needed](Progress& progress) {
                               if (!needed()) return Result<sys::JsonObject>(sys::JsonObject{});
                               return disable(vm, {.actor = "holdfastd"}, progress);
                             }});
}

}  // namespace hf::control
