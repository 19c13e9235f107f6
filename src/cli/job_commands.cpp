// holdfast job …
#include <CLI/CLI.hpp>

#include "cli/core/grammar.h"

namespace hf::cli {
namespace {

std::string target(uint64_t id) { return "/v1/jobs/" + std::to_string(id); }

Status job_list(const Context& context) {
  sys::JsonValue jobs = TRY(context.client().get("/v1/jobs"));
  if (!jobs.is_array()) return {};
  print_rows(context, jobs.as_array(),
             {{"ID", "id"},
              {"BEGAN", "created_us"},
              {"KIND", "kind"},
              {"SUBJECT", "subject"},
              {"STATE", "state"},
              {"%", "percent"},
              {"MS", "elapsed_ms"},
              {"BY", "actor"},
              {"ERROR", "error.cause"}});
  return {};
}

Status job_show(const Context& context, uint64_t id) {
  sys::JsonValue job = TRY(context.client().get(target(id)));
  if (job.is_object()) print_object(context, job.as_object());
  return {};
}

Status job_follow(const Context& context, uint64_t id) {
  Client client = context.client();
  print_object(context, TRY(follow_job(context, client, TRY(client.get(target(id))))));
  return {};
}

Status job_cancel(const Context& context, uint64_t id) {
  Client client = context.client();
  const sys::JsonValue told = TRY(client.post(target(id) + "/cancel", {}));
  const sys::JsonObject ended = TRY(await_job(context, client, told));
  const std::string state = TRY(sys::get_string(ended, "state"));
  if (state == "cancelled") {
    print_object(context, ended);
    return {};
  }
  if (state == "done") {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "job " + std::to_string(id) + " was done before it could be cancelled",
                 .effect = "what it did stands",
                 .mend = own_words(context) + " job show " + std::to_string(id)};
  }
  return sys::error_from_json(*TRY(sys::get_object(ended, "error")));
}

void add_one(CLI::App* job, Line& line, const std::string& name, const std::string& what,
             Status (*act)(const Context&, uint64_t)) {
  CLI::App* sub = job->add_subcommand(name, what);
  auto id = std::make_shared<uint64_t>(0);
  sub->add_option("id", *id, "its number in job list")->required();
  verb(sub, line, [id, act](const Context& context) { return act(context, *id); });
}

}  // namespace

void add_job(CLI::App& app, Line& line) {
  CLI::App* job = noun(app, "job", "long-running commands");
  verb(job->add_subcommand("list", "newest first"), line, job_list);
  add_one(job, line, "show", "one job", job_show);
  add_one(job, line, "follow", "its steps, until it has ended", job_follow);
  add_one(job, line, "cancel", "end one, where that leaves nothing half done", job_cancel);
}

}  // namespace hf::cli
