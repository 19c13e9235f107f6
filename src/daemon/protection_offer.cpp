// The replica's side of a protection: taking an offer, giving it up.
#include <filesystem>

#include "daemon/catalog_inner.h"
#include "daemon/log.h"
#include "daemon/protections.h"
#include "daemon/vm_definition.h"
#include "hypervisor/firmware.h"
#include "hypervisor/qemu_command.h"
#include "vault/core/certificate.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

struct Offer {
  VmRow row;
  VmDefinition definition;
  Bytes wrap;
  vault::JournalCertificate certificate;
};

Result<Offer> read_offer(const sys::JsonObject& json, const PeerRow& from) {
  Offer offer;
  offer.row.id = TRY(VmId::parse_hex(TRY(sys::get_string(json, "vm"))));
  offer.row.epoch = Epoch(TRY(sys::get_u64(json, "epoch")));
  offer.row.definition = TRY(sys::get_string(json, "definition"));
  offer.definition = TRY(parse_definition(offer.row.definition));
  offer.row.name = offer.definition.name;
  offer.row.role = VmRole::kStandby;
  offer.row.created = catalog_now();
  offer.wrap = TRY(from_hex(TRY(sys::get_string(json, "wrap"))));
  Bytes signer = TRY(from_hex(from.signing_key));
  crypto::PublicKey vault_key{};
  if (signer.size() != vault_key.size()) {
    return Error{.code = ErrorCode::kInternal, .cause = "a peer's signing key of the wrong length"};
  }
  std::memcpy(vault_key.data(), signer.data(), signer.size());
  offer.certificate = TRY(vault::verify_certificate(
      TRY(from_hex(TRY(sys::get_string(json, "certificate")))), vault_key));
  if (offer.certificate.vm != offer.row.id || offer.certificate.site != from.site) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the journal's certificate is for another VM or site"};
  }
  return offer;
}

// What a failover would need is looked for now.
Status check_platform(const VmDefinition& definition) {
  TRY(hypervisor::check_machine_type(definition.machine_type));
  auto kind = definition.secure_boot ? hypervisor::FirmwareKind::kSecureBoot
                                     : hypervisor::FirmwareKind::kPlain;
  TRY(hypervisor::require_firmware(kind, TRY(Digest::parse_hex(definition.firmware.build))));
  return {};
}

}  // namespace

Result<sys::JsonObject> Protections::take_offer(const sys::JsonObject& json, const PeerRow& from) {
  Offer offer = TRY(read_offer(json, from));
  VmId vm = offer.row.id;
  TRY(check_platform(offer.definition));
  Undo undo;
  TRY(services_.catalog->add_vm(offer.row));
  undo.add([&] { static_cast<void>(services_.catalog->remove_vm(vm)); });
  vault::ImportOutcome outcome = TRY(services_.vault.import_wrap(vm, offer.wrap));
  undo.add([&] {
    if (outcome == vault::ImportOutcome::kStored) static_cast<void>(services_.vault.delete_key(vm));
  });
  // What is received is checked with the certified key, what is opened at failover with the
  // imported one: a difference must show now.
  const vault::KeyInfo imported = TRY(services_.vault.key_info(vm));
  if (imported.journal_public_key != offer.certificate.journal_public_key) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the offer certifies another journal key than the VM's key makes",
                 .effect = "the VM is not protected",
                 .mend = "see that both sites run the same version: holdfast site show"};
  }
  undo.add([&] {
    std::error_code ignored;
    std::filesystem::remove_all(services_.paths.replica(vm), ignored);
  });
  TRY(create_replica(services_, vm, offer.certificate.journal_public_key));
  TRY(services_.catalog->put_protection(
      {.vm = vm,
       .peer = from.site,
       .direction = Direction::kIn,
       .journal_public_key = to_hex(offer.certificate.journal_public_key),
       .minted_at = from.site,
       .created = catalog_now()}));
  undo.dismiss();
  desk_.reopen(vm);
  log_info("this site protects VM " + offer.row.name + " of site " + from.name);
  return sys::JsonObject{{"taken", true}};
}

Result<sys::JsonObject> Protections::withdraw(VmId vm, const PeerRow& from) {
  VmRow row = TRY(services_.catalog->vm(vm));
  ProtectionRow protection = TRY(services_.catalog->protection(vm));
  if (row.role != VmRole::kStandby || protection.direction != Direction::kIn ||
      protection.peer != from.site) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + row.name + "\" is not a replica of that site's here",
                 .effect = "nothing was removed",
                 .mend = "holdfast vm show " + row.name + " at both sites"};
  }
  TRY(desk_.close(vm, 10s));
  TRY(services_.catalog->audit("site " + from.name, "replica withdrawn", row.name, vm.hex()));
  std::error_code failed;
  std::filesystem::remove_all(services_.paths.replica(vm), failed);
  Status deleted = services_.vault.delete_key(vm);
  if (!deleted.ok() && deleted.error().code != ErrorCode::kNotFound)
    return std::move(deleted).error();
  TRY(services_.catalog->remove_vm(vm));
  log_info("the replica of VM " + row.name + " was withdrawn by site " + from.name);
  return sys::JsonObject{{"removed", true}};
}

}  // namespace hf::daemon
