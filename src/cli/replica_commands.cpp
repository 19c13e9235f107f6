// holdfast replica …
#include <CLI/CLI.hpp>

#include "cli/core/grammar.h"
#include "cli/core/parse.h"

namespace hf::cli {
namespace {

struct EvictOptions {
  std::string vm;
  std::string of;
  bool yes = false;
};

Status replica_list(const Context& context) {
  sys::JsonValue replicas = TRY(context.client().get("/v1/replicas"));
  if (!replicas.is_array()) return {};
  print_rows(context, replicas.as_array(),
             {{"VM", "vm"},
              {"OF SITE", "peer"},
              {"STATE", "state"},
              {"LAG RECORDS", "lag_records"},
              {"ID", "vm_id"},
              {"ERROR", "error.cause"}});
  return {};
}

Status replica_evict(const Context& context, const EvictOptions& options) {
  Client client = context.client();
  std::string where = "/v1/replicas/" + url_escape(options.vm);
  if (!options.of.empty()) where += "?of=" + url_escape(options.of);
  if (!options.yes)
    TRY(confirm("Remove the replica of VM \"" + options.vm +
                "\" with its key, without asking its source? If that is lost, so is the VM."));
  sys::JsonValue job = TRY(client.remove(where));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

Status replica_accept(const Context& context, const EvictOptions& options) {
  sys::JsonValue accepted = TRY(context.client().post(
      "/v1/replicas/" + url_escape(options.vm) + "/accept", {{"of", options.of}}));
  if (accepted.is_object()) print_object(context, accepted.as_object());
  return {};
}

}  // namespace

void add_replica(CLI::App& app, Line& line) {
  CLI::App* replica = noun(app, "replica", "replicas here of other sites' VMs");
  verb(replica->add_subcommand("list", "all replicas, whether they receive, and offers that wait"),
       line, replica_list);
  CLI::App* accept = replica->add_subcommand("accept", "agree to an offer that waits");
  auto accepted = std::make_shared<EvictOptions>();
  accept->add_option("vm", accepted->vm, "the VM's name or id")->required();
  accept->add_option("--of", accepted->of, "the site that offers it, if several do");
  verb(accept, line,
       [accepted](const Context& context) { return replica_accept(context, *accepted); });
  CLI::App* evict = replica->add_subcommand(
      "evict", "remove a replica whose source is dead or not trusted; decline an offer");
  auto options = std::make_shared<EvictOptions>();
  evict->add_option("vm", options->vm, "the VM's name or id")->required();
  evict->add_option("--of", options->of, "of an offer: the site that made it, if several did");
  evict->add_flag("--yes", options->yes, "do not ask");
  verb(evict, line, [options](const Context& context) { return replica_evict(context, *options); });
}

}  // namespace hf::cli
