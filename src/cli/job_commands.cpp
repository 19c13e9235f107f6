// holdfast job …
#include <CLI/CLI.hpp>

#include "cli/core/grammar.h"

namespace hf::cli {
namespace {

Status job_list(const Context& context) {
  sys::JsonValue jobs = TRY(context.client().get("/v1/jobs"));
  if (!jobs.is_array()) return {};
  print_rows(context, jobs.as_array(),
             {{"ID", "id"},
              {"KIND", "kind"},
              {"SUBJECT", "subject"},
              {"STATE", "state"},
              {"MS", "elapsed_ms"},
              {"ERROR", "error.cause"}});
  return {};
}

Status job_show(const Context& context, uint64_t id) {
  sys::JsonValue job = TRY(context.client().get("/v1/jobs/" + std::to_string(id)));
  if (job.is_object()) print_object(context, job.as_object());
  return {};
}

}  // namespace

void add_job(CLI::App& app, Line& line) {
  CLI::App* job = noun(app, "job", "long-running commands");
  verb(job->add_subcommand("list", "newest first"), line, job_list);
  CLI::App* show = job->add_subcommand("show", "one job");
  auto id = std::make_shared<uint64_t>(0);
  show->add_option("id", *id, "its number in job list")->required();
  verb(show, line, [id](const Context& context) { return job_show(context, *id); });
}

}  // namespace hf::cli
