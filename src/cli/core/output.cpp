#include "cli/core/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "base/text.h"
#include "cli/core/mends.h"

namespace hf::cli {
namespace {

// Microseconds since the epoch, from 2001 on: what else a number of that name may be is left alone.
constexpr uint64_t kTimesFromUs = 1'000'000'000'000'000;
constexpr size_t kTokenShown = 24;

// A signed token is for programs: its beginning tells it from another.
bool is_signed_token(std::string_view text) {
  return text.starts_with("eyJ") && text.size() > 4 * kTokenShown &&
         std::ranges::count(text, '.') == 2;
}
constexpr size_t kCellMax = size_t{64} << 10;

// What reached this site in a VM's journal was written by another one.
std::string harmless(std::string_view text) { return clean_text(text, kCellMax); }

std::string text_of(const sys::JsonValue& value) {
  switch (value.kind()) {
    case boost::json::kind::null:
      return "-";
    case boost::json::kind::string: {
      const boost::json::string& raw = value.get_string();
      const std::string text = harmless({raw.data(), raw.size()});
      if (is_signed_token(text))
        return text.substr(0, kTokenShown) + "… (a signed token: -o json shows it)";
      return text.empty() ? "-" : text;
    }
    case boost::json::kind::bool_:
      return value.as_bool() ? "yes" : "no";
    default:
      return harmless(sys::to_text(value));
  }
}

// A time as a time: "created_us" is shown as "created".
std::pair<std::string, std::string> shown_member(std::string name, const sys::JsonValue& value) {
  const uint64_t micros = value.is_uint64() ? value.as_uint64()
                          : value.is_int64() && value.as_int64() > 0
                              ? static_cast<uint64_t>(value.as_int64())
                              : 0;
  if (!name.ends_with("_us") || micros < kTimesFromUs) return {std::move(name), text_of(value)};
  name.resize(name.size() - 3);
  return {std::move(name), time_text(micros)};
}

void print_line(const std::vector<std::string>& cells, const std::vector<size_t>& widths) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    line += cells[i];
    if (i + 1 < cells.size()) line += std::string(widths[i] - cells[i].size() + 2, ' ');
  }
  std::puts(line.c_str());
}

void flatten(const sys::JsonObject& object, const std::string& prefix,
             std::vector<std::pair<std::string, std::string>>& into) {
  for (const auto& member : object) {
    std::string name =
        prefix + harmless(std::string_view(member.key().data(), member.key().size()));
    if (member.value().is_object()) {
      flatten(member.value().as_object(), name + ".", into);
    } else if (member.value().is_array()) {
      const sys::JsonArray& items = member.value().as_array();
      if (items.empty()) into.emplace_back(name, "-");
      for (size_t i = 0; i < items.size(); ++i) {
        std::string indexed = fmt::format("{}[{}]", name, i);
        if (items[i].is_object()) {
          flatten(items[i].as_object(), indexed + ".", into);
        } else {
          into.emplace_back(indexed, text_of(items[i]));
        }
      }
    } else {
      into.push_back(shown_member(name, member.value()));
    }
  }
}

}  // namespace

std::string cell(const sys::JsonObject& row, const std::string& member) {
  size_t dot = member.find('.');
  const sys::JsonValue* value = row.if_contains(member.substr(0, dot));
  if (value == nullptr) return "-";
  if (dot == std::string::npos) return shown_member(member, *value).second;
  return value->is_object() ? cell(value->as_object(), member.substr(dot + 1)) : "-";
}

std::string time_text(uint64_t micros) {
  std::time_t seconds = static_cast<std::time_t>(micros / 1'000'000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string time_text(const sys::JsonObject& row, const std::string& member) {
  Result<uint64_t> micros = sys::get_u64(row, member);
  return micros.ok() && *micros != 0 ? time_text(*micros) : "-";
}

void print_rows(const Context& context, const sys::JsonArray& rows,
                const std::vector<Column>& columns) {
  if (context.format == Format::kJson) {
    std::puts(sys::to_text(sys::JsonValue(rows)).c_str());
    return;
  }
  std::vector<std::vector<std::string>> lines(1);
  std::vector<size_t> widths;
  for (const Column& column : columns) {
    lines[0].push_back(column.title);
    widths.push_back(column.title.size());
  }
  for (const sys::JsonValue& row : rows) {
    std::vector<std::string> cells;
    for (size_t i = 0; i < columns.size(); ++i) {
      cells.push_back(row.is_object() ? cell(row.as_object(), columns[i].member) : "-");
      widths[i] = std::max(widths[i], cells.back().size());
    }
    lines.push_back(std::move(cells));
  }
  for (const auto& line : lines) print_line(line, widths);
}

void print_object(const Context& context, const sys::JsonObject& object) {
  if (context.format == Format::kJson) {
    std::puts(sys::to_text(object).c_str());
    return;
  }
  std::vector<std::pair<std::string, std::string>> lines;
  flatten(object, "", lines);
  size_t width = 0;
  for (const auto& [name, value] : lines) width = std::max(width, name.size());
  for (const auto& [name, value] : lines) {
    std::puts((name + std::string(width - name.size() + 2, ' ') + value).c_str());
  }
}

std::string error_text(const Context& context, const Error& given) {
  const Error error = completed(given);
  if (context.format == Format::kJson)
    return sys::to_text(sys::JsonObject{{"error", sys::error_to_json(error)}}) + "\n";
  return fmt::format("error:  {}\neffect: {}\nmend:   {}\n", error.cause, error.effect, error.mend);
}

void print_error(const Context& context, const Error& error) {
  std::fputs(error_text(context, error).c_str(), stderr);
}

}  // namespace hf::cli
