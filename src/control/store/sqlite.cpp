#include "control/store/sqlite.h"

#include <sqlite3.h>

namespace hf::control {
namespace {

Error sqlite_error(int code, sqlite3* connection, std::string_view doing) {
  ErrorCode ours = ErrorCode::kIo;
  switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
      ours = ErrorCode::kExists;
      break;
    case SQLITE_FULL:
      ours = ErrorCode::kNoSpace;
      break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      ours = ErrorCode::kCorrupt;
      break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      ours = ErrorCode::kConflict;
      break;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
      ours = ErrorCode::kPermission;
      break;
    default:
      break;
  }
  std::string cause = "catalog: " + std::string(doing) + ": ";
  cause += connection != nullptr ? sqlite3_errmsg(connection) : sqlite3_errstr(code);
  Error error{.code = ours, .cause = std::move(cause)};
  if (ours == ErrorCode::kNoSpace) {
    error.effect = "nothing was done: what is done must be written down first";
    error.mend =
        "free space on the state directory's file system (df -h shows it), then run the command "
        "again";
  } else if (ours == ErrorCode::kCorrupt || ours == ErrorCode::kIo ||
             ours == ErrorCode::kPermission) {
    error.effect = "the catalog cannot be used";
    error.mend =
        "see to the disk, owner and mode of daemon/catalog.sqlite in the state directory, or put a "
        "copy of it back while the site is stopped";
  }
  return error;
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Result<bool> Statement::step() {
  int code = sqlite3_step(handle_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return sqlite_error(code, sqlite3_db_handle(handle_.get()), "statement");
}

Status Statement::run() {
  while (TRY(step())) {
  }
  return {};
}

int64_t Statement::integer(int column) const { return sqlite3_column_int64(handle_.get(), column); }

std::string Statement::text(int column) const {
  const unsigned char* text = sqlite3_column_text(handle_.get(), column);
  if (text == nullptr) return {};
  return std::string(reinterpret_cast<const char*>(text),
                     static_cast<size_t>(sqlite3_column_bytes(handle_.get(), column)));
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(handle_.get(), column) == SQLITE_NULL;
}

void Statement::bind(int index, int64_t value) {
  HF_ASSERT(sqlite3_bind_int64(handle_.get(), index, value) == SQLITE_OK);
}

void Statement::bind(int index, std::string_view value) {
  HF_ASSERT(
      sqlite3_bind_text64(handle_.get(), index, value.data(), value.size(),
                          // The macro's cast, in the house's style: SQLite makes its own copy.
                          reinterpret_cast<sqlite3_destructor_type>(-1), SQLITE_UTF8) == SQLITE_OK);
}

void Statement::bind(int index, std::nullopt_t) {
  HF_ASSERT(sqlite3_bind_null(handle_.get(), index) == SQLITE_OK);
}

void Database::Close::operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }

Result<Database> Database::open(const std::string& path) {
  sqlite3* raw = nullptr;
  int code =
      sqlite3_open_v2(path.c_str(), &raw,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  Database database(raw);
  if (code != SQLITE_OK) return sqlite_error(code, raw, "open " + path);
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, 5000);
  // The log and its index stay when the database is closed: who starts on a full disk could make
  // neither anew, and could not write down that it stops.
  int keeps = 1;
  sqlite3_file_control(raw, nullptr, SQLITE_FCNTL_PERSIST_WAL, &keeps);
  TRY(
      database.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                       "PRAGMA trusted_schema=OFF;"));
  return database;
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  int code = sqlite3_prepare_v2(connection_.get(), sql.data(), static_cast<int>(sql.size()), &raw,
                                nullptr);
  if (code != SQLITE_OK) return sqlite_error(code, connection_.get(), "prepare");
  return Statement(raw);
}

Status Database::execute(std::string_view script) {
  int code =
      sqlite3_exec(connection_.get(), std::string(script).c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return sqlite_error(code, connection_.get(), "execute");
  return {};
}

int64_t Database::last_row_id() const { return sqlite3_last_insert_rowid(connection_.get()); }
int64_t Database::changed_rows() const { return sqlite3_changes64(connection_.get()); }

Result<Transaction> Transaction::begin(Database& database) {
  TRY(database.execute("BEGIN IMMEDIATE"));
  return Transaction(database);
}

Transaction::~Transaction() {
  if (database_ != nullptr) static_cast<void>(database_->execute("ROLLBACK"));
}

Status Transaction::commit() {
  HF_ASSERT(database_ != nullptr);
  TRY(database_->execute("COMMIT"));
  database_ = nullptr;
  return {};
}

}  // namespace hf::control
