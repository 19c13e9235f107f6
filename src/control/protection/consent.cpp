#include "control/protection/consent.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace hf::control {
namespace {

constexpr std::string_view kNotProtected = "the VM is not protected";

Error takes_none(const std::string& here, const PeerRow& from) {
  return {.code = ErrorCode::kPermission,
          .cause = "site " + here + " takes no replicas of site " + from.name,
          .effect = std::string(kNotProtected),
          .mend = "at site " + here + ": holdfast site peer set " + from.name + " --accept ask"};
}

Error over_quota(const std::string& here, const PeerRow& from, const Wish& wish, uint64_t used) {
  return {
      .code = ErrorCode::kLimit,
      .cause = fmt::format("site {} keeps {} of disks for site {} at most: {} are there, and VM "
                           "\"{}\" has {}",
                           here, size_text(from.quota_bytes), from.name, size_text(used), wish.name,
                           size_text(wish.bytes)),
      .effect = std::string(kNotProtected),
      .mend = "at site " + here + ": holdfast site peer set " + from.name +
              " --quota SIZE, or remove what is not needed: holdfast replica list"};
}

Error too_many_wait(const std::string& here, const PeerRow& from) {
  return {.code = ErrorCode::kLimit,
          .cause = fmt::format("{} offers of site {} wait at site {} already", kOffersMax,
                               from.name, here),
          .effect = std::string(kNotProtected),
          .mend = "at site " + here + ": holdfast replica list, then accept or evict them"};
}

Error waits(const std::string& here, const Wish& wish) {
  return {.code = ErrorCode::kPermission,
          .cause = "site " + here + " takes a replica of VM \"" + wish.name +
                   "\" when its operator agrees",
          .effect = std::string(kNotProtected) + " yet; the offer waits there",
          .mend = "at site " + here + ": holdfast replica accept " + wish.name +
                  "; then the same command here again"};
}

}  // namespace

uint64_t disk_bytes(const vm::Definition& definition) {
  uint64_t bytes = 0;  // at most kDisksMax of kDiskBytesMax
  for (const vm::Disk& disk : definition.disks) bytes += disk.size_bytes;
  return bytes;
}

Result<uint64_t> replica_bytes(Catalog& catalog, const SiteId& site) {
  uint64_t bytes = 0;
  for (const ProtectionRow& protection : TRY(catalog.protections())) {
    if (protection.peer != site || protection.direction != Direction::kIn) continue;
    const VmRow row = TRY(catalog.vm(protection.vm));
    const Result<vm::Definition> definition = vm::parse_definition(row.definition);
    if (definition.ok()) bytes += disk_bytes(*definition);
  }
  return bytes;
}

std::string size_text(uint64_t bytes) {
  constexpr std::array<std::string_view, 6> kUnits = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  auto size = static_cast<double>(bytes);
  for (; size >= 1024 && unit + 1 < kUnits.size(); ++unit) size /= 1024;
  const bool whole = size == static_cast<double>(static_cast<uint64_t>(size));
  return fmt::format("{:.{}f} {}", size, whole ? 0 : 1, kUnits.at(unit));
}

Status check_consent(Catalog& catalog, const SiteId& from, const Wish& wish,
                     const std::string& here, Micros now) {
  const PeerRow peer = TRY(catalog.peer(from));
  if (peer.accept == Accept::kNo) return takes_none(here, peer);
  const uint64_t used = TRY(replica_bytes(catalog, from));
  if (peer.quota_bytes != 0 && (used > peer.quota_bytes || wish.bytes > peer.quota_bytes - used))
    return over_quota(here, peer, wish, used);
  if (peer.accept == Accept::kYes) return {};
  const OfferAsks asks = TRY(catalog.add_offer(
      {.vm = wish.vm, .peer = from, .name = wish.name, .bytes = wish.bytes, .offered = now}));
  if (asks == OfferAsks::kAccepted) return {};
  if (asks == OfferAsks::kNoRoom) return too_many_wait(here, peer);
  if (asks == OfferAsks::kNew) {
    TRY(catalog.add_event({.time = now,
                           .severity = Severity::kInfo,
                           .kind = "replica.offered",
                           .subject = wish.name,
                           .text = fmt::format("site {} asks to keep a replica here ({}): holdfast "
                                               "replica accept {}",
                                               peer.name, size_text(wish.bytes), wish.name)}));
  }
  return waits(here, wish);
}

bool OfferPace::admit(const SiteId& from, Micros now) {
  const auto [at, is_new] = accounts_.try_emplace(from, Account{.at = now});
  Account& account = at->second;
  const uint64_t gained = now > account.at ? (now.value - account.at.value) / kEvery.value : 0;
  account.left = std::min(kBurst, account.left + std::min(gained, kBurst));
  account.at = account.left == kBurst ? now : Micros(account.at.value + gained * kEvery.value);
  if (account.left == 0) return false;
  --account.left;
  return true;
}

Error too_fast(const std::string& here, const PeerRow& from) {
  return {.code = ErrorCode::kLimit,
          .cause = fmt::format("site {} has placed {} replicas at site {} in a short time",
                               from.name, OfferPace::kBurst, here),
          .effect = std::string(kNotProtected),
          .mend = "try again in some minutes: one more is taken every 10 s"};
}

Result<OfferRow> offer_named(Catalog& catalog, std::string_view vm, std::string_view of) {
  std::vector<OfferRow> found = TRY(catalog.offers());
  const Result<VmId> id = VmId::parse_hex(vm);
  std::erase_if(
      found, [&](const OfferRow& offer) { return id.ok() ? offer.vm != *id : offer.name != vm; });
  if (!of.empty()) {
    const SiteId site = TRY(catalog.peer_named(of)).site;
    std::erase_if(found, [&](const OfferRow& offer) { return offer.peer != site; });
  }
  if (found.size() == 1) return found.front();
  if (found.empty()) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "no offer of a VM \"" + std::string(vm) + "\" waits here",
                 .effect = "nothing was done",
                 .mend = "holdfast replica list"};
  }
  std::string all;
  for (const OfferRow& offer : found) {
    all += (all.empty() ? "" : ", ") + offer.vm.hex() + " of site " +
           TRY(catalog.peer(offer.peer)).name;
  }
  return Error{.code = ErrorCode::kConflict,
               .cause = "more than one offer is of a VM \"" + std::string(vm) + "\": " + all,
               .effect = "nothing was done",
               .mend = "give the id, and --of SITE"};
}

Result<sys::JsonObject> show_offer(Catalog& catalog, const OfferRow& offer) {
  const PeerRow peer = TRY(catalog.peer(offer.peer));
  sys::JsonObject show{{"vm", offer.name},          {"vm_id", offer.vm.hex()},
                       {"peer", peer.name},         {"peer_site_id", offer.peer.hex()},
                       {"direction", "in"},         {"state", offer.accepted ? "accepted" : "asks"},
                       {"size_bytes", offer.bytes}, {"offered_us", offer.offered.value}};
  const Error next{
      .code = ErrorCode::kPermission,
      .cause = offer.accepted ? "site " + peer.name + " has not offered it again since"
                              : "site " + peer.name + " asks to keep a replica here",
      .effect = "the VM is not protected here",
      .mend = offer.accepted
                  ? "at site " + peer.name + ": holdfast protection enable " + offer.name
                  : "holdfast replica accept " + offer.name + ", or evict " + offer.name};
  show["error"] = sys::error_to_json(next);
  return show;
}

}  // namespace hf::control
