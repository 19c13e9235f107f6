#include "cli/commands.h"

namespace hf::cli {

Status protection_enable(const Context& context, const std::string& vm, const std::string& peer) {
  Client client = context.client();
  sys::JsonValue job =
      TRY(client.post("/v1/vms/" + url_escape(vm) + "/protection", {{"to", peer}}));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

Status protection_disable(const Context& context, const std::string& vm) {
  Client client = context.client();
  sys::JsonValue job = TRY(client.remove("/v1/vms/" + url_escape(vm) + "/protection"));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

Status protection_show(const Context& context, const std::string& vm) {
  Client client = context.client();
  if (!vm.empty()) {
    sys::JsonValue one = TRY(client.get("/v1/vms/" + url_escape(vm) + "/protection"));
    if (one.is_object()) print_object(context, one.as_object());
    return {};
  }
  sys::JsonValue all = TRY(client.get("/v1/protections"));
  if (!all.is_array()) return {};
  print_rows(context, all.as_array(),
             {{"VM", "vm"},
              {"PEER", "peer"},
              {"DIRECTION", "direction"},
              {"STATE", "state"},
              {"RPO MS", "rpo_ms"},
              {"LAG BYTES", "lag_bytes"},
              {"ERROR", "error.cause"}});
  return {};
}

Status failover_unplanned(const Context& context, const FailoverOptions& options) {
  Client client = context.client();
  std::string where = "/v1/vms/" + url_escape(options.vm);
  if (!options.yes && !options.source_is_dead) {
    TRY(confirm("Run VM \"" + options.vm + "\" here from its newest replicated state?"));
  }
  sys::JsonValue job =
      TRY(client.post(where + "/failover", {{"kind", "unplanned"},
                                            {"source_is_dead", options.source_is_dead},
                                            {"attestation", options.attestation}}));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

}  // namespace hf::cli
