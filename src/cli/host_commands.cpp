// holdfast host …
#include <CLI/CLI.hpp>

#include "cli/core/grammar.h"

namespace hf::cli {
namespace {

Status host_show(const Context& context) {
  sys::JsonValue host = TRY(context.client().get("/v1/host"));
  if (host.is_object()) print_object(context, host.as_object());
  return {};
}

}  // namespace

void add_host(CLI::App& app, Line& line) {
  CLI::App* host = noun(app, "host", "this host");
  verb(host->add_subcommand("show", "accelerator, firmware, versions"), line, host_show);
}

}  // namespace hf::cli
