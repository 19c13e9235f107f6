// What people and programs read: tables on a terminal, JSON with -o json, errors in three lines.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/core/client.h"
#include "sys/json.h"

namespace hf::cli {

inline constexpr const char* kUsualState = "/var/lib/holdfast";

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
std::string error_text(const Context& context, const Error& error);        // what it prints

// The text of a JSON value as a table shows it: times as times, and no token in whole.
std::string cell(const sys::JsonObject& row, const std::string& member);

std::string time_text(uint64_t micros);  // "2026-11-22 19:31:41Z"
// Of a member in microseconds; "-" if it is not there.
std::string time_text(const sys::JsonObject& row, const std::string& member);

}  // namespace hf::cli
