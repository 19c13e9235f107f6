// `site init`: makes the state directory, the vault and site.json. What it made goes again if a
// step fails; nothing else is touched.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <filesystem>

#include "base/host_port.h"
#include "base/text.h"
#include "cli/core/launcher.h"
#include "cli/core/programs.h"
#include "cli/site.h"
#include "launcher/protocol/site_config.h"
#include "launcher/tree/host_users.h"
#include "launcher/tree/site_parts.h"
#include "launcher/tree/site_registry.h"

namespace hf::cli {
namespace {

constexpr size_t kStatePathMax = 200;
constexpr std::string_view kEffect = "no site was made";

Error init_error(ErrorCode code, std::string cause, std::string mend) {
  return {.code = code,
          .cause = std::move(cause),
          .effect = std::string(kEffect),
          .mend = std::move(mend)};
}

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "site";
  std::string text(name);
  return text.substr(0, text.find('.'));
}

Status check_addresses(const SiteInitOptions& options) {
  Result<HostPort> listen = parse_host_port(options.listen);
  if (!listen.ok()) {
    return std::move(listen).error().context("--listen").with_effect(std::string(kEffect));
  }
  if (!options.advertise.empty()) {
    Result<HostPort> advertise = parse_reachable_address(options.advertise);
    if (advertise.ok()) return {};
    return std::move(advertise).error().context("--advertise").with_effect(std::string(kEffect));
  }
  if (!listen->is_wildcard()) return {};
  return init_error(ErrorCode::kInvalidArgument,
                    options.listen +
                        " is every address of this host: other sites could not be told where to "
                        "reach this one",
                    "name an address or name of this host too: --listen " + options.listen +
                        " --advertise HOST:" + std::to_string(listen->port));
}

Status check_options(const SiteInitOptions& options) {
  for (char c : options.name) {
    bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                c == '-' || c == '_' || c == '.';
    if (!good || options.name.size() > 64) {
      return init_error(ErrorCode::kInvalidArgument,
                        "\"" + clean_text(options.name, 80) + "\" is not a name for a site",
                        "choose 1 to 64 characters of letters, digits, '.', '_', '-'");
    }
  }
  TRY(check_addresses(options));
  return {};
}

// Another site of this host that listens there could not run beside this one.
Status check_nobody_listens(const std::string& state, const std::string& listen) {
  const HostPort where = TRY(parse_host_port(listen));
  const std::vector<launcher::SiteRegistry::Entered> others =
      launcher::SiteRegistry::of_host().sites();
  const auto who_listens = [&](uint16_t port) {
    return std::ranges::find_if(others, [&](const launcher::SiteRegistry::Entered& other) {
      const Result<HostPort> there = parse_host_port(other.site.listen);
      const bool one_is_all = there.ok() && (there->is_wildcard() || where.is_wildcard());
      return there.ok() && there->port == port && (one_is_all || there->host == where.host);
    });
  };
  const auto other = who_listens(where.port);
  if (other == others.end()) return {};
  HostPort free = where;
  while (free.port < 65535 && who_listens(free.port) != others.end()) ++free.port;
  return init_error(ErrorCode::kConflict,
                    fmt::format("site {} ({}) of this host listens at {} too", other->site.name,
                                other->state, other->site.listen),
                    fmt::format("holdfast --state {} site init --listen {}", state, free.text()));
}

// With the command for who wants what is there.
Error with_use(Error error, const std::string& state) {
  if (error.code != ErrorCode::kExists || !std::filesystem::exists(state + "/site.json"))
    return error;
  const bool runs = running_launcher(state).ok();
  error.mend = fmt::format(
      "holdfast --state {} site {}; another site needs a directory of its own: --state DIR", state,
      runs ? "show" : "start");
  return error;
}

// The first of the site's users: the one that was given, if its range is nobody's, or a free one.
Result<uint32_t> settle_users(const Context& context, std::optional<uint32_t> given) {
  if (given == 0 || (!given && ::geteuid() != 0)) return 0;
  if (::geteuid() != 0) {
    return init_error(ErrorCode::kPermission, "separate users for the site's processes need root",
                      "run the command as root, or leave --uid-base out");
  }
  std::vector<launcher::TakenIds> taken = launcher::taken_ids();
  std::ranges::move(launcher::SiteRegistry::of_host().taken(), std::back_inserter(taken));
  const std::vector<launcher::TakenIds> reserved = launcher::reserved_ids();
  if (!given) return launcher::choose_uid_base(taken, reserved);
  TRY(launcher::check_user_range(*given, taken, reserved));
  const launcher::TakenIds* later = launcher::overlapping(*given, reserved);
  if (later != nullptr && !context.quiet) {
    std::fprintf(stderr,
                 "warning: useradd may give users of this site to others one day: they lie in %s. "
                 "Without --uid-base a range outside is chosen.\n",
                 later->by.c_str());
  }
  return *given;
}

// As settle_users(), said as a command.
Result<uint32_t> settle_for(const Context& context, const std::string& state,
                            std::optional<uint32_t> given) {
  if (std::filesystem::exists(state + "/site.json")) return 0;  // begin() refuses it
  Result<uint32_t> settled = settle_users(context, given);
  if (settled.ok()) return settled;
  Error error = std::move(settled).error();
  const size_t flag = error.mend.find("--uid-base ");
  if (flag != std::string::npos)
    error.mend = "holdfast --state " + state + " site init " + error.mend.substr(flag);
  return error;
}

// So that the next site of this host keeps off this one's users.
void enter_site(const launcher::SiteConfig& config, const std::string& state) {
  if (config.uid_base == 0) return;
  Status entered = launcher::SiteRegistry::of_host().enter(config.site_id, state);
  if (entered.ok()) return;
  std::fprintf(stderr, "warning: other sites of this host do not know of this one's users: %s\n",
               entered.error().cause.c_str());
}

// The vault's own line: {"site_id":…,…}.
Result<SiteId> init_vault(const std::string& state, const SiteInitOptions& options,
                          uid_t vault_uid) {
  std::vector<std::string> argv{
      program_path("holdfast-vault"), "--init", "--dir", state + "/vault", "--name", options.name};
  if (!options.secret_file.empty()) {
    argv.emplace_back("--secret-file");
    argv.push_back(options.secret_file);
  }
  Finished vault = TRY(run_program(argv, vault_uid));
  if (vault.status != 0) {
    if (std::optional<Error> said = sys::find_start_failure(vault.errors)) return *said;
    return init_error(
        ErrorCode::kInternal,
        fmt::format("holdfast-vault ended with status {}: {}", vault.status, vault.errors),
        "run it by hand to see more: " + argv[0] + " --init --dir " + state + "/vault");
  }
  sys::JsonObject identity =
      TRY_CONTEXT(sys::parse_json_object(vault.output), "holdfast-vault --init");
  return SiteId::parse_hex(TRY(sys::get_string(identity, "site_id")));
}

}  // namespace

Status site_init(const Context& context, const SiteInitOptions& given) {
  SiteInitOptions options = given;
  if (options.name.empty()) options.name = host_name();
  TRY(check_options(options));
  std::string state = std::filesystem::weakly_canonical(context.state).string();
  if (state.size() > 1 && state.back() == '/') state.pop_back();
  if (state.size() > kStatePathMax) {
    return init_error(ErrorCode::kInvalidArgument,
                      fmt::format("the path of the state directory is {} characters long, more "
                                  "than {}",
                                  state.size(), kStatePathMax),
                      "choose a shorter one with --state");
  }
  if (!options.secret_file.empty())
    options.secret_file = std::filesystem::absolute(options.secret_file).string();
  // A site that is there is what matters, and not that its users or its port are taken.
  if (!std::filesystem::exists(state + "/site.json"))
    TRY(check_nobody_listens(state, options.listen));
  const uint32_t uid_base = TRY(settle_for(context, state, options.uid_base));
  launcher::Users users{.uid_base = uid_base, .self = ::geteuid()};
  Result<launcher::SiteParts> begun = launcher::SiteParts::begin(state, uid_base != 0);
  if (!begun.ok()) return with_use(std::move(begun).error(), state);
  launcher::SiteParts parts = std::move(*begun);
  auto make = [&](const std::string& name, mode_t mode, uid_t owner) {
    return parts.make_directory(name, mode, owner, uid_base == 0 ? ::getegid() : owner);
  };
  TRY(make("vault", 0700, users.vault()));
  TRY(make("daemon", 0700, users.daemon()));
  TRY(parts.make_directory("vms", 0711, users.self, ::getegid()));
  launcher::SiteConfig config{.name = options.name,
                              .site_id = TRY(init_vault(state, options, users.vault())),
                              .listen = options.listen,
                              .advertise = options.advertise,
                              .uid_base = uid_base,
                              .vault_secret_file = options.secret_file};
  TRY(parts.write_file("site.json", 0644, launcher::to_text(config) + "\n"));
  parts.keep();
  enter_site(config, state);
  if (uid_base == 0 && !context.quiet) {
    std::fprintf(
        stderr,
        "warning: all parts of this site run as one user; only the kernel's view of processes "
        "keeps them apart. Use --uid-base as root for separate users.\n");
  }
  print_object(context, {{"name", config.name},
                         {"site_id", config.site_id.hex()},
                         {"state", state},
                         {"listen", config.listen},
                         {"advertise", config.reached_at()},
                         {"uid_base", config.uid_base}});
  return {};
}

}  // namespace hf::cli
