// holdfast failover …
#include <CLI/CLI.hpp>

#include "cli/core/grammar.h"
#include "cli/core/parse.h"
#include "cli/operator_words.h"

namespace hf::cli {
namespace {

struct FailoverOptions {
  std::string vm;
  bool source_is_dead = false;
  bool yes = false;
  std::string attestation = "none";  // "none", "wait", "require"
};

Status failover_unplanned(const Context& context, const FailoverOptions& options) {
  Client client = context.client();
  std::string where = "/v1/vms/" + url_escape(options.vm);
  if (!options.yes && !options.source_is_dead) {
    TRY(confirm("Run VM \"" + options.vm + "\" here from its newest replicated state?"));
  }
  // By the vault's own socket: holdfastd can neither make it up nor keep it.
  std::string word;
  if (options.source_is_dead) word = TRY(say_word(context, options.vm, title::Act::kTake));
  sys::JsonValue job =
      TRY(client.post(where + "/failover", {{"kind", "unplanned"},
                                            {"source_is_dead", options.source_is_dead},
                                            {"word", word},
                                            {"attestation", options.attestation}}));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

}  // namespace

void add_failover(CLI::App& app, Line& line) {
  CLI::App* failover = noun(app, "failover", "take a VM over from another site");
  CLI::App* unplanned =
      failover->add_subcommand("unplanned", "run the newest replicated state here");
  auto options = std::make_shared<FailoverOptions>();
  unplanned->add_option("vm", options->vm, "the VM's name")->required();
  unplanned->add_flag("--source-is-dead", options->source_is_dead,
                      "your word that the VM does not run at its site any more");
  unplanned
      ->add_option("--attestation", options->attestation,
                   "wait for the verdict of the boot; require: stop the VM again unless Healthy")
      ->check(CLI::IsMember({"none", "wait", "require"}))
      ->capture_default_str();
  unplanned->add_flag("--yes", options->yes, "do not ask");
  verb(unplanned, line,
       [options](const Context& context) { return failover_unplanned(context, *options); });
}

}  // namespace hf::cli
