// holdfast-vault: a site's keys. Serves the listeners "vault-admin" and "vault-keys" that it
// inherits; with --init creates a vault and ends, with --check reads and verifies all of one.

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
#include "vaultd/sandbox.h"
#include "vaultd/server.h"

namespace {

using hf::Error;
using hf::ErrorCode;
using hf::Result;
using hf::Status;

constexpr std::string_view kUsage =
    "usage: holdfast-vault --init --dir DIR --name SITE [--secret-file FILE]\n"
    "       holdfast-vault --dir DIR [--secret-file FILE] [--admin-uid UID]\n"
    "       holdfast-vault --check --dir DIR [--secret-file FILE]\n";

struct Arguments {
  bool init = false;
  bool check = false;
  bool help = false;
  std::string directory;
  std::string name;
  std::optional<std::string> secret_file;
  uint32_t admin_uid = ::geteuid();
};

Error usage_error(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = std::move(cause),
               .effect = "the vault did not start; nothing was changed",
               .mend = "see holdfast-vault --help"};
}

Result<uint32_t> parse_uid(std::string_view text) {
  uint32_t uid = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), uid);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
    return usage_error("--admin-uid takes a number");
  }
  return uid;
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
      out.admin_uid = TRY(parse_uid(argv[++i]));
    } else {
      return usage_error("unknown argument: " + std::string(flag));
    }
  }
  if (!out.help && out.directory.empty()) return usage_error("--dir is missing");
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

Status serve(const Arguments& arguments, hf::Clock& clock, hf::Rng& rng) {
  hf::sys::InheritedFds inherited = TRY(hf::sys::take_inherited_fds());
  hf::vaultd::Server::Listeners listeners{.admin = TRY(inherited.take("vault-admin")),
                                          .keys = TRY(inherited.take("vault-keys"))};
  const auto vault = TRY(hf::vault::Vault::open(
      {.directory = arguments.directory, .secret = {.secret_file = arguments.secret_file}}, clock,
      rng));
  hf::sys::UniqueFd stop = TRY(stop_signals());
  const auto locked = hf::vaultd::lock_memory();
  TRY(hf::vaultd::restrict_files(arguments.directory));
  TRY(hf::vaultd::restrict_system_calls());
  fmt::print(stderr, "holdfast-vault: serving site {} ({}), opened by {}, memory locked: {}\n",
             vault->identity().name, vault->identity().site.hex(),
             arguments.secret_file ? "a secret file" : "host.secret",
             locked == hf::vaultd::MemoryLock::kWhole ? "all" : "key pages only");
  hf::vaultd::Server server(*vault, clock, std::move(listeners), std::move(stop),
                            arguments.admin_uid);
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
