// holdfast-vault: a site's keys. Serves the listeners "vault-admin", "vault-keys", "vault-launcher"
// and "vault-operators" that it inherits; with --init creates a vault and ends, with --check reads
// and verifies all of one. A fifth descriptor, "keepers", may have the body of a bind_keepers
// request: which keepers run already.

#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "crypto/crypto.h"
#include "sys/inherited_fds.h"
#include "sys/json.h"
#include "sys/process.h"
#include "sys/system_clock.h"
#include "vault/core/vault.h"
#include "vault/protocol/protocol.h"
#include "vault_server/sandbox.h"
#include "vault_server/server.h"

namespace {

using hf::Error;
using hf::ErrorCode;
using hf::Result;
using hf::Status;

constexpr std::string_view kUsage =
    "usage: holdfast-vault --init --dir DIR --name SITE [--secret-file FILE]\n"
    "       holdfast-vault --dir DIR [--secret-file FILE] [--admin-uid UID] [--launcher-uid UID]\n"
    "                      [--operator-uid UID] [--operators-gid GID]\n"
    "                      [--keeper-uids FIRST-LAST]\n"
    "       holdfast-vault --check --dir DIR [--secret-file FILE]\n";

struct Arguments {
  bool init = false;
  bool check = false;
  bool help = false;
  std::string directory;
  std::string name;
  std::optional<std::string> secret_file;
  uint32_t admin_uid = ::geteuid();
  uint32_t launcher_uid = ::geteuid();
  uint32_t operator_uid = ::geteuid();  // besides root
  std::optional<uint32_t> operators_gid;
  std::optional<hf::vault::UidRange> keeper_uids;
};

Error usage_error(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = std::move(cause),
               .effect = "the vault did not start; nothing was changed",
               .mend = "see holdfast-vault --help"};
}

Result<uint32_t> parse_uid(std::string_view flag, std::string_view text) {
  uint32_t uid = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), uid);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
    return usage_error(std::string(flag) + " takes numbers of users");
  }
  return uid;
}

Result<hf::vault::UidRange> parse_uids(std::string_view flag, std::string_view text) {
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return usage_error(std::string(flag) + " takes FIRST-LAST");
  const hf::vault::UidRange range{.first = TRY(parse_uid(flag, text.substr(0, dash))),
                                  .last = TRY(parse_uid(flag, text.substr(dash + 1)))};
  if (range.first > range.last) return usage_error(std::string(flag) + " names no users");
  return range;
}

// Where users are apart, keepers are none of those who decide about keys.
Status check_users(const Arguments& arguments) {
  if (!arguments.keeper_uids) return {};
  for (const uint32_t uid : {0u, static_cast<uint32_t>(::geteuid()), arguments.admin_uid,
                             arguments.launcher_uid, arguments.operator_uid}) {
    if (arguments.keeper_uids->holds(uid)) {
      return usage_error(fmt::format("user {} is among the keepers' and has another office", uid));
    }
  }
  // Else holdfastd had the operators' word.
  if (arguments.operator_uid == arguments.admin_uid) {
    return usage_error(fmt::format("user {} runs holdfastd and cannot be an operator too",
                                   arguments.operator_uid));
  }
  return {};
}

Result<Arguments> parse_arguments(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--init") {
      out.init = true;
    } else if (flag == "--check") {
      out.check = true;
    } else if (flag == "--help") {
      out.help = true;
    } else if (i + 1 >= argc) {
      return usage_error("unknown argument, or one without its value: " + std::string(flag));
    } else if (flag == "--dir") {
      out.directory = argv[++i];
    } else if (flag == "--name") {
      out.name = argv[++i];
    } else if (flag == "--secret-file") {
      out.secret_file = argv[++i];
    } else if (flag == "--admin-uid") {
      out.admin_uid = TRY(parse_uid(flag, argv[++i]));
    } else if (flag == "--launcher-uid") {
      out.launcher_uid = TRY(parse_uid(flag, argv[++i]));
    } else if (flag == "--operator-uid") {
      out.operator_uid = TRY(parse_uid(flag, argv[++i]));
    } else if (flag == "--operators-gid") {
      out.operators_gid = TRY(parse_uid(flag, argv[++i]));
    } else if (flag == "--keeper-uids") {
      out.keeper_uids = TRY(parse_uids(flag, argv[++i]));
    } else {
      return usage_error("unknown argument: " + std::string(flag));
    }
  }
  if (!out.help && out.directory.empty()) return usage_error("--dir is missing");
  TRY(check_users(out));
  return out;
}

Result<hf::sys::UniqueFd> stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0)
    return hf::errno_error(errno, "sigprocmask");
  hf::sys::UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC));
  if (!fd.valid()) return hf::errno_error(errno, "signalfd");
  return fd;
}

// Prints what `holdfast site init` keeps: the id, and the CA's fingerprint to compare at pairing.
Status init(const Arguments& arguments, hf::Clock& clock, hf::Rng& rng) {
  const hf::vault::SiteIdentity site = TRY(hf::vault::Vault::init(
      {.directory = arguments.directory, .secret = {.secret_file = arguments.secret_file}},
      arguments.name, clock, rng));
  const auto ca = TRY(hf::crypto::Certificate::from_pem(site.ca_certificate_pem));
  fmt::print("{{\"site_id\":\"{}\",\"name\":\"{}\",\"ca_fingerprint\":\"{}\",\"unlock\":\"{}\"}}\n",
             site.site.hex(), site.name, ca.fingerprint().hex(),
             arguments.secret_file ? "secret_file" : "host_secret");
  return {};
}

// Not while the vault runs: it holds the directory's lock.
Status check(const Arguments& arguments, hf::Clock& clock, hf::Rng& rng) {
  const auto vault = TRY(hf::vault::Vault::open(
      {.directory = arguments.directory, .secret = {.secret_file = arguments.secret_file}}, clock,
      rng));
  const hf::vault::CheckSummary found = TRY(vault->check());
  for (const std::string& problem : found.problems) fmt::print(stderr, "{}\n", problem);
  fmt::print(
      "{{\"site_id\":\"{}\",\"name\":\"{}\",\"keys\":{},\"recipients\":{},"
      "\"freshness_records\":{},\"attestation_records\":{},\"audit_lines\":{},\"audit_head\":\"{}"
      "\",\"problems\":{}}}\n",
      vault->identity().site.hex(), vault->identity().name, found.keys, found.recipients,
      found.freshness_records, found.attestation_records, found.audit.lines, found.audit.head.hex(),
      found.problems.size());
  if (found.problems.empty()) return {};
  return Error{.code = ErrorCode::kCorrupt,
               .cause = found.problems.front(),
               .effect = "what that file holds cannot be used; nothing was changed",
               .mend = "restore it from a copy of the vault's directory"};
}

// The keepers that run on over the end of the vault before this one.
Status bind_running_keepers(hf::vault::Vault& vault, hf::sys::InheritedFds& inherited,
                            uint32_t launcher_uid) {
  if (!inherited.has("keepers")) return {};
  const hf::sys::UniqueFd file = TRY(inherited.take("keepers"));
  const hf::Bytes body = TRY(hf::sys::read_all(file.get(), hf::vault::kMaxBody));
  hf::vault::Reader reader(body);
  const hf::vault::KeeperBindings keepers = hf::vault::decode_keeper_bindings(reader);
  TRY(reader.finish("keepers"));
  return vault.bind_keepers(keepers, {.uid = launcher_uid, .pid = ::getppid()});
}

Status serve(const Arguments& arguments, hf::Clock& clock, hf::Rng& rng) {
  hf::sys::InheritedFds inherited = TRY(hf::sys::take_inherited_fds());
  hf::vault_server::Server::Listeners listeners{
      .admin = TRY(inherited.take("vault-admin")),
      .keys = TRY(inherited.take("vault-keys")),
      .launcher = TRY(inherited.take("vault-launcher")),
      .operators = TRY(inherited.take("vault-operators"))};
  const auto vault = TRY(hf::vault::Vault::open({.directory = arguments.directory,
                                                 .secret = {.secret_file = arguments.secret_file},
                                                 .keepers = arguments.keeper_uids},
                                                clock, rng));
  TRY(bind_running_keepers(*vault, inherited, arguments.launcher_uid));
  hf::sys::UniqueFd stop = TRY(stop_signals());
  const auto locked = hf::vault_server::lock_memory();
  TRY(hf::vault_server::restrict_files(arguments.directory));
  TRY(hf::vault_server::restrict_system_calls());
  fmt::print(stderr, "holdfast-vault: serving site {} ({}), opened by {}, memory locked: {}\n",
             vault->identity().name, vault->identity().site.hex(),
             arguments.secret_file ? "a secret file" : "host.secret",
             locked == hf::vault_server::MemoryLock::kWhole ? "all" : "key pages only");
  hf::vault_server::Server server(*vault, clock, std::move(listeners), std::move(stop),
                                  {.admin = arguments.admin_uid,
                                   .launcher = arguments.launcher_uid,
                                   .operators = arguments.operator_uid,
                                   .operators_group = arguments.operators_gid});
  return server.run();
}

Status run(int argc, char** argv) {
  const Arguments arguments = TRY(parse_arguments(argc, argv));
  if (arguments.help) {
    fmt::print("{}", kUsage);
    return {};
  }
  TRY(hf::sys::harden_process());
  ::umask(077);
  hf::sys::SystemClock clock;
  hf::crypto::SystemRng rng;
  if (arguments.init) return init(arguments, clock, rng);
  return arguments.check ? check(arguments, clock, rng) : serve(arguments, clock, rng);
}

}  // namespace

int main(int argc, char** argv) {
  const Status status = run(argc, argv);
  if (status.ok()) return 0;
  Error error = status.error();
  if (error.effect.empty()) error.effect = "the vault did not start";
  const std::string line = hf::sys::start_failure_line(error);
  std::fwrite(line.data(), 1, line.size(), stderr);
  return 1;
}
