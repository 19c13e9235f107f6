#include "cli/core/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <thread>

#include "cli/core/launcher.h"
#include "cli/core/mends.h"

namespace hf::cli {
namespace {

std::string text_of(const sys::JsonValue& value) {
  switch (value.kind()) {
    case boost::json::kind::null:
      return "-";
    case boost::json::kind::string: {
      std::string text(value.as_string());
      return text.empty() ? "-" : text;
    }
    case boost::json::kind::bool_:
      return value.as_bool() ? "yes" : "no";
    default:
      return sys::to_text(value);
  }
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
    std::string name = prefix + std::string(member.key());
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
      into.emplace_back(name, text_of(member.value()));
    }
  }
}

}  // namespace

std::string cell(const sys::JsonObject& row, const std::string& member) {
  size_t dot = member.find('.');
  const sys::JsonValue* value = row.if_contains(member.substr(0, dot));
  if (value == nullptr) return "-";
  if (dot == std::string::npos) return text_of(*value);
  return value->is_object() ? cell(value->as_object(), member.substr(dot + 1)) : "-";
}

std::string time_text(const sys::JsonObject& row, const std::string& member) {
  Result<uint64_t> micros = sys::get_u64(row, member);
  if (!micros.ok() || *micros == 0) return "-";
  std::time_t seconds = static_cast<std::time_t>(*micros / 1'000'000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
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

void print_error(const Context& context, const Error& given) {
  const Error error = completed(given);
  if (context.format == Format::kJson) {
    std::fprintf(stderr, "%s\n",
                 sys::to_text(sys::JsonObject{{"error", sys::error_to_json(error)}}).c_str());
    return;
  }
  std::fprintf(stderr, "error:  %s\n", error.cause.c_str());
  std::fprintf(stderr, "effect: %s\n", error.effect.c_str());
  std::fprintf(stderr, "mend:   %s\n", error.mend.c_str());
}

namespace {

constexpr std::chrono::seconds kDaemonAway{15};  // one that died or hung is back within eight

// What the job has become. A holdfastd that dies is started again, and then knows how far it came.
Result<sys::JsonValue> look_at_job(Client& client, uint64_t id, uint64_t seen) {
  const auto end = std::chrono::steady_clock::now() + kDaemonAway;
  LauncherWatch launcher(client.state());
  for (;;) {
    Result<sys::JsonValue> answer =
        client.get(fmt::format("/v1/jobs/{}?wait_ms=10000&seen={}", id, seen));
    if (answer.ok() || answer.error().code != ErrorCode::kUnavailable) return answer;
    if (launcher.given_up() || std::chrono::steady_clock::now() >= end) {
      Error error = std::move(answer).error();
      error.effect = fmt::format("what became of job {} is not known", id);
      error.mend += fmt::format("; then holdfast --state {} job show {}", client.state(), id);
      return error;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

}  // namespace

Result<sys::JsonObject> follow_job(const Context& context, Client& client,
                                   const sys::JsonValue& started) {
  if (!started.is_object())
    return Error{.code = ErrorCode::kInternal, .cause = "holdfastd sent no job"};
  uint64_t id = TRY(sys::get_u64(started.as_object(), "id"));
  uint64_t seen = 0;
  size_t shown = 0;
  for (;;) {
    sys::JsonValue answer = TRY(look_at_job(client, id, seen));
    if (!answer.is_object())
      return Error{.code = ErrorCode::kInternal, .cause = "holdfastd sent no job"};
    const sys::JsonObject& job = answer.as_object();
    seen = TRY(sys::get_u64_or(job, "version", 0));
    // One that a dead holdfastd did has none.
    static const sys::JsonArray kNoSteps;
    const sys::JsonArray* steps =
        job.contains("steps") ? TRY(sys::get_array(job, "steps")) : &kNoSteps;
    for (; shown < steps->size() && !context.quiet; ++shown) {
      const sys::JsonObject& step = (*steps)[shown].as_object();
      auto at = static_cast<double>(TRY(sys::get_i64(step, "at_ms")));
      std::fprintf(stderr, "%7.2f s  %s\n", at / 1000, TRY(sys::get_string(step, "text")).c_str());
    }
    std::string state = TRY(sys::get_string(job, "state"));
    if (state == "running") continue;
    if (state == "failed") {
      return completed_of_site(sys::error_from_json(*TRY(sys::get_object(job, "error"))),
                               context.state);
    }
    const sys::JsonObject* result = TRY(sys::get_object(job, "result"));
    if (!context.quiet) {
      std::fprintf(stderr, "%7.2f s  done\n",
                   static_cast<double>(TRY(sys::get_i64(job, "elapsed_ms"))) / 1000);
    }
    return *result;
  }
}

}  // namespace hf::cli
