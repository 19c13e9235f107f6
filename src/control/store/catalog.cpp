#include "control/store/catalog.h"

#include <sys/stat.h>

#include <chrono>
#include <filesystem>

#include "control/store/catalog_inner.h"
#include "control/store/catalog_schema.h"

namespace hf::control {
namespace {

Status migrate(Database& database) {
  auto steps = catalog_migrations();
  Transaction transaction = TRY(Transaction::begin(database));
  size_t version = 0;
  {
    Statement read = TRY(database.prepare("PRAGMA user_version"));
    if (TRY(read.step())) version = static_cast<size_t>(read.integer(0));
  }
  if (version > steps.size()) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "the catalog has version " + std::to_string(version) +
                          ", this holdfastd knows " + std::to_string(steps.size()),
                 .effect = "holdfastd does not start and changes nothing",
                 .mend = "start the holdfastd that wrote it, or a newer one"};
  }
  for (size_t step = version; step < steps.size(); ++step) TRY(database.execute(steps[step]));
  TRY(database.execute("PRAGMA user_version=" + std::to_string(steps.size())));
  return transaction.commit();
}

}  // namespace

Micros catalog_now() {
  auto since = std::chrono::system_clock::now().time_since_epoch();
  return Micros(
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(since).count()));
}

Catalog::Catalog(std::unique_ptr<Inner> inner) : inner_(std::move(inner)) {}
Catalog::~Catalog() = default;

Result<std::unique_ptr<Catalog>> Catalog::open(const std::string& path) {
  mode_t before = ::umask(077);
  Result<Database> opened = Database::open(path);
  ::umask(before);
  if (!opened.ok()) {
    return std::move(opened)
        .error()
        .with_effect("holdfastd does not start")
        .with_mend("check the owner and the file " + path);
  }
  TRY(migrate(*opened));
  return std::unique_ptr<Catalog>(
      new Catalog(std::make_unique<Inner>(path, std::move(opened).value())));
}

// In the file: free pages, which SQLite uses before it grows; in its log: length, which it keeps
// and writes over from the beginning once all is in the file. More pages than that, and it brings
// them over by itself (wal_autocheckpoint), so that neither grows.
Status Catalog::keep_room() {
  constexpr int64_t kPage = 4096;
  constexpr int64_t kPages = 1152;
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  int64_t free_pages = 0;
  {
    Statement count = TRY(database.prepare("PRAGMA freelist_count"));
    if (TRY(count.step())) free_pages = count.integer(0);
  }
  std::error_code none;
  const auto log = std::filesystem::file_size(inner_->path + "-wal", none);
  if (free_pages >= kPages && !none && log >= kPages * kPage) return {};
  // Two transactions: pages that are free again when one ends are not written.
  Transaction transaction = TRY(Transaction::begin(database));
  TRY(
      database.execute("DROP TABLE IF EXISTS room; CREATE TABLE room (bytes BLOB);"
                       "INSERT INTO room VALUES (zeroblob(" +
                       std::to_string(kPages * kPage) + "));"));
  TRY(transaction.commit());
  return database.execute("DROP TABLE room; PRAGMA wal_checkpoint(PASSIVE);");
}

Result<uint64_t> Catalog::add_job(std::string_view kind, std::string_view subject, Micros now,
                                  const By& by) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Statement insert = TRY(
      database.prepare("INSERT INTO jobs (kind, subject, state, detail, created_us, actor, origin) "
                       "VALUES (?1, ?2, 'running', '{}', ?3, ?4, ?5)"));
  TRY(insert.with(kind, subject, now.value, by.actor, by.origin).run());
  const auto id = static_cast<uint64_t>(database.last_row_id());
  if (id > kJobsMax) {
    Statement prune =
        TRY(database.prepare("DELETE FROM jobs WHERE id <= ?1 AND state != 'running'"));
    TRY(prune.with(id - kJobsMax).run());
  }
  return id;
}

// For whoever asks after this process has died, not after a loss of power: no job waits for the
// disk at each of its steps.
Status Catalog::note_job(uint64_t id, std::string_view detail) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Statement update =
      TRY(database.prepare("UPDATE jobs SET detail = ?2 WHERE id = ?1 AND state = 'running'"));
  TRY(database.execute("PRAGMA synchronous=NORMAL"));
  Status noted = update.with(id, detail).run();
  TRY(database.execute("PRAGMA synchronous=FULL"));
  return noted;
}

Status Catalog::finish_job(const JobRow& row) {
  MutexLock lock(inner_->mutex);
  Statement update = TRY(inner_->database.prepare(
      "UPDATE jobs SET state = ?2, detail = ?3, finished_us = ?4 WHERE id = ?1"));
  return update.with(row.id, row.state, row.detail, row.finished.value_or(Micros()).value).run();
}

namespace {

constexpr std::string_view kSelectJob =
    "SELECT id, kind, subject, state, detail, created_us, finished_us, actor, origin FROM jobs ";

JobRow read_job(const Statement& row) {
  JobRow job{.id = static_cast<uint64_t>(row.integer(0)),
             .kind = row.text(1),
             .subject = row.text(2),
             .state = row.text(3),
             .detail = row.text(4),
             .created = Micros(static_cast<uint64_t>(row.integer(5))),
             .finished = std::nullopt,
             .by = {.actor = row.text(7), .origin = row.text(8)}};
  if (!row.is_null(6)) job.finished = Micros(static_cast<uint64_t>(row.integer(6)));
  return job;
}

}  // namespace

Result<JobRow> Catalog::job(uint64_t id) {
  MutexLock lock(inner_->mutex);
  Statement select = TRY(inner_->database.prepare(std::string(kSelectJob) + "WHERE id = ?1"));
  select.with(id);
  if (TRY(select.step())) return read_job(select);
  return Error{.code = ErrorCode::kNotFound,
               .cause = "there is no job " + std::to_string(id),
               .effect = "nothing to show",
               .mend = "holdfast job list"};
}

Result<std::vector<JobRow>> Catalog::jobs(size_t newest) {
  MutexLock lock(inner_->mutex);
  Statement select =
      TRY(inner_->database.prepare(std::string(kSelectJob) + "ORDER BY id DESC LIMIT ?1"));
  select.with(static_cast<uint64_t>(newest));
  std::vector<JobRow> rows;
  while (TRY(select.step())) rows.push_back(read_job(select));
  return rows;
}

Result<std::vector<JobRow>> Catalog::interrupt_left_over_jobs(Micros now) {
  MutexLock lock(inner_->mutex);
  Database& database = inner_->database;
  Transaction transaction = TRY(Transaction::begin(database));
  std::vector<JobRow> rows;
  Statement select =
      TRY(database.prepare(std::string(kSelectJob) + "WHERE state = 'running' ORDER BY id"));
  while (TRY(select.step())) rows.push_back(read_job(select));
  for (JobRow& row : rows) {
    row.state = "interrupted";
    row.finished = now;
  }
  Statement update = TRY(database.prepare(
      "UPDATE jobs SET state = 'interrupted', finished_us = ?1 WHERE state = 'running'"));
  TRY(update.with(now.value).run());
  TRY(transaction.commit());
  return rows;
}

}  // namespace hf::control
