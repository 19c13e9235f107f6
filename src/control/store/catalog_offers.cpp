// The catalog's offers of other sites that wait for an operator's word.
#include "control/store/catalog_inner.h"

namespace hf::control {
namespace {

constexpr std::string_view kSelectOffer =
    "SELECT vm, peer, name, bytes, accepted, offered_us FROM offers ";

Result<OfferRow> read_offer(const Statement& row) {
  return OfferRow{.vm = TRY(VmId::parse_hex(row.text(0))),
                  .peer = TRY(SiteId::parse_hex(row.text(1))),
                  .name = row.text(2),
                  .bytes = static_cast<uint64_t>(row.integer(3)),
                  .accepted = row.integer(4) != 0,
                  .offered = Micros(static_cast<uint64_t>(row.integer(5)))};
}

Error no_such_offer() {
  return {.code = ErrorCode::kNotFound,
          .cause = "that offer does not wait here any more",
          .effect = "nothing was done",
          .mend = "holdfast replica list"};
}

}  // namespace

Result<OfferAsks> Catalog::add_offer(const OfferRow& row) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Transaction transaction = TRY(Transaction::begin(database));
  Statement known =
      TRY(database.prepare(std::string(kSelectOffer) + "WHERE vm = ?1 AND peer = ?2"));
  std::optional<OfferRow> before;
  if (TRY(known.with(row.vm.hex(), row.peer.hex()).step())) before = TRY(read_offer(known));
  // The word was for what was shown.
  const bool same = before && before->name == row.name && before->bytes == row.bytes;
  if (same) return before->accepted ? OfferAsks::kAccepted : OfferAsks::kWaits;
  if (!before) {
    Statement count = TRY(database.prepare("SELECT count(*) FROM offers WHERE peer = ?1"));
    if (TRY(count.with(row.peer.hex()).step()) &&
        static_cast<uint64_t>(count.integer(0)) >= kOffersMax)
      return OfferAsks::kNoRoom;
  }
  Statement put = TRY(database.prepare(
      "INSERT INTO offers (vm, peer, name, bytes, accepted, offered_us) VALUES (?1, ?2, ?3, ?4, 0, "
      "?5) ON CONFLICT (vm, peer) DO UPDATE SET name = ?3, bytes = ?4, accepted = 0, offered_us = "
      "?5"));
  TRY(put.with(row.vm.hex(), row.peer.hex(), row.name, row.bytes, row.offered.value).run());
  TRY(transaction.commit());
  return before ? OfferAsks::kWaits : OfferAsks::kNew;
}

Result<std::vector<OfferRow>> Catalog::offers() {
  MutexLock lock(inner_->mutex);
  Statement select =
      TRY(inner_->database.prepare(std::string(kSelectOffer) + "ORDER BY offered_us, vm, peer"));
  std::vector<OfferRow> rows;
  while (TRY(select.step())) rows.push_back(TRY(read_offer(select)));
  return rows;
}

Status Catalog::accept_offer(VmId vm, SiteId peer) {
  MutexLock lock(inner_->mutex);
  Statement update =
      TRY(inner_->database.prepare("UPDATE offers SET accepted = 1 WHERE vm = ?1 AND peer = ?2"));
  TRY(update.with(vm.hex(), peer.hex()).run());
  if (inner_->database.changed_rows() == 1) return {};
  return no_such_offer();
}

Status Catalog::remove_offer(VmId vm, SiteId peer) {
  MutexLock lock(inner_->mutex);
  Statement remove =
      TRY(inner_->database.prepare("DELETE FROM offers WHERE vm = ?1 AND peer = ?2"));
  TRY(remove.with(vm.hex(), peer.hex()).run());
  if (inner_->database.changed_rows() == 1) return {};
  return no_such_offer();
}

}  // namespace hf::control
