// `site init`: makes the state directory, the vault and site.json. Undone if a step fails.
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <filesystem>

#include "cli/commands.h"
#include "cli/programs.h"
#include "launcher/site_config.h"
#include "sys/fd.h"

namespace hf::cli {
namespace {

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

Status check_options(const SiteInitOptions& options) {
  for (char c : options.name) {
    bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                c == '-' || c == '_' || c == '.';
    if (!good || options.name.size() > 64) {
      return init_error(ErrorCode::kInvalidArgument,
                        "\"" + options.name + "\" is not a name for a site",
                        "choose 1 to 64 characters of letters, digits, '.', '_', '-'");
    }
  }
  size_t colon = options.listen.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == options.listen.size()) {
    return init_error(ErrorCode::kInvalidArgument,
                      "\"" + options.listen + "\" is not an address to listen on",
                      "write it as ADDRESS:PORT, for example 192.0.2.10:7443");
  }
  if (options.uid_base != 0 && ::geteuid() != 0) {
    return init_error(ErrorCode::kPermission, "separate users for the site's processes need root",
                      "run the command as root, or leave --uid-base out");
  }
  return {};
}

Status make_directory(const std::string& path, mode_t mode, uid_t owner) {
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
    return errno_error(errno, "make " + path)
        .with_effect(std::string(kEffect))
        .with_mend("check the path: ls -ld " + path);
  }
  // The umask does not count here; the owner comes last, or the mode could not be set.
  if (::chmod(path.c_str(), mode) != 0 ||
      ::lchown(path.c_str(), owner, owner == ::geteuid() ? ::getegid() : owner) != 0) {
    return errno_error(errno, "set owner and mode of " + path).with_effect(std::string(kEffect));
  }
  return {};
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

Status write_config(const std::string& state, const launcher::SiteConfig& config) {
  std::string path = state + "/site.json";
  std::string fresh = path + ".new";
  sys::UniqueFd file(
      ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file) return errno_error(errno, "write " + fresh);
  TRY(sys::write_all(file.get(), as_bytes(launcher::to_text(config) + "\n")));
  if (::fchmod(file.get(), 0644) != 0 || ::fsync(file.get()) != 0)
    return errno_error(errno, "write " + fresh);
  if (::rename(fresh.c_str(), path.c_str()) != 0) return errno_error(errno, "write " + path);
  return {};
}

struct Made {
  std::string state;
  bool state_is_new = false;
  bool keep = false;
  ~Made() {
    if (keep) return;
    std::error_code ignored;
    for (const char* part : {"/vault", "/daemon", "/vms", "/run", "/site.json.new"}) {
      std::filesystem::remove_all(state + part, ignored);
    }
    if (state_is_new) std::filesystem::remove(state, ignored);
  }
};

}  // namespace

Status site_init(const Context& context, const SiteInitOptions& given) {
  SiteInitOptions options = given;
  if (options.name.empty()) options.name = host_name();
  TRY(check_options(options));
  std::string state = std::filesystem::absolute(context.state).lexically_normal().string();
  if (state.size() > 1 && state.back() == '/') state.pop_back();
  if (state.size() > 40) {
    // "run/vms/<32>/control.sock" must fit sun_path.
    return init_error(
        ErrorCode::kInvalidArgument,
        fmt::format(
            "the path of the state directory is {} characters long; sockets below it allow 40",
            state.size()),
        "choose a shorter one with --state");
  }
  if (!options.secret_file.empty())
    options.secret_file = std::filesystem::absolute(options.secret_file).string();
  std::error_code failed;
  for (const char* part : {"/site.json", "/vault", "/daemon", "/vms"}) {
    if (!std::filesystem::exists(state + part, failed)) continue;
    return init_error(ErrorCode::kExists,
                      state + " holds a site or parts of one (" + (part + 1) + ")",
                      "use it (holdfast --state " + state +
                          " site start), or choose another directory with --state");
  }
  Made made{.state = state, .state_is_new = !std::filesystem::exists(state, failed)};
  std::filesystem::create_directories(std::filesystem::path(state).parent_path(), failed);
  launcher::Users users{.uid_base = options.uid_base, .self = ::geteuid()};
  TRY(make_directory(state, 0755, users.self));
  TRY(make_directory(state + "/vault", 0700, users.vault()));
  TRY(make_directory(state + "/daemon", 0700, users.daemon()));
  TRY(make_directory(state + "/daemon/replicas", 0700, users.daemon()));
  TRY(make_directory(state + "/vms", 0711, users.self));
  launcher::SiteConfig config{.name = options.name,
                              .site_id = TRY(init_vault(state, options, users.vault())),
                              .listen = options.listen,
                              .uid_base = options.uid_base,
                              .vault_secret_file = options.secret_file};
  TRY(write_config(state, config));
  made.keep = true;
  if (options.uid_base == 0 && !context.quiet) {
    std::fprintf(
        stderr,
        "warning: all parts of this site run as one user; only the kernel's view of processes "
        "keeps them apart. Use --uid-base as root for separate users.\n");
  }
  print_object(context, {{"name", config.name},
                         {"site_id", config.site_id.hex()},
                         {"state", state},
                         {"listen", config.listen},
                         {"uid_base", config.uid_base}});
  return {};
}

}  // namespace hf::cli
