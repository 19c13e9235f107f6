// The catalog's peers.
#include "control/store/catalog_inner.h"

namespace hf::control {
namespace {

constexpr std::string_view kSelectPeer =
    "SELECT site, name, address, ca_pem, fingerprint, recipient_pem, signing_key, paired_us, "
    "accept, "
    "quota_bytes FROM peers ";

Result<PeerRow> read_peer(const Statement& row) {
  return PeerRow{.site = TRY(SiteId::parse_hex(row.text(0))),
                 .name = row.text(1),
                 .address = row.text(2),
                 .ca_pem = row.text(3),
                 .fingerprint = row.text(4),
                 .recipient_pem = row.text(5),
                 .signing_key = row.text(6),
                 .paired = Micros(static_cast<uint64_t>(row.integer(7))),
                 .accept = TRY(parse_accept(row.text(8))),
                 .quota_bytes = static_cast<uint64_t>(row.integer(9))};
}

Error no_such_peer(std::string_view name_or_id) {
  return {.code = ErrorCode::kNotFound,
          .cause = "no site \"" + std::string(name_or_id) + "\" is paired with this one",
          .effect = "nothing was done",
          .mend = "holdfast site peers; holdfast site pair"};
}

}  // namespace

std::string_view to_string(Accept accept) {
  switch (accept) {
    case Accept::kYes:
      return "yes";
    case Accept::kAsk:
      return "ask";
    case Accept::kNo:
      return "no";
  }
  return "?";
}

Result<Accept> parse_accept(std::string_view text) {
  for (Accept accept : {Accept::kYes, Accept::kAsk, Accept::kNo}) {
    if (text == to_string(accept)) return accept;
  }
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "\"" + std::string(text) + "\" is no way to take replicas",
               .effect = "nothing was changed",
               .mend = "use --accept yes, ask or no"};
}

Status Catalog::set_peer_policy(SiteId site, Accept accept, uint64_t quota_bytes) {
  MutexLock lock(inner_->mutex);
  Statement update = TRY(
      inner_->database.prepare("UPDATE peers SET accept = ?2, quota_bytes = ?3 WHERE site = ?1"));
  return update.with(site.hex(), to_string(accept), quota_bytes).run();
}

Status Catalog::put_peer(const PeerRow& row) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Transaction transaction = TRY(Transaction::begin(database));
  Statement other = TRY(database.prepare("SELECT fingerprint FROM peers WHERE site = ?1"));
  if (TRY(other.with(row.site.hex()).step()) && other.text(0) != row.fingerprint) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "site " + row.name + " is paired already, under the CA " + other.text(0),
                 .effect = "its new certificate authority is not trusted",
                 .mend = "if the site was set up anew: holdfast site unpair " + row.site.hex() +
                         ", then pair again"};
  }
  Statement named = TRY(database.prepare("SELECT site FROM peers WHERE name = ?2 AND site <> ?1"));
  if (TRY(named.with(row.site.hex(), row.name).step())) {
    return Error{.code = ErrorCode::kExists,
                 .cause = "this site calls another one \"" + row.name + "\": " + named.text(0),
                 .effect = "the sites are not paired",
                 .mend = "give it another name: --name NAME"};
  }
  Statement put =
      TRY(database.prepare("INSERT INTO peers (site, name, address, ca_pem, fingerprint, "
                           "recipient_pem, signing_key, paired_us) "
                           "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (site) DO UPDATE "
                           "SET name = ?2, address = ?3"));
  TRY(put.with(row.site.hex(), row.name, row.address, row.ca_pem, row.fingerprint,
               row.recipient_pem, row.signing_key, row.paired.value)
          .run());
  return transaction.commit();
}

Result<PeerRow> Catalog::peer(SiteId site) {
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(std::string(kSelectPeer) + "WHERE site = ?1"));
  if (TRY(select.with(site.hex()).step())) return read_peer(select);
  return no_such_peer(site.hex());
}

Result<PeerRow> Catalog::peer_named(std::string_view name_or_id) {
  const Result<SiteId> site = SiteId::parse_hex(name_or_id);
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(
      std::string(kSelectPeer) + "WHERE name = ?1 OR site = ?2 ORDER BY site = ?2, site"));
  select.with(name_or_id, site.ok() ? site->hex() : "");
  if (!TRY(select.step())) return no_such_peer(name_or_id);
  PeerRow found = TRY(read_peer(select));
  if (!TRY(select.step())) return found;
  const PeerRow other = TRY(read_peer(select));
  return Error{.code = ErrorCode::kConflict,
               .cause = "\"" + std::string(name_or_id) + "\" may be site " + found.name + " (" +
                        found.site.hex() + ") or site " + other.name + " (" + other.site.hex() +
                        ")",
               .effect = "nothing was done",
               .mend = "use the site's id, or a name that only it has: holdfast site peers"};
}

Result<std::vector<PeerRow>> Catalog::peers() {
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(std::string(kSelectPeer) + "ORDER BY name"));
  std::vector<PeerRow> rows;
  while (TRY(select.step())) rows.push_back(TRY(read_peer(select)));
  return rows;
}

Status Catalog::remove_peer(SiteId site) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Transaction transaction = TRY(Transaction::begin(database));
  Statement needed = TRY(database.prepare(
      "SELECT name FROM vms JOIN protections ON vms.id = protections.vm WHERE peer = ?1"));
  if (TRY(needed.with(site.hex()).step())) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "VM \"" + needed.text(0) + "\" is protected with that site",
                 .effect = "the site is still paired",
                 .mend = "holdfast protection show " + needed.text(0)};
  }
  Statement forget = TRY(database.prepare("DELETE FROM former_protections WHERE peer = ?1"));
  TRY(forget.with(site.hex()).run());
  Statement remove = TRY(database.prepare("DELETE FROM peers WHERE site = ?1"));
  TRY(remove.with(site.hex()).run());
  return transaction.commit();
}

}  // namespace hf::control
