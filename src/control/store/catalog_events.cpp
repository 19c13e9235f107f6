// The catalog's events, and the audit.
#include <algorithm>

#include "base/text.h"
#include "control/core/log.h"
#include "control/store/catalog_inner.h"

namespace hf::control {
namespace {

constexpr size_t kTextMax = 1'000;
constexpr size_t kPruneEach = 64;

Severity parse_severity(std::string_view text) {
  if (text == "info") return Severity::kInfo;
  return text == "warning" ? Severity::kWarning : Severity::kAlert;
}

// The newest `kept` of a table stay; now and then, so that not every row costs a search.
Status prune(Database& database, std::string_view table, uint64_t newest_id, size_t kept) {
  if (newest_id % kPruneEach != 0 || newest_id <= kept) return {};
  Statement prune = TRY(database.prepare("DELETE FROM " + std::string(table) + " WHERE id <= ?1"));
  return prune.with(newest_id - kept).run();
}

}  // namespace

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kAlert:
      return "alert";
  }
  return "?";
}

Result<uint64_t> Catalog::add_event(const EventRow& row) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Statement insert = TRY(
      database.prepare("INSERT INTO events (time_us, severity, kind, subject, text, actor, origin) "
                       "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"));
  TRY(insert
          .with(row.time.value, to_string(row.severity), row.kind, row.subject, row.text,
                row.by.actor, row.by.origin)
          .run());
  auto id = static_cast<uint64_t>(database.last_row_id());
  TRY(prune(database, "events", id, kEventsMax));
  inner_->events_changed->tell();
  return id;
}

std::shared_ptr<Notice> Catalog::events_changed() { return inner_->events_changed; }

Result<std::vector<EventRow>> Catalog::events(const EventFilter& filter) {
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(
      "SELECT id, time_us, severity, kind, subject, text, actor, origin FROM events "
      "WHERE id > ?1 AND (?2 = '' OR subject = ?2) AND time_us >= ?4 ORDER BY id DESC LIMIT ?3"));
  select.with(filter.after, filter.subject, static_cast<uint64_t>(filter.newest),
              filter.since.value);
  std::vector<EventRow> rows;
  while (TRY(select.step())) {
    rows.push_back({.id = static_cast<uint64_t>(select.integer(0)),
                    .time = Micros(static_cast<uint64_t>(select.integer(1))),
                    .severity = parse_severity(select.text(2)),
                    .kind = select.text(3),
                    .subject = select.text(4),
                    .text = select.text(5),
                    .by = {.actor = select.text(6), .origin = select.text(7)}});
  }
  std::ranges::reverse(rows);
  return rows;
}

Status Catalog::audit(std::string_view actor, std::string_view act, std::string_view subject,
                      std::string_view detail) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Statement insert = TRY(database.prepare(
      "INSERT INTO audit (time_us, actor, act, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5)"));
  TRY(insert.with(catalog_now().value, actor, act, subject, detail).run());
  return prune(database, "audit", static_cast<uint64_t>(database.last_row_id()), kAuditMax);
}

Result<std::vector<AuditRow>> Catalog::audited(const EventFilter& filter) {
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(
      "SELECT id, time_us, actor, act, subject, detail FROM audit "
      "WHERE id > ?1 AND (?2 = '' OR subject = ?2) AND time_us >= ?4 ORDER BY id DESC LIMIT ?3"));
  select.with(filter.after, filter.subject, static_cast<uint64_t>(filter.newest),
              filter.since.value);
  std::vector<AuditRow> rows;
  while (TRY(select.step())) {
    rows.push_back({.id = static_cast<uint64_t>(select.integer(0)),
                    .time = Micros(static_cast<uint64_t>(select.integer(1))),
                    .actor = select.text(2),
                    .act = select.text(3),
                    .subject = select.text(4),
                    .detail = select.text(5)});
  }
  std::ranges::reverse(rows);
  return rows;
}

void tell(Catalog& catalog, EventRow event) {
  event.time = catalog_now();
  event.text = clean_text(event.text, kTextMax);
  event.subject = clean_text(event.subject, kTextMax);
  event.by.actor = clean_text(event.by.actor, kTextMax);
  event.by.origin = clean_text(event.by.origin, kTextMax);
  Result<uint64_t> kept = catalog.add_event(event);
  if (!kept.ok()) log_error(event.text + ": not kept as an event: " + kept.error().describe());
}

}  // namespace hf::control
