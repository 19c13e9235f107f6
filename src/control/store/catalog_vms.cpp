// The catalog's VMs and protections.
#include "control/store/catalog_inner.h"

namespace hf::control {

std::string_view to_string(VmRole role) {
  switch (role) {
    case VmRole::kCreating:
      return "creating";
    case VmRole::kActive:
      return "active";
    case VmRole::kStandby:
      return "standby";
    case VmRole::kSuperseded:
      return "superseded";
  }
  return "?";
}

namespace {

constexpr std::string_view kSelectVm =
    "SELECT id, number, name, definition, epoch, role, wanted, created_us, note, adopt_pending, "
    "taken_from FROM vms ";
constexpr std::string_view kSelectProtection =
    "SELECT vm, peer, direction, public_key, minted_at, created_us, state FROM protections ";

VmRole parse_role(std::string_view text) {
  if (text == "creating") return VmRole::kCreating;
  if (text == "active") return VmRole::kActive;
  if (text == "standby") return VmRole::kStandby;
  return VmRole::kSuperseded;
}

std::string_view text_of(ProtectionState state) {
  switch (state) {
    case ProtectionState::kOffered:
      return "offered";
    case ProtectionState::kStands:
      return "stands";
    case ProtectionState::kWithdrawing:
      return "withdrawing";
  }
  return "?";
}

ProtectionState parse_state(std::string_view text) {
  if (text == "offered") return ProtectionState::kOffered;
  if (text == "stands") return ProtectionState::kStands;
  return ProtectionState::kWithdrawing;
}

Result<VmRow> read_vm(const Statement& row) {
  std::optional<SiteId> taken_from;
  if (std::string site = row.text(10); !site.empty()) taken_from = TRY(SiteId::parse_hex(site));
  return VmRow{.id = TRY(VmId::parse_hex(row.text(0))),
               .number = static_cast<uint32_t>(row.integer(1)),
               .name = row.text(2),
               .definition = row.text(3),
               .epoch = Epoch(static_cast<uint64_t>(row.integer(4))),
               .role = parse_role(row.text(5)),
               .wanted_running = row.text(6) == "running",
               .created = Micros(static_cast<uint64_t>(row.integer(7))),
               .note = row.text(8),
               .adopt_pending = row.integer(9) != 0,
               .taken_from = taken_from};
}

Result<ProtectionRow> read_protection(const Statement& row) {
  return ProtectionRow{.vm = TRY(VmId::parse_hex(row.text(0))),
                       .peer = TRY(SiteId::parse_hex(row.text(1))),
                       .direction = row.text(2) == "out" ? Direction::kOut : Direction::kIn,
                       .journal_public_key = row.text(3),
                       .minted_at = TRY(SiteId::parse_hex(row.text(4))),
                       .created = Micros(static_cast<uint64_t>(row.integer(5))),
                       .state = parse_state(row.text(6))};
}

Error no_such_vm(std::string_view name) {
  return {.code = ErrorCode::kNotFound,
          .cause = "there is no VM \"" + std::string(name) + "\" at this site",
          .effect = "nothing was done",
          .mend = "holdfast vm list"};
}

// `adopt_pending` is as it was, unless it is set; so is where the VM was taken from.
Status write_role(Database& database, const VmRow& from, VmRole role, Epoch epoch,
                  std::string_view note, const std::optional<SiteId>& taken_from) {
  Statement update = TRY(database.prepare(
      "UPDATE vms SET role = ?2, epoch = ?3, note = ?4, adopt_pending = max(adopt_pending, ?5), "
      "taken_from = CASE WHEN ?5 THEN ?6 ELSE taken_from END "
      "WHERE id = ?1 AND role = ?7 AND epoch = ?8 AND epoch <= ?3"));
  const uint64_t taken = taken_from ? 1 : 0;
  TRY(update
          .with(from.id.hex(), to_string(role), epoch.value, note, taken,
                taken_from ? taken_from->hex() : "", to_string(from.role), from.epoch.value)
          .run());
  if (database.changed_rows() == 1) return {};
  return Error{.code = ErrorCode::kConflict,
               .cause = "the VM is not " + std::string(to_string(from.role)) + " under epoch " +
                        std::to_string(from.epoch.value) + " any more, or epoch " +
                        std::to_string(epoch.value) + " is below it",
               .effect = "its role was not changed",
               .mend = "holdfast vm show " + from.id.hex()};
}

// Spent when the transaction ends well.
Result<uint32_t> take_number(Database& database) {
  uint32_t number = 0;
  Statement free =
      TRY(database.prepare("DELETE FROM free_vm_numbers WHERE turn = (SELECT min(turn) FROM "
                           "free_vm_numbers) RETURNING number"));
  if (TRY(free.step())) number = static_cast<uint32_t>(free.integer(0));
  TRY(free.run());
  if (number != 0) return number;
  Statement next =
      TRY(database.prepare("UPDATE vm_numbers SET last = last + 1 WHERE last < ?1 RETURNING last"));
  if (TRY(next.with(uint64_t{kVmNumberLast}).step()))
    number = static_cast<uint32_t>(next.integer(0));
  TRY(next.run());
  if (number != 0) return number;
  return Error{.code = ErrorCode::kLimit,
               .cause = "all " + std::to_string(kVmNumberLast) + " numbers of VMs are taken",
               .effect = "nothing was created",
               .mend = "delete VMs that are not needed: holdfast vm list"};
}

Result<VmRow> insert_vm(Database& database, VmRow row) {
  Statement taken =
      TRY(database.prepare("SELECT 1 FROM vms WHERE name IN (?1, ?2) OR id IN (?1, ?2)"));
  if (TRY(taken.with(row.name, row.id.hex()).step())) {
    return Error{.code = ErrorCode::kExists,
                 .cause = "a VM \"" + row.name + "\" is there already",
                 .effect = "nothing was created",
                 .mend = "choose another name, or holdfast vm delete " + row.name};
  }
  row.number = TRY(take_number(database));
  Statement insert = TRY(database.prepare(
      "INSERT INTO vms (id, number, name, definition, epoch, role, wanted, created_us, note) "
      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"));
  TRY(insert
          .with(row.id.hex(), row.number, row.name, row.definition, row.epoch.value,
                to_string(row.role), row.wanted_running ? "running" : "stopped", row.created.value,
                row.note)
          .run());
  return row;
}

Status write_protection(Database& database, const ProtectionRow& row) {
  Statement put = TRY(database.prepare(
      "INSERT INTO protections (vm, peer, direction, public_key, minted_at, created_us, state) "
      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (vm) DO UPDATE SET peer = ?2, "
      "direction = ?3, public_key = ?4, minted_at = ?5, state = ?7"));
  return put
      .with(row.vm.hex(), row.peer.hex(), row.direction == Direction::kOut ? "out" : "in",
            row.journal_public_key, row.minted_at.hex(), row.created.value, text_of(row.state))
      .run();
}

}  // namespace

Result<VmRow> Catalog::add_vm(VmRow row) {
  MutexLock lock(inner_->mutex);
  Transaction transaction = TRY(Transaction::begin(inner_->database));
  VmRow added = TRY(insert_vm(inner_->database, std::move(row)));
  TRY(transaction.commit());
  return added;
}

Result<VmRow> Catalog::add_replica(VmRow row, const ProtectionRow& protection) {
  MutexLock lock(inner_->mutex);
  Transaction transaction = TRY(Transaction::begin(inner_->database));
  VmRow added = TRY(insert_vm(inner_->database, std::move(row)));
  TRY(write_protection(inner_->database, protection));
  Statement taken = TRY(inner_->database.prepare("DELETE FROM offers WHERE vm = ?1"));
  TRY(taken.with(added.id.hex()).run());
  TRY(transaction.commit());
  return added;
}

// By its id alone: a VM of another site may bear any name, an id among them.
Result<VmRow> Catalog::vm(VmId id) {
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(std::string(kSelectVm) + "WHERE id = ?1"));
  if (TRY(select.with(id.hex()).step())) return read_vm(select);
  return no_such_vm(id.hex());
}

Result<VmRow> Catalog::vm_named(std::string_view name_or_id) {
  const Result<VmId> id = VmId::parse_hex(name_or_id);
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(std::string(kSelectVm) +
                                                  "WHERE name = ?1 OR id = ?2 ORDER BY id = ?2"));
  select.with(name_or_id, id.ok() ? id->hex() : "");
  if (!TRY(select.step())) return no_such_vm(name_or_id);
  VmRow found = TRY(read_vm(select));
  if (!TRY(select.step())) return found;
  const VmRow of_that_id = TRY(read_vm(select));
  return Error{
      .code = ErrorCode::kConflict,
      .cause = "\"" + std::string(name_or_id) + "\" is the name of one VM (" + found.id.hex() +
               ") and the id of another (\"" + of_that_id.name + "\")",
      .effect = "nothing was done",
      .mend = "use " + found.id.hex() + " for the one and " + of_that_id.name + " for the other"};
}

Result<std::vector<VmRow>> Catalog::vms() {
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(std::string(kSelectVm) + "ORDER BY name"));
  std::vector<VmRow> rows;
  while (TRY(select.step())) rows.push_back(TRY(read_vm(select)));
  return rows;
}

Status Catalog::remove_vm(VmId id, VmRemains remains) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Transaction transaction = TRY(Transaction::begin(database));
  if (remains == VmRemains::kNone) {
    Statement free = TRY(database.prepare(
        "INSERT INTO free_vm_numbers (number) SELECT number FROM vms WHERE id = ?1"));
    TRY(free.with(id.hex()).run());
  }
  Statement remove = TRY(database.prepare("DELETE FROM vms WHERE id = ?1"));
  TRY(remove.with(id.hex()).run());
  return transaction.commit();
}

Status Catalog::set_wanted(VmId id, bool running) {
  MutexLock lock(inner_->mutex);
  Statement update = TRY(inner_->database.prepare("UPDATE vms SET wanted = ?2 WHERE id = ?1"));
  return update.with(id.hex(), running ? "running" : "stopped").run();
}

Status Catalog::change_role(const VmRow& from, VmRole role, Epoch epoch, std::string_view note) {
  MutexLock lock(inner_->mutex);
  return write_role(inner_->database, from, role, epoch, note, std::nullopt);
}

Status Catalog::take_over(const VmRow& from, Epoch epoch, SiteId source, std::string_view note,
                          const std::optional<ProtectionRow>& next) {
  MutexLock lock(inner_->mutex);
  Transaction transaction = TRY(Transaction::begin(inner_->database));
  TRY(write_role(inner_->database, from, VmRole::kActive, epoch, note, source));
  Statement ended = TRY(inner_->database.prepare("DELETE FROM protections WHERE vm = ?1"));
  TRY(ended.with(from.id.hex()).run());
  if (next) TRY(write_protection(inner_->database, *next));
  Statement wanted =
      TRY(inner_->database.prepare("UPDATE vms SET wanted = 'running' WHERE id = ?1"));
  TRY(wanted.with(from.id.hex()).run());
  return transaction.commit();
}

Status Catalog::stand_by(const VmRow& from, const ProtectionRow& protection) {
  MutexLock lock(inner_->mutex);
  Transaction transaction = TRY(Transaction::begin(inner_->database));
  TRY(write_role(inner_->database, from, VmRole::kStandby, from.epoch, "", std::nullopt));
  TRY(write_protection(inner_->database, protection));
  return transaction.commit();
}

Status Catalog::end_adoption(VmId id) {
  MutexLock lock(inner_->mutex);
  Statement update =
      TRY(inner_->database.prepare("UPDATE vms SET adopt_pending = 0 WHERE id = ?1"));
  return update.with(id.hex()).run();
}

Status Catalog::put_protection(const ProtectionRow& row) {
  MutexLock lock(inner_->mutex);
  return write_protection(inner_->database, row);
}

Result<ProtectionRow> Catalog::protection(VmId vm) {
  MutexLock lock(inner_->mutex);
  Statement select =
      TRY(inner_->database.prepare(std::string(kSelectProtection) + "WHERE vm = ?1"));
  if (TRY(select.with(vm.hex()).step())) return read_protection(select);
  return Error{.code = ErrorCode::kNotFound,
               .cause = "the VM is not protected",
               .effect = "nothing was done",
               .mend = "holdfast protection enable VM --to PEER"};
}

Result<std::vector<ProtectionRow>> Catalog::protections() {
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(kSelectProtection));
  std::vector<ProtectionRow> rows;
  while (TRY(select.step())) rows.push_back(TRY(read_protection(select)));
  return rows;
}

Status Catalog::remove_protection(VmId vm) {
  MutexLock lock(inner_->mutex);
  Statement remove = TRY(inner_->database.prepare("DELETE FROM protections WHERE vm = ?1"));
  return remove.with(vm.hex()).run();
}

Result<bool> Catalog::was_counterpart(VmId vm, SiteId site) {
  MutexLock lock(inner_->mutex);
  Statement select =
      TRY(inner_->database.prepare("SELECT 1 FROM former_protections WHERE vm = ?1 AND peer = ?2"));
  return select.with(vm.hex(), site.hex()).step();
}

}  // namespace hf::control
