// SQLite as a few small types. Included by catalog.cpp and its schema only.
//
// One connection, used under the catalog's mutex.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace hf::control {

class Statement {
 public:
  explicit Statement(sqlite3_stmt* handle) : handle_(handle) {}

  // Binds the arguments to ?1, ?2, … in order.
  template <typename... Args>
  Statement& with(const Args&... args) {
    int index = 0;
    (bind(++index, args), ...);
    return *this;
  }
  Result<bool> step();  // true: a row is there
  Status run();         // to its end; rows are dropped

  // Of the current row, columns from 0.
  int64_t integer(int column) const;
  std::string text(int column) const;
  bool is_null(int column) const;

 private:
  void bind(int index, int64_t value);
  void bind(int index, uint64_t value) { bind(index, static_cast<int64_t>(value)); }
  void bind(int index, uint32_t value) { bind(index, static_cast<int64_t>(value)); }
  void bind(int index, bool value) { bind(index, static_cast<int64_t>(value)); }
  void bind(int index, std::string_view value);
  void bind(int index, const std::string& value) { bind(index, std::string_view(value)); }
  void bind(int index, const char* value) { bind(index, std::string_view(value)); }
  void bind(int index, std::nullopt_t);
  template <typename T>
  void bind(int index, const std::optional<T>& value) {
    if (value) {
      bind(index, *value);
    } else {
      bind(index, std::nullopt);
    }
  }

  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
};

class Database {
 public:
  // Creates the file (0600) if it is not there; write-ahead log, full sync, foreign keys on.
  static Result<Database> open(const std::string& path);
  Result<Statement> prepare(std::string_view sql);
  Status execute(std::string_view script);  // several statements, no parameters
  int64_t last_row_id() const;
  int64_t changed_rows() const;

 private:
  struct Close {
    void operator()(sqlite3* connection) const;
  };
  explicit Database(sqlite3* connection) : connection_(connection) {}
  std::unique_ptr<sqlite3, Close> connection_;
};

// Commits when told to, else rolls back.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  ~Transaction();
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  Status commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace hf::control
