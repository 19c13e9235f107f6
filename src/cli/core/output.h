// What people and programs read: tables on a terminal, JSON with -o json, errors in three lines.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/core/client.h"
#include "sys/json.h"

namespace hf::cli {

enum class Format { kTable, kJson };

struct Column {
  std::string title;
  std::string member;  // of each row's object; "a.b" goes into an object
};

// What a command shares with all others.
struct Context {
  std::string state;
  Format format = Format::kTable;
  bool quiet = false;  // no progress
  Client client() const { return Client(state); }
};

void print_rows(const Context& context, const sys::JsonArray& rows,
                const std::vector<Column>& columns);
void print_object(const Context& context, const sys::JsonObject& object);  // "name  value" lines
void print_error(const Context& context, const Error& error);              // on stderr

// The text of a JSON value as a table shows it.
std::string cell(const sys::JsonObject& row, const std::string& member);

// "2026-11-22 19:31:41Z" of a member in microseconds; "-" if it is not there.
std::string time_text(const sys::JsonObject& row, const std::string& member);

// Follows a job to its end, its steps on stderr; its result.
Result<sys::JsonObject> follow_job(const Context& context, Client& client,
                                   const sys::JsonValue& started);

}  // namespace hf::cli
