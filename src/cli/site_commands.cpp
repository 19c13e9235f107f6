// holdfast site …
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/core/grammar.h"
#include "cli/core/parse.h"
#include "cli/operator_words.h"
#include "cli/site.h"

namespace hf::cli {
namespace {

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
  if (context.format != Format::kTable) return {};
  for (const sys::JsonValue& peer : peers.as_array()) {
    if (!peer.is_object()) continue;
    const sys::JsonValue* clock = peer.as_object().if_contains("clock");
    if (clock == nullptr || !clock->is_object()) continue;
    const Error said = sys::error_from_json(clock->as_object());
    std::fprintf(stderr, "%s: %s\n  mend: %s\n", said.cause.c_str(), said.effect.c_str(),
                 said.mend.c_str());
  }
  return {};
}

struct PairOptions {
  std::string token;
  bool new_token = false;
  std::string expires = "1h";
  std::string address;
};

Status site_pair(const Context& context, const PairOptions& options) {
  if (options.new_token == !options.token.empty()) {
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = "either a token or --new-token is needed, and not both",
        .effect = "nothing was done",
        .mend =
            "holdfast site pair --new-token here, then holdfast site pair TOKEN at the other site"};
  }
  if (options.new_token) {
    print_object(context, TRY(make_pairing_token(context, TRY(parse_duration(options.expires)),
                                                 options.address)));
    return {};
  }
  print_object(context, TRY(pair_by_token(context, options.token, options.address)));
  return {};
}

void add_init(CLI::App* site, Line& line) {
  CLI::App* init =
      site->add_subcommand("init", "make the state directory, the vault and the site's identity");
  auto options = std::make_shared<SiteInitOptions>();
  init->add_option("--name", options->name, "the site's name (default: the host's)");
  init->add_option("--listen", options->listen, "ADDRESS:PORT for other sites")
      ->capture_default_str();
  init->add_option("--advertise", options->advertise,
                   "HOST:PORT under which other sites reach this one (default: --listen)");
  init->add_option(
      "--uid-base", options->uid_base,
      "first of the users that run vault, daemon and VMs (default: as root, a free range); 0: all "
      "as the invoking user");
  init->add_option("--secret-file", options->secret_file,
                   "unlock the vault with this file instead of the host's own secret");
  verb(init, line, [options](const Context& context) { return site_init(context, *options); });
}

void add_pair(CLI::App* site, Line& line) {
  CLI::App* pair = site->add_subcommand("pair", "pair with another site by a one-time token");
  auto options = std::make_shared<PairOptions>();
  pair->add_option("token", options->token, "the token that the other site printed");
  pair->add_flag("--new-token", options->new_token, "make a token for the other site");
  pair->add_option("--expires", options->expires, "how long the token can be used")
      ->capture_default_str();
  pair->add_option(
      "--address", options->address,
      "HOST:PORT under which the other site reaches this one (default: --listen of site init)");
  verb(pair, line, [options](const Context& context) { return site_pair(context, *options); });
}

void add_stop(CLI::App* site, Line& line) {
  CLI::App* stop = site->add_subcommand("stop", "shut the VMs down, then stop the site");
  auto options = std::make_shared<SiteStopOptions>();
  stop->add_flag("--force", options->force, "cut the power of VMs instead of asking their guests");
  stop->add_option("--timeout", options->timeout_seconds, "seconds that the guests may take")
      ->capture_default_str();
  verb(stop, line, [options](const Context& context) { return site_stop(context, *options); });
}

}  // namespace

void add_site(CLI::App& app, Line& line) {
  CLI::App* site = noun(app, "site", "this site and its peers");
  add_init(site, line);
  CLI::App* start =
      site->add_subcommand("start", "start vault and daemon and wait until they answer");
  auto foreground = std::make_shared<bool>(false);
  start->add_flag("--foreground", *foreground, "stay in the foreground");
  verb(start, line,
       [foreground](const Context& context) { return site_start(context, *foreground); });
  add_stop(site, line);
  verb(site->add_subcommand("restart", "start launcher, vault, link and daemon anew; VMs run on"),
       line, site_restart);
  verb(site->add_subcommand("show", "name, identity, fingerprint"), line, site_show);
  verb(site->add_subcommand("peers", "paired sites and whether they answer"), line, site_peers);
  add_pair(site, line);
}

}  // namespace hf::cli
