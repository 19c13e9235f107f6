// holdfast-vtpm-server: the vTPM alone, for tests and for comparison with swtpm. Not a product:
// its state stands in DIR in clear, and anyone who reaches the sockets commands the TPM.
//
//   holdfast-vtpm-server --state DIR --control SOCKET [--tcti SOCKET] [--incoming] [--power-on]
//                        [--key HEX] [--vm HEX] [--pcr-banks sha256,…] [--exit-on-shutdown]
//
// Prints one line, "ready", when it listens. SIGTERM: powers the TPM off and exits. With --incoming
// nothing is stored until SIGUSR1 says that the migration is complete.
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>

#include <fmt/format.h>

#include "sys/unix_socket.h"
#include "vtpm/control_server.h"
#include "vtpm/file_state_store.h"
#include "vtpm/manufacture.h"

namespace hf::vtpm {
namespace {

struct Arguments {
  std::string state;
  std::string control;
  std::string tcti;
  std::string key = std::string(64, '0');
  std::string vm = std::string(32, '0');
  std::string pcr_banks = "sha256";
  bool incoming = false;
  bool power_on = false;
  bool exit_on_shutdown = false;
};

Result<Arguments> parse(int argc, char** argv) {
  Arguments out;
  const std::pair<std::string_view, bool*> flags[] = {
      {"--incoming", &out.incoming},
      {"--power-on", &out.power_on},
      {"--exit-on-shutdown", &out.exit_on_shutdown}};
  const std::pair<std::string_view, std::string*> values[] = {
      {"--state", &out.state}, {"--control", &out.control}, {"--tcti", &out.tcti},
      {"--key", &out.key},     {"--vm", &out.vm},           {"--pcr-banks", &out.pcr_banks}};
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    bool known = false;
    for (const auto& [flag, where] : flags) {
      if (name == flag) *where = known = true;
    }
    for (const auto& [option, where] : values) {
      if (name != option || i + 1 >= argc) continue;
      *where = argv[++i];
      known = true;
      break;
    }
    if (!known)
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "unknown: " + std::string(name)};
  }
  if (out.state.empty() || out.control.empty()) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "--state and --control are needed"};
  }
  return out;
}

Result<std::vector<uint16_t>> parse_banks(std::string_view list) {
  constexpr std::pair<std::string_view, uint16_t> kBanks[] = {
      {"sha1", kAlgSha1}, {"sha256", kAlgSha256}, {"sha384", kAlgSha384}, {"sha512", kAlgSha512}};
  std::vector<uint16_t> out;
  while (!list.empty()) {
    const std::string_view name = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), name.size() + 1));
    const auto bank =
        std::ranges::find(kBanks, name, [](const auto& known) { return known.first; });
    if (bank == std::end(kBanks)) {
      return Error{.code = ErrorCode::kInvalidArgument,
                   .cause = "no PCR bank: " + std::string(name)};
    }
    out.push_back(bank->second);
  }
  return out;
}

Result<std::unique_ptr<Engine>> make_engine(const Arguments& arguments, FileStateStore& store) {
  EngineOptions options{.store = &store, .on_fatal = [](const Error& error) {
                          fmt::print(stderr, "fatal: {}\n", error.describe());
                        }};
  if (arguments.incoming) {
    options.commit_allowed = false;
    return Engine::await_incoming(std::move(options));
  }
  const std::optional<Bytes> state = TRY(store.load());
  if (state) return Engine::recover(std::move(options), *state);
  options.commit_allowed = false;
  std::unique_ptr<Engine> engine = TRY(Engine::create(std::move(options)));
  TRY(manufacture(*engine, {.pcr_banks = TRY(parse_banks(arguments.pcr_banks))}));
  TRY(engine->set_commit_allowed(true));
  return engine;
}

Status serve(const Arguments& arguments) {
  ::umask(077);
  if (::mkdir(arguments.state.c_str(), 0700) != 0 && errno != EEXIST) {
    return errno_error(errno, "create " + arguments.state);
  }
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  const sys::UniqueFd signal_fd(::signalfd(-1, &signals, SFD_CLOEXEC));

  FileStateStore store(arguments.state);
  const std::unique_ptr<Engine> engine = TRY(make_engine(arguments, store));
  const Bytes key_bytes = TRY_CONTEXT(from_hex(arguments.key), "--key");
  const VmId vm = TRY_CONTEXT(VmId::parse_hex(arguments.vm), "--vm");
  crypto::SystemRng rng;
  GspBlobSealer sealer(crypto::Secret::copy_of(key_bytes), vm, rng);

  ControlServerOptions options{
      .listener = TRY(sys::listen_unix(arguments.control, sys::SocketType::kStream)),
      .sealer = &sealer};
  if (!arguments.tcti.empty()) {
    options.tcti_data_listener = TRY(sys::listen_unix(arguments.tcti, sys::SocketType::kStream));
    options.tcti_control_listener =
        TRY(sys::listen_unix(arguments.tcti + ".ctrl", sys::SocketType::kStream));
  }
  options.on_error = [](const Error& error) { fmt::print(stderr, "{}\n", error.describe()); };
  if (arguments.exit_on_shutdown) options.on_shutdown = [] { ::kill(::getpid(), SIGTERM); };
  if (arguments.power_on) {
    TRY(engine->init());
    TRY(engine->process(startup_command(StartupType::kClear)));
  }
  ControlServer server(*engine, std::move(options));
  server.start();
  fmt::print("ready\n");
  std::fflush(stdout);

  signalfd_siginfo info{};
  while (::read(signal_fd.get(), &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1) {
    TRY(engine->set_commit_allowed(true));
  }
  server.stop();
  return engine->power_off();
}

}  // namespace
}  // namespace hf::vtpm

int main(int argc, char** argv) {
  const hf::Result<hf::vtpm::Arguments> arguments = hf::vtpm::parse(argc, argv);
  if (!arguments.ok()) {
    fmt::print(stderr, "holdfast-vtpm-server: {}\n", arguments.error().describe());
    return 2;
  }
  const hf::Status done = hf::vtpm::serve(*arguments);
  if (done.ok()) return 0;
  fmt::print(stderr, "holdfast-vtpm-server: {}\n", done.error().describe());
  return 1;
}
