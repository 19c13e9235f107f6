// holdfast event …, holdfast audit …
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <thread>

#include "cli/core/grammar.h"
#include "cli/core/parse.h"

namespace hf::cli {
namespace {

struct ListOptions {
  std::string vm;
  std::string since;
  uint64_t newest = 50;
  bool follow = false;
};

Result<std::string> where(std::string_view what, const ListOptions& options) {
  std::string target = fmt::format("/v1/{}?newest={}", what, options.newest);
  if (!options.vm.empty()) target += "&vm=" + url_escape(options.vm);
  if (!options.since.empty()) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto now_us = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
    target +=
        fmt::format("&since_us={}", TRY(parse_since(options.since, static_cast<uint64_t>(now_us))));
  }
  return target;
}

Result<sys::JsonArray> rows_at(const Context& context, const std::string& target) {
  sys::JsonValue rows = TRY(context.client().get(target));
  if (rows.is_array()) return rows.as_array();
  return Error{.code = ErrorCode::kInternal, .cause = "holdfastd sent no list"};
}

const std::vector<Column>& event_columns() {
  static const std::vector<Column> kColumns{{"WHEN", "time_us"},    {"", "severity"},
                                            {"SUBJECT", "subject"}, {"BY", "actor"},
                                            {"FROM", "origin"},     {"WHAT", "text"}};
  return kColumns;
}

// As they come, a line each: whoever reads them may be a program.
void print_event(const Context& context, const sys::JsonObject& row) {
  if (context.format == Format::kJson) {
    std::puts(sys::to_text(row).c_str());
  } else {
    std::puts(fmt::format("{}  {:7}  {}  {}  [{}{}]", cell(row, "time_us"), cell(row, "severity"),
                          cell(row, "subject"), cell(row, "text"), cell(row, "actor"),
                          cell(row, "origin") == "-" ? "" : ", " + cell(row, "origin"))
                  .c_str());
  }
  std::fflush(stdout);
}

// Until it is interrupted. A holdfastd that is away for a while is waited for.
Status follow_events(const Context& context, const ListOptions& options) {
  uint64_t after = 0;
  bool away = false;
  for (bool first = true;; first = false) {
    ListOptions next = options;
    if (!first) next.newest = 1000;
    if (after > 0) next.since.clear();
    std::string target = TRY(where("events", next));
    if (after > 0) target += fmt::format("&after={}", after);
    if (!first) target += "&wait_ms=20000";
    Result<sys::JsonArray> rows = rows_at(context, target);
    if (!rows.ok() && (first || rows.error().code != ErrorCode::kUnavailable))
      return std::move(rows).error();
    if (!rows.ok()) {
      if (!away && !context.quiet)
        std::fprintf(stderr, "holdfastd does not answer; its events are waited for\n");
      away = true;
      std::this_thread::sleep_for(std::chrono::seconds(1));
      continue;
    }
    away = false;
    for (const sys::JsonValue& row : *rows) {
      after = TRY(sys::get_u64(row.as_object(), "id"));
      print_event(context, row.as_object());
    }
  }
}

Status event_list(const Context& context, const ListOptions& options) {
  if (options.follow) return follow_events(context, options);
  print_rows(context, TRY(rows_at(context, TRY(where("events", options)))), event_columns());
  return {};
}

Status audit_list(const Context& context, const ListOptions& options) {
  print_rows(context, TRY(rows_at(context, TRY(where("audit", options)))),
             {{"WHEN", "time_us"},
              {"BY", "actor"},
              {"ACT", "act"},
              {"SUBJECT", "subject"},
              {"DETAIL", "detail"}});
  return {};
}

std::shared_ptr<ListOptions> add_list(CLI::App* list) {
  auto options = std::make_shared<ListOptions>();
  list->add_option("vm,--vm", options->vm, "of one VM (default: all)");
  list->add_option("--since", options->since,
                   "not older: 30m, 2h, 1d, or a time as \"2026-11-28 14:00:00Z\" (UTC)");
  list->add_option("--newest", options->newest, "how many at most")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  return options;
}

}  // namespace

void add_events(CLI::App& app, Line& line) {
  CLI::App* event = noun(app, "event", "what happened");
  CLI::App* list = event->add_subcommand("list", "oldest first; by whom and from where");
  auto options = add_list(list);
  list->add_flag("-f,--follow", options->follow, "and what happens from now on, until Ctrl-C");
  verb(list, line, [options](const Context& context) { return event_list(context, *options); });
}

void add_audit(CLI::App& app, Line& line) {
  CLI::App* audit = noun(app, "audit", "what was changed, on whose word");
  CLI::App* list = audit->add_subcommand("list", "oldest first");
  auto options = add_list(list);
  verb(list, line, [options](const Context& context) { return audit_list(context, *options); });
}

}  // namespace hf::cli
