// The catalog's policies, baselines, verdicts.
#include <algorithm>

#include "control/store/catalog_inner.h"

namespace hf::control {
namespace {

std::string_view column_of(AttestationPart part) {
  switch (part) {
    case AttestationPart::kPolicy:
      return "policy";
    case AttestationPart::kBaseline:
      return "baseline";
    case AttestationPart::kIdentity:
      return "identity";
    case AttestationPart::kExplanations:
      return "explanations";
    case AttestationPart::kRollover:
      return "rollover";
  }
  return "?";
}

Result<uint64_t> insert_verdict(Database& database, VmId vm, const VerdictRow& row) {
  Statement insert = TRY(database.prepare(
      "INSERT INTO verdicts (vm, time_us, verdict, record) VALUES (?1, ?2, ?3, ?4)"));
  TRY(insert.with(vm.hex(), row.time.value, row.verdict, row.record).run());
  return static_cast<uint64_t>(database.last_row_id());
}

}  // namespace

Result<AttestationRow> Catalog::attestation(VmId vm) {
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(
      "SELECT policy, baseline, identity, explanations, rollover FROM attestation WHERE vm = ?1"));
  if (!TRY(select.with(vm.hex()).step())) return AttestationRow{};
  return AttestationRow{.policy = select.text(0),
                        .baseline = select.text(1),
                        .identity = select.text(2),
                        .explanations = select.text(3),
                        .rollover = select.text(4)};
}

Status Catalog::set_attestation(VmId vm, AttestationPart part, std::string_view json) {
  MutexLock lock(inner_->mutex);
  std::string column(column_of(part));
  Statement put = TRY(inner_->database.prepare("INSERT INTO attestation (vm, " + column +
                                               ") VALUES (?1, ?2) ON CONFLICT (vm) DO UPDATE SET " +
                                               column + " = ?2"));
  return put.with(vm.hex(), json).run();
}

Result<uint64_t> Catalog::add_verdict(VmId vm, const VerdictRow& row) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Transaction transaction = TRY(Transaction::begin(database));
  uint64_t id = TRY(insert_verdict(database, vm, row));
  Statement prune = TRY(database.prepare(
      "DELETE FROM verdicts WHERE vm = ?1 AND id <= (SELECT id FROM verdicts WHERE vm = ?1 "
      "ORDER BY id DESC LIMIT 1 OFFSET ?2)"));
  TRY(prune.with(vm.hex(), static_cast<uint64_t>(kVerdictsMax)).run());
  TRY(transaction.commit());
  return id;
}

Result<std::vector<VerdictRow>> Catalog::verdicts(VmId vm, size_t newest) {
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(
      "SELECT id, time_us, verdict, record FROM verdicts WHERE vm = ?1 ORDER BY id DESC "
      "LIMIT ?2"));
  select.with(vm.hex(), static_cast<uint64_t>(newest));
  std::vector<VerdictRow> rows;
  while (TRY(select.step())) {
    rows.push_back({.id = static_cast<uint64_t>(select.integer(0)),
                    .time = Micros(static_cast<uint64_t>(select.integer(1))),
                    .verdict = select.text(2),
                    .record = select.text(3)});
  }
  return rows;
}

Status Catalog::replace_attestation(VmId vm, const AttestationRow& row,
                                    const std::vector<VerdictRow>& verdicts) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Transaction transaction = TRY(Transaction::begin(database));
  Statement put = TRY(database.prepare(
      "INSERT OR REPLACE INTO attestation (vm, policy, baseline, identity, explanations) "
      "VALUES (?1, ?2, ?3, ?4, ?5)"));
  TRY(put.with(vm.hex(), row.policy, row.baseline, row.identity, row.explanations).run());
  Statement adopted = TRY(database.prepare("UPDATE vms SET adopt_pending = 0 WHERE id = ?1"));
  TRY(adopted.with(vm.hex()).run());
  Statement clear = TRY(database.prepare("DELETE FROM verdicts WHERE vm = ?1"));
  TRY(clear.with(vm.hex()).run());
  size_t from = verdicts.size() - std::min(verdicts.size(), kVerdictsMax);
  for (size_t i = from; i < verdicts.size(); ++i) TRY(insert_verdict(database, vm, verdicts[i]));
  return transaction.commit();
}

}  // namespace hf::control
