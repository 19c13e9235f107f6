#include "cli/commands.h"

namespace hf::cli {

Status site_show(const Context& context) {
  sys::JsonValue site = TRY(context.client().get("/v1/site"));
  if (site.is_object()) print_object(context, site.as_object());
  return {};
}

Status site_peers(const Context& context) {
  sys::JsonValue peers = TRY(context.client().get("/v1/peers"));
  if (!peers.is_array()) return {};
  print_rows(context, peers.as_array(),
             {{"NAME", "name"},
              {"ADDRESS", "address"},
              {"STATE", "state"},
              {"SITE", "site_id"},
              {"CA FINGERPRINT", "ca_fingerprint"},
              {"ERROR", "error.cause"}});
  return {};
}

Status site_pair(const Context& context, const SitePairOptions& options) {
  Client client = context.client();
  if (options.new_token == !options.token.empty()) {
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = "either a token or --new-token is needed, and not both",
        .effect = "nothing was done",
        .mend =
            "holdfast site pair --new-token here, then holdfast site pair TOKEN at the other site"};
  }
  if (options.new_token) {
    sys::JsonValue made = TRY(client.post(
        "/v1/pairing/tokens",
        {{"expires_seconds", TRY(parse_duration(options.expires))}, {"address", options.address}}));
    if (made.is_object()) print_object(context, made.as_object());
    return {};
  }
  sys::JsonValue paired =
      TRY(client.post("/v1/pairing", {{"token", options.token}, {"address", options.address}}));
  if (paired.is_object()) print_object(context, paired.as_object());
  return {};
}

Status host_show(const Context& context) {
  sys::JsonValue host = TRY(context.client().get("/v1/host"));
  if (host.is_object()) print_object(context, host.as_object());
  return {};
}

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

}  // namespace hf::cli
