// holdfast-link: the only process that the network reaches. It carries, and has no say.
//
// Inherits the listeners "link" (run/link.sock, for holdfastd) and "peers" (TCP, for other sites).
// Its TLS key is made here at each start and never leaves; certificate and peers come from
// holdfastd.
#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>

#include <cerrno>
#include <cstdio>

#include "link/link.h"
#include "link/sandbox.h"
#include "sys/inherited_fds.h"
#include "sys/json.h"
#include "sys/process.h"

namespace {

using hf::Result;
using hf::Status;

class StopSignal final : public hf::link::Watcher {
 public:
  explicit StopSignal(hf::link::EventLoop& loop) : loop_(loop) {}
  Status start() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0)
      return hf::errno_error(errno, "block signals");
    fd_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd_) return hf::errno_error(errno, "watch signals");
    return loop_.watch_level(fd_.get(), *this);
  }
  void on_ready(uint32_t) override { loop_.stop(); }

 private:
  hf::link::EventLoop& loop_;
  hf::sys::UniqueFd fd_;
};

// Whatever OpenSSL reads or makes at first use is there before the sandbox is.
Status warm_up(const hf::crypto::KeyPair& key) {
  ::tzset();  // else the first gmtime_r() would read /etc/localtime
  const auto ca = hf::crypto::make_ca(
      key, {.common_name = "warm-up", .now = hf::sys::SystemClock().wall_time(), .valid_days = 1});
  TRY(hf::link::TlsIdentity::make(key, ca, ca));
  return {};
}

Status run() {
  TRY(hf::sys::harden_process());
  hf::sys::InheritedFds inherited = TRY(hf::sys::take_inherited_fds());
  hf::link::LinkOptions options{.daemon_listener = TRY(inherited.take("link")),
                                .peer_listener = TRY(inherited.take("peers"))};
  TRY(hf::sys::set_nonblocking(options.daemon_listener.get(), true));
  TRY(hf::sys::set_nonblocking(options.peer_listener.get(), true));
  hf::sys::SystemClock clock;
  hf::link::Log log(clock);
  const auto loop = TRY(hf::link::EventLoop::create());
  StopSignal stop(*loop);
  TRY(stop.start());
  hf::crypto::KeyPair key = hf::crypto::KeyPair::generate_ec(hf::crypto::KeyKind::kEcP256);
  TRY(warm_up(key));
  TRY(hf::link::enter_sandbox());
  hf::link::Link link(*loop, log, std::move(key), std::move(options));
  TRY(link.start());
  loop->run();
  return {};
}

}  // namespace

int main(int argc, char**) {
  if (argc > 1) {
    fmt::print(stderr, "usage: holdfast-link (it is started by holdfast-launcher)\n");
    return 2;
  }
  const Status status = run();
  if (status.ok()) return 0;
  hf::Error error = status.error();
  if (error.effect.empty()) error.effect = "no other site is reached";
  const std::string line = hf::sys::start_failure_line(error);
  std::fwrite(line.data(), 1, line.size(), stderr);
  return 1;
}
