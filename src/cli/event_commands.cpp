// holdfast event …
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "cli/core/grammar.h"

namespace hf::cli {
namespace {

struct EventOptions {
  std::string vm;
  uint64_t newest = 50;
};

Status event_list(const Context& context, const EventOptions& options) {
  std::string where = fmt::format("/v1/events?newest={}", options.newest);
  if (!options.vm.empty()) where += "&vm=" + url_escape(options.vm);
  sys::JsonValue events = TRY(context.client().get(where));
  if (!events.is_array()) return {};
  sys::JsonArray rows = events.as_array();
  for (sys::JsonValue& row : rows) {
    if (row.is_object()) row.as_object()["when"] = time_text(row.as_object(), "time_us");
  }
  print_rows(context, rows,
             {{"WHEN", "when"}, {"", "severity"}, {"VM", "subject"}, {"WHAT", "text"}});
  return {};
}

}  // namespace

void add_events(CLI::App& app, Line& line) {
  CLI::App* event = noun(app, "event", "what happened");
  CLI::App* list = event->add_subcommand("list", "oldest first");
  auto options = std::make_shared<EventOptions>();
  list->add_option("vm", options->vm, "of one VM (default: all)");
  list->add_option("--newest", options->newest, "how many")->capture_default_str();
  verb(list, line, [options](const Context& context) { return event_list(context, *options); });
}

}  // namespace hf::cli
