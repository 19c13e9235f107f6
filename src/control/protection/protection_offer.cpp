// The replica's side of a protection: taking an offer, giving it up.
#include <filesystem>

#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/consent.h"
#include "control/protection/protections.h"
#include "control/protection/recovery_rules.h"
#include "control/protection/replica_rules.h"
#include "control/store/catalog_inner.h"
#include "control/title/titles.h"
#include "control/vm/vm_operations.h"
#include "hypervisor/machine.h"
#include "hypervisor/qemu_command.h"
#include "vault/core/certificate.h"
#include "vault/core/wrap.h"
#include "vm/definition.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

// A doubled offer waits for the first one, which starts a keeper; a withdrawal waits for nobody
// for long: a failover, if it is one, waits for its asker.
constexpr Millis kOfferTurn = 20s;
constexpr Millis kWithdrawalTurn = 1s;
constexpr Millis kSourceLimit = 3s;

// Before anything is believed of it or done.
struct Offered {
  VmRow row;
  vm::Definition definition;
  vault::JournalCertificate certificate;
};

Result<Offered> read_offer(const Offer& offer, const PeerRow& from) {
  Offered offered{.row = {.id = offer.vm,
                          .epoch = offer.epoch,
                          .role = VmRole::kStandby,
                          .created = catalog_now()}};
  offered.definition = TRY(vm::parse_definition(offer.definition));
  if (offered.definition.name != offer.name) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "its definition is of a VM \"" + offered.definition.name + "\""};
  }
  offered.row.name = offered.definition.name;
  Bytes signer = TRY(from_hex(from.signing_key));
  crypto::PublicKey vault_key{};
  if (signer.size() != vault_key.size()) {
    return Error{.code = ErrorCode::kInternal, .cause = "a peer's signing key of the wrong length"};
  }
  std::memcpy(vault_key.data(), signer.data(), signer.size());
  offered.certificate = TRY(vault::verify_certificate(offer.certificate, vault_key));
  if (offered.certificate.vm != offer.vm || offered.certificate.site != from.site) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the journal's certificate is for another VM or site"};
  }
  // The vault takes a wrap of any paired site: one of a third site's is not this one's to pass on.
  const vault::ParsedWrap wrap = TRY(vault::parse_wrap(offer.wrap));
  if (wrap.facts.vm != offer.vm || wrap.facts.from != from.site) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "its key was wrapped by another site or for another VM"};
  }
  return offered;
}

ProtectionRow protection_of(const Offered& offered, const PeerRow& from) {
  return {.vm = offered.row.id,
          .peer = from.site,
          .direction = Direction::kIn,
          .journal_public_key = to_hex(offered.certificate.journal_public_key),
          .minted_at = from.site,
          .created = catalog_now()};
}

Asked asked(const Offered& offered, const PeerRow& from, const Services& services) {
  return {.vm = offered.row.id,
          .name = offered.row.name,
          .epoch = offered.row.epoch,
          .journal_public_key = to_hex(offered.certificate.journal_public_key),
          .from = from.site,
          .from_name = from.name,
          .here = services.site.name};
}

Error name_taken(const std::string& name, const std::string& here) {
  return {.code = ErrorCode::kExists,
          .cause = "site " + here + " has another VM \"" + name + "\" already",
          .effect = "the VM is not protected",
          .mend = "at site " + here + ": holdfast vm show " + name};
}

// What lies there belongs to nothing that the catalog knows: the only copy of the VM, it may be. It
// is not for an offer to take or, if that fails, to remove.
Status check_place(const Services& services, VmId vm) {
  const std::filesystem::path place =
      std::filesystem::path(services.paths.journal(vm)).parent_path();
  std::error_code none;
  const std::filesystem::file_status found = std::filesystem::symlink_status(place, none);
  if (found.type() == std::filesystem::file_type::not_found) return {};
  return Error{.code = ErrorCode::kExists,
               .cause = "site " + services.site.name + " has " + place.string() +
                        ", of a VM that its catalog does not know",
               .effect = "the VM is not protected, and nothing there was changed",
               .mend = "at site " + services.site.name +
                       ": look at it, and move it away if it is "
                       "not needed there: mv " +
                       place.string() + " ELSEWHERE"};
}

Status still_a_replica(const VmRow& row) {
  if (row.role == VmRole::kStandby) return {};
  return Error{.code = ErrorCode::kConflict,
               .cause = "VM \"" + row.name + "\" was taken over by this site meanwhile",
               .effect = "nothing was removed",
               .mend = "holdfast vm show " + row.name};
}

// What a failover of one that is here would need is looked for now.
Status check_platform(const vm::Definition& definition) {
  TRY(hypervisor::check_machine_type(definition.machine_type));
  TRY(hypervisor::require_firmware(hypervisor::firmware_kind(definition),
                                   definition.firmware.build));
  return {};
}

// One that is new here is checked as a create is. The paths that the other site has for its
// firmware mean nothing here: none of its choosing is ever opened.
Status admit(Offered& offered) {
  const hypervisor::Firmware firmware = TRY(check_new_vm(offered.row.id, offered.definition));
  offered.definition.firmware.code = firmware.code_path;
  offered.definition.firmware.vars_template = firmware.template_path;
  offered.row.definition = sys::to_text(to_json(offered.definition));
  return {};
}

// As whoever asked for the protection reads it, at the other site.
Error refused(const Offer& offer, Error error) {
  error.cause = "the offered VM \"" + offer.name + "\" is refused: " + error.cause;
  error.effect = "the VM is not protected";
  error.mend = "holdfast vm show " + offer.name + " at its own site; holdfast host show at both";
  return error;
}

}  // namespace

// The same again from the same source is taken as the same: its answer was lost, or its taking was
// cut off, and is finished now.
Result<Taken> Protections::take_offer(const Offer& offer, const PeerRow& from) {
  Result<Offered> read = read_offer(offer, from);
  if (!read.ok()) return refused(offer, std::move(read).error());
  Offered& offered = *read;
  const VmId vm = offer.vm;
  // Of a VM that is not the asker's business nobody has to wait for it.
  if (is_none_of(vm, from.site)) {
    TRY(judge_offer(asked(offered, from, services_), services_.catalog->vm(vm),
                    services_.catalog->protection(vm)));
  }
  std::optional<Turns::Turn> turn = turns_.take(vm, kOfferTurn);
  if (!turn) {
    return at_work(offered.row.name, services_.site.name, "whether it is a replica is not known");
  }
  Result<VmRow> known = services_.catalog->vm(vm);
  const OfferIs is =
      TRY(judge_offer(asked(offered, from, services_), known, services_.catalog->protection(vm)));
  if (Status may_be = is == OfferIs::kNew ? admit(offered) : check_platform(offered.definition);
      !may_be.ok()) {
    return refused(offer, std::move(may_be).error());
  }
  if (is == OfferIs::kNew) TRY(check_place(services_, vm));
  if (is == OfferIs::kNew && services_.catalog->vm_named(offered.row.name).ok())
    return name_taken(offered.row.name, services_.site.name);
  // Two offers at a time could each find room for itself.
  std::unique_lock one_at_a_time(consent_mutex_, std::defer_lock);
  if (is == OfferIs::kNew) {
    one_at_a_time.lock();
    TRY(check_consent(*services_.catalog, from.site,
                      {.vm = vm, .name = offered.row.name, .bytes = disk_bytes(offered.definition)},
                      services_.site.name, catalog_now()));
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
    if (!pace_.admit(from.site, Micros(static_cast<uint64_t>(us))))
      return too_fast(services_.site.name, from);
  }
  // The title begins with the VM's create, and says that the source holds it.
  Undo forget;
  forget.add([&] {
    if (is == OfferIs::kNew) static_cast<void>(services_.vault.delete_key(vm));
  });
  const auto theirs = [&](const vault::TitleView& view) { return holds(view, from.site); };
  const vault::TitleView title =
      TRY(services_.titles->learn_all(vm, from.site, offer.title, theirs, kSourceLimit, true));
  if (!holds(title, from.site)) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "site " + from.name + " offers VM \"" + offered.row.name +
                          "\", and its title says that site " +
                          peer_name(title.head->statement().holder) + " holds it",
                 .effect = "the VM is not protected",
                 .mend = "holdfast vm show " + offered.row.name + " at both sites"};
  }
  const vault::ImportOutcome outcome = TRY(services_.vault.import_wrap(vm, offer.wrap));
  forget.dismiss();
  Undo undo;
  undo.add([&] {
    if (is == OfferIs::kNew && outcome == vault::ImportOutcome::kStored)
      static_cast<void>(services_.vault.delete_key(vm));
  });
  // What is received is checked with the certified key, what is opened at failover with the
  // imported one: a difference must show now.
  const vault::KeyInfo imported = TRY(services_.vault.key_info(vm));
  if (imported.journal_public_key != offered.certificate.journal_public_key) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the offer certifies another journal key than the VM's key makes",
                 .effect = "the VM is not protected",
                 .mend = "see that both sites run the same version: holdfast site show"};
  }
  const ProtectionRow protection = protection_of(offered, from);
  if (is == OfferIs::kNew) {
    known = services_.catalog->add_replica(offered.row, protection);
    if (!known.ok() && known.error().code == ErrorCode::kExists)
      return name_taken(offered.row.name, services_.site.name);
    if (!known.ok()) return std::move(known).error();
    undo.add([&] {
      static_cast<void>(replicas_.stop(vm));
      const bool gone = services_.units->remove_vm(vm).ok();
      static_cast<void>(
          services_.catalog->remove_vm(vm, gone ? VmRemains::kNone : VmRemains::kSomething));
    });
  }
  if (one_at_a_time.owns_lock()) one_at_a_time.unlock();
  TRY(replicas_.create(*known, protection));
  room_.look();
  if (is == OfferIs::kSameLater)
    TRY(services_.catalog->change_role(*known, VmRole::kStandby, offer.epoch, known->note));
  undo.dismiss();
  log_info("this site protects VM " + offered.row.name + " of site " + from.name);
  if (is == OfferIs::kNew) {
    services_.happened("protection.replica-made", offered.row.name,
                       "this site holds a replica of it for site " + from.name, by_of(from));
  }
  return Taken{};
}

// Asked again, because the answer was lost, the answer is the same.
Result<Removed> Protections::withdraw(const Withdrawal& asked, const PeerRow& from) {
  const VmId vm = asked.vm;
  // Nor is said whether it is one.
  if (is_none_of(vm, from.site)) return gone_for(vm, from, asked);
  std::optional<Turns::Turn> turn = turns_.take(vm, kWithdrawalTurn);
  const Result<VmRow> row = services_.catalog->vm(vm);
  if (!turn)
    return at_work(row.ok() ? row->name : vm.hex(), services_.site.name, "nothing was removed");
  if (TRY(judge_withdrawal(vm, from, services_.site.name, row,
                           services_.catalog->protection(vm))) == WithdrawalIs::kDone) {
    return gone_for(vm, from, asked);
  }
  TRY(check_still_wanted(*row, from));
  Bytes resigned = TRY(resign(vm, from, asked));
  TRY(remove_replica(*row, "site " + from.name, by_of(from)));
  return Removed{.title = std::move(resigned)};
}

// There is a VM of that id, and it is none of that site's business.
bool Protections::is_none_of(VmId vm, SiteId site) {
  const Result<VmRow> row = services_.catalog->vm(vm);
  return row.ok() && !may_ask(*row, services_.catalog->protection(vm), site);
}

// No replica of that site's is here. The answer may have been lost that said so; to whom the VM
// never had to do with, it is what is said of one that does not exist.
Result<Removed> Protections::gone_for(VmId vm, const PeerRow& from, const Withdrawal& asked) {
  const Result<vault::TitleView> known = services_.vault.title(vm);
  if (!known.ok() || !ever_named(services_, vm, *known, from.site)) return Removed{};
  return Removed{.title = TRY(resign(vm, from, asked))};
}

// This site stands by no longer: what says so.
Result<Bytes> Protections::resign(VmId vm, const PeerRow& from, const Withdrawal& asked) {
  const auto as_asked = [&](const vault::TitleView& known) {
    return known.head->digest() == asked.head;
  };
  const vault::TitleView view =
      TRY(services_.titles->learn_all(vm, from.site, asked.title, as_asked, kSourceLimit));
  const title::Member* self = view.head->statement().members.find(services_.site.site_id);
  // It is the holder that may want this site to stand by no longer.
  if (self == nullptr || self->standing == title::Standing::kMember || !holds(view, from.site))
    return services_.titles->all(vm);
  // One that was on its way for long, and comes after the VM was protected here anew.
  if (view.head->digest() != asked.head) {
    return Error{.code = ErrorCode::kUnavailable,
                 .cause = "the title of the VM has gone on since this was asked",
                 .effect = "nothing was removed",
                 .mend = "it is asked again by itself: holdfast protection show at both sites"};
  }
  const Result<VmRow> row = services_.catalog->vm(vm);
  TRY(services_.titles->sign(row.ok() ? *row : VmRow{.id = vm, .name = vm.hex()},
                             {.kind = title::Kind::kResign}));
  return services_.titles->all(vm);
}

// What left the source before a failover here stopped it for good comes too late: this copy is the
// VM by then. With the turn, so that no failover begins between the answer and what follows.
Status Protections::check_still_wanted(const VmRow& row, const PeerRow& from) {
  Result<EpochAnswer> source = services_.peers->ask<EpochAnswer>(
      from.site, EpochQuestion{.vm = row.id, .epoch = row.epoch}, kSourceLimit);
  // It may have forgotten the protection meanwhile, by its operator's word.
  if (!source.ok() && source.error().code == ErrorCode::kNotFound) return {};
  if (!source.ok()) {
    return std::move(source)
        .error()
        .with_effect("nothing was removed")
        .with_mend("try again when the sites reach each other: holdfast site peers");
  }
  if (source->role == recovery::Role::kPrimary) return {};
  return Error{
      .code = ErrorCode::kConflict,
      .cause = "a failover of VM \"" + row.name + "\" to site " + services_.site.name +
               " was begun, and site " + from.name + " has stopped it for good",
      .effect = "nothing was removed",
      .mend = "at site " + services_.site.name + ": holdfast failover unplanned " + row.name};
}

// By this site's operator: only what its source does not protect any more, or cannot be asked
// about.
Result<sys::JsonObject> Protections::give_up_replica(const VmRow& row,
                                                     const ProtectionRow& protection,
                                                     const DisableOptions& options, const By& by) {
  const std::string source = peer_name(protection.peer);
  std::optional<Turns::Turn> turn = turns_.take(row.id, kWithdrawalTurn);
  if (!turn) return at_work(row.name, services_.site.name, "nothing was removed");
  const VmRow now = TRY(services_.catalog->vm(row.id));
  TRY(still_a_replica(now));
  Result<EpochAnswer> answer = services_.peers->ask<EpochAnswer>(
      protection.peer, EpochQuestion{.vm = row.id, .epoch = now.epoch}, kSourceLimit);
  Error error{.code = ErrorCode::kConflict, .effect = "nothing was removed"};
  if (answer.ok() && answer->role == recovery::Role::kPrimary) {
    error.cause =
        "VM \"" + row.name + "\" is protected by site " + source + "; this one holds the replica";
    error.mend = "at site " + source + ": holdfast protection disable " + row.name;
    return error;
  }
  if (answer.ok()) {
    error.cause = "a failover of VM \"" + row.name + "\" to this site was begun, and site " +
                  source + " has stopped it for good";
    error.mend = "holdfast failover unplanned " + row.name;
    return error;
  }
  const bool forgotten = answer.error().code == ErrorCode::kNotFound;
  if (!options.without_peer) {
    error.cause =
        forgotten ? "site " + source + " does not protect VM \"" + row.name +
                        "\" here any more; this replica may be the last copy of it"
                  : "site " + source + ", whose VM it is, cannot be asked: " + answer.error().cause;
    error.mend = "to end the protection, at site " + source + ": holdfast protection " +
                 (forgotten ? "enable " + row.name + " --to " + services_.site.name + ", then " +
                                  "disable it"
                            : "disable " + row.name) +
                 "; to remove this replica alone: holdfast protection disable " + row.name +
                 " --without-peer";
    return error;
  }
  TRY(remove_replica(now, options.actor + " --without-peer", by));
  return sys::JsonObject{{"vm", row.name}, {"protected", false}, {"replica_removed", true}};
}

// What may be removed as a replica.
Status Protections::not_held_here(const VmRow& row) {
  // Handed over to this site, and not carried to its end: it is no replica any more.
  const Result<vault::TitleView> title = services_.vault.title(row.id);
  if (title.ok() && holds(*title, services_.site.site_id)) {
    return Error{
        .code = ErrorCode::kConflict,
        .cause = "VM \"" + row.name + "\" was handed over to this site, which holds it now",
        .effect = "nothing was removed",
        .mend = "holdfast failover unplanned " + row.name + " carries that to its end"};
  }
  return {};
}

// Each step may be done again: one that was cut off is finished by the next try.
Status Protections::remove_replica(const VmRow& row, std::string_view actor, const By& by) {
  TRY(not_held_here(row));
  TRY(services_.catalog->audit(actor, "replica withdrawn", row.name, row.id.hex()));
  // Whoever holds the VM learns of it when it asks. It was said before, or there is nothing to say.
  static_cast<void>(services_.titles->sign(row, {.kind = title::Kind::kResign}));
  TRY(replicas_.stop(row.id));
  TRY(services_.units->remove_vm(row.id));
  Status deleted = services_.vault.delete_key(row.id);
  if (!deleted.ok() && deleted.error().code != ErrorCode::kNotFound)
    return std::move(deleted).error();
  TRY(services_.catalog->remove_vm(row.id, VmRemains::kNone));
  log_info("the replica of VM " + row.name + " was withdrawn by " + std::string(actor));
  services_.happened("protection.replica-removed", row.name, "the replica here was removed", by);
  return {};
}

}  // namespace hf::control
