// holdfast protection …
#include <CLI/CLI.hpp>

#include "cli/core/grammar.h"
#include "cli/operator_words.h"

namespace hf::cli {
namespace {

struct ProtectionOptions {
  std::string vm;
  std::string peer;
  bool without_peer = false;
};

std::string target(const std::string& vm) { return "/v1/vms/" + url_escape(vm) + "/protection"; }

Status protection_enable(const Context& context, const ProtectionOptions& options) {
  Client client = context.client();
  const MemberWord word = TRY(say_member(context, options.vm, options.peer));
  auto protected_there = [&]() -> Result<sys::JsonObject> {
    return follow_job(context, client,
                      TRY(client.post(target(options.vm), {{"to", options.peer}})));
  }();
  if (!protected_there.ok()) take_back(context, word);
  print_object(context, TRY(std::move(protected_there)));
  return {};
}

Status protection_disable(const Context& context, const ProtectionOptions& options) {
  Client client = context.client();
  // Before: where a replica is removed, the VM goes with it.
  const VmId vm = TRY(vm_named(context, options.vm));
  std::string how;
  if (options.without_peer)
    how = "?without_peer=1&word=" + TRY(say_word(context, vm.hex(), title::Act::kExpel));
  sys::JsonValue job = TRY(client.remove(target(options.vm) + how));
  sys::JsonObject done = TRY(follow_job(context, client, job));
  TRY(say_no_members(context, vm));
  print_object(context, done);
  return {};
}

Status protection_show(const Context& context, const ProtectionOptions& options) {
  Client client = context.client();
  if (!options.vm.empty()) {
    sys::JsonValue one = TRY(client.get(target(options.vm)));
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
              {"LAG RECORDS", "lag_records"},
              {"ERROR", "error.cause"}});
  return {};
}

}  // namespace

void add_protection(CLI::App& app, Line& line) {
  CLI::App* protection = noun(app, "protection", "replication to another site");
  auto options = std::make_shared<ProtectionOptions>();
  CLI::App* enable = protection->add_subcommand("enable", "protect a VM");
  enable->add_option("vm", options->vm, "the VM's name")->required();
  enable->add_option("--to", options->peer, "the paired site")->type_name(kSiteWord)->required();
  verb(enable, line,
       [options](const Context& context) { return protection_enable(context, *options); });
  CLI::App* disable = protection->add_subcommand("disable", "end a VM's protection");
  disable->add_option("vm", options->vm, "the VM's name")->required();
  disable->add_flag("--without-peer", options->without_peer,
                    "although the other site cannot be asked, or knows nothing of it: what it has "
                    "stays there (audited)");
  verb(disable, line,
       [options](const Context& context) { return protection_disable(context, *options); });
  CLI::App* show = protection->add_subcommand("show", "state, RPO, positions");
  show->add_option("vm", options->vm, "one VM (default: all)");
  verb(show, line,
       [options](const Context& context) { return protection_show(context, *options); });
}

}  // namespace hf::cli
