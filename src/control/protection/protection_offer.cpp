// The replica's side of a protection: taking an offer, giving it up.
#include "control/core/log.h"
#include "control/protection/protections.h"
#include "control/store/catalog_inner.h"
#include "control/vm/vm_operations.h"
#include "vault/core/certificate.h"
#include "vault/core/wrap.h"
#include "vm/definition.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

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
  vm::Definition& definition = offered.definition;
  if (definition.name != offer.name) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "its definition is of a VM \"" + definition.name + "\""};
  }
  // What a failover would need is looked for now. The paths that the other site has for this
  // firmware mean nothing here: none of its choosing is ever opened.
  const hypervisor::Firmware firmware = TRY(check_new_vm(offer.vm, definition));
  definition.firmware.code = firmware.code_path;
  definition.firmware.vars_template = firmware.template_path;
  offered.row.name = definition.name;
  offered.row.definition = sys::to_text(to_json(definition));
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

// As whoever asked for the protection reads it, at the other site.
Error refused(const Offer& offer, Error error) {
  error.cause = "the offered VM \"" + offer.name + "\" is refused: " + error.cause;
  error.effect = "the VM is not protected";
  error.mend = "holdfast vm show " + offer.name + " at its own site; holdfast host show at both";
  return error;
}

}  // namespace

Result<Taken> Protections::take_offer(const Offer& offer, const PeerRow& from) {
  Result<Offered> read = read_offer(offer, from);
  if (!read.ok()) return refused(offer, std::move(read).error());
  const Offered& offered = *read;
  VmId vm = offer.vm;
  Undo undo;
  VmRow row = TRY(services_.catalog->add_vm(offered.row));
  undo.add([&] { static_cast<void>(services_.catalog->remove_vm(vm)); });
  vault::ImportOutcome outcome = TRY(services_.vault.import_wrap(vm, offer.wrap));
  undo.add([&] {
    if (outcome == vault::ImportOutcome::kStored) static_cast<void>(services_.vault.delete_key(vm));
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
  ProtectionRow protection{.vm = vm,
                           .peer = from.site,
                           .direction = Direction::kIn,
                           .journal_public_key = to_hex(offered.certificate.journal_public_key),
                           .minted_at = from.site,
                           .created = catalog_now()};
  undo.add([&] {
    static_cast<void>(replicas_.stop(vm));
    static_cast<void>(services_.units->remove_vm(vm));
  });
  TRY(replicas_.create(row, protection));
  TRY(services_.catalog->put_protection(protection));
  undo.dismiss();
  log_info("this site protects VM " + row.name + " of site " + from.name);
  return Taken{};
}

Result<Removed> Protections::withdraw(VmId vm, const PeerRow& from) {
  VmRow row = TRY(services_.catalog->vm(vm));
  ProtectionRow protection = TRY(services_.catalog->protection(vm));
  if (row.role != VmRole::kStandby || protection.direction != Direction::kIn ||
      protection.peer != from.site) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" is not a replica of that site's here",
                 .effect = "nothing was removed",
                 .mend = "holdfast vm show " + row.name + " at both sites"};
  }
  TRY(services_.catalog->audit("site " + from.name, "replica withdrawn", row.name, vm.hex()));
  TRY(replicas_.stop(vm));
  TRY(services_.units->remove_vm(vm));
  Status deleted = services_.vault.delete_key(vm);
  if (!deleted.ok() && deleted.error().code != ErrorCode::kNotFound)
    return std::move(deleted).error();
  TRY(services_.catalog->remove_vm(vm));
  log_info("the replica of VM " + row.name + " was withdrawn by site " + from.name);
  return Removed{};
}

}  // namespace hf::control
