// holdfast site …
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/core/grammar.h"
#include "cli/core/input.h"
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
              {"LAST SEEN", "last_seen_us"},
              {"ACCEPT", "accept"},
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

constexpr size_t kTokenFileMax = 4096;

struct PairOptions {
  std::string token;  // "-" or nothing: what stands on the line, others of this host can read
  std::string token_file;
  bool new_token = false;
  std::string expires = "1h";
  std::string address;
  std::string name;
};

// The token is a secret until it is used.
Result<std::string> read_token(const PairOptions& options) {
  if (!options.token.empty() && options.token != "-") {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "a token on the command line can be read by every user of this host",
                 .effect = "nothing was done; who saw it can use it until it expires",
                 .mend =
                     "make a new one (holdfast site pair --new-token at the other site) and give "
                     "it to holdfast site pair - on standard input, or by --token-file FILE"};
  }
  const std::string path = options.token.empty() ? options.token_file : options.token;
  if (path == "-" && ::isatty(STDIN_FILENO) != 0)
    std::fputs("the token that the other site printed, then Enter and Ctrl-D: ", stderr);
  Result<Bytes> bytes = read_input(path, kTokenFileMax);
  std::string token = bytes.ok() ? trimmed_text(*bytes) : "";
  if (bytes.ok() && !token.empty()) return token;
  Error error =
      bytes.ok()
          ? Error{.code = ErrorCode::kInvalidArgument,
                  .cause = (path == "-" ? "standard input" : path) + std::string(" holds no token")}
          : std::move(bytes).error();
  return std::move(error)
      .with_effect("nothing was done")
      .with_mend("holdfast site pair --new-token at the other site prints one");
}

Status site_pair(const Context& context, const PairOptions& options) {
  const int ways =
      int{options.new_token} + int{!options.token.empty()} + int{!options.token_file.empty()};
  if (ways != 1) {
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = "one of -, --token-file and --new-token is needed, and no more",
        .effect = "nothing was done",
        .mend =
            "holdfast site pair --new-token here, then holdfast site pair - at the other site, "
            "with the token on its standard input"};
  }
  if (options.new_token) {
    print_object(context, TRY(make_pairing_token(context, TRY(parse_duration(options.expires)),
                                                 options.address, options.name)));
    return {};
  }
  print_object(context, TRY(pair_by_token(context, TRY(read_token(options)), options.address,
                                          options.name)));
  return {};
}

struct UnpairOptions {
  std::string peer;
  std::vector<std::string> evict;
  bool yes = false;
};

Status site_unpair(const Context& context, const UnpairOptions& options) {
  Client client = context.client();
  std::string names;
  for (const std::string& vm : options.evict) names += (names.empty() ? "" : ",") + vm;
  if (!options.yes)
    TRY(confirm("End the trust in site \"" + options.peer + "\"" +
                (names.empty() ? "?"
                               : ", the protection of " + names +
                                     ", and remove those of them that are replicas here?")));
  // Whom the vault knows by that name is meant, whatever holdfastd makes of it.
  const std::optional<SiteId> pinned = TRY(recipient_named(context, options.peer));
  std::string target = "/v1/peers/" + url_escape(pinned ? pinned->hex() : options.peer);
  if (!names.empty()) target += "?evict=" + url_escape(names);
  auto unpaired = [&]() -> Result<sys::JsonObject> {
    return follow_job(context, client, TRY(client.remove(target)));
  }();
  // An earlier command may have come as far as that.
  const bool done_before = !unpaired.ok() && unpaired.error().code == ErrorCode::kNotFound;
  if (pinned && done_before)
    unpaired =
        sys::JsonObject{{"peer", options.peer}, {"peer_site_id", pinned->hex()}, {"paired", false}};
  const sys::JsonObject done = TRY(std::move(unpaired));
  if (pinned) TRY(say_no_recipient(context, *pinned));
  print_object(context, done);
  return {};
}

void add_unpair(CLI::App* site, Line& line) {
  CLI::App* unpair = site->add_subcommand("unpair", "end the trust in another site");
  auto options = std::make_shared<UnpairOptions>();
  unpair->add_option("peer", options->peer, "the other site's name or id")->required();
  unpair->add_option(
      "--evict", options->evict,
      "a VM whose protection ends with it; a replica here is removed; may be repeated");
  unpair->add_flag("--yes", options->yes, "do not ask");
  verb(unpair, line, [options](const Context& context) { return site_unpair(context, *options); });
}

struct PeerOptions {
  std::string peer;
  std::string accept;
  std::string quota;
};

Status site_peer_set(const Context& context, const PeerOptions& options) {
  sys::JsonObject body;
  if (!options.accept.empty()) body["accept"] = options.accept;
  if (options.quota == "none") body["quota_bytes"] = 0;
  if (!options.quota.empty() && options.quota != "none")
    body["quota_bytes"] = TRY(parse_size(options.quota));
  if (body.empty()) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "nothing to set",
                 .effect = "nothing was changed",
                 .mend = "give --accept yes|ask|no, --quota SIZE or both"};
  }
  sys::JsonValue now = TRY(context.client().put("/v1/peers/" + url_escape(options.peer), body));
  if (now.is_object()) print_object(context, now.as_object());
  return {};
}

void add_peer(CLI::App* site, Line& line) {
  CLI::App* peer = noun(*site, "peer", "what a paired site may place here");
  CLI::App* set = peer->add_subcommand("set", "whether it may place replicas here, and how much");
  auto options = std::make_shared<PeerOptions>();
  set->add_option("peer", options->peer, "the other site's name or id")->required();
  set->add_option("--accept", options->accept,
                  "yes; ask: each waits for holdfast replica accept; no");
  set->add_option(
      "--quota", options->quota,
      "what the disks of all VMs that it places here may hold together; none: no bound");
  verb(set, line, [options](const Context& context) { return site_peer_set(context, *options); });
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
                   "unlock the vault with this file instead of the host's own secret")
      ->type_name(kFileWord);
  verb(init, line, [options](const Context& context) { return site_init(context, *options); });
}

void add_pair(CLI::App* site, Line& line) {
  CLI::App* pair = site->add_subcommand("pair", "pair with another site by a one-time token");
  auto options = std::make_shared<PairOptions>();
  pair->add_option("token", options->token,
                   "-: reads the token that the other site printed from standard input");
  pair->add_option("--token-file", options->token_file, "reads it from this file");
  pair->add_flag("--new-token", options->new_token, "make a token for the other site");
  pair->add_option("--expires", options->expires, "how long the token can be used")
      ->capture_default_str();
  pair->add_option(
      "--address", options->address,
      "HOST:PORT under which the other site reaches this one (default: --listen of site init)");
  pair->add_option("--name", options->name,
                   "what this site calls the other one (default: what that calls itself)");
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
  add_peer(site, line);
  add_unpair(site, line);
}

}  // namespace hf::cli
