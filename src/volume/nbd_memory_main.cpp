// holdfast-nbd-memory SOCKET SIZE_MIB [NAME]: serves a volume in memory by NBD until SIGTERM. What
// the protocol and the reactor cost without a journal; NBD clients are tested against it.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "sys/process.h"
#include "sys/unix_socket.h"
#include "volume/memory_volume.h"
#include "volume/nbd_server.h"

namespace {

hf::Status serve(const std::string& path, uint64_t size_bytes, const std::string& name) {
  sigset_t stop_signals;
  ::sigemptyset(&stop_signals);
  ::sigaddset(&stop_signals, SIGTERM);
  ::sigaddset(&stop_signals, SIGINT);
  ::sigprocmask(SIG_BLOCK, &stop_signals, nullptr);

  auto reactor = TRY(hf::sys::Reactor::create());
  hf::volume::MemoryVolume volume(*reactor, size_bytes);
  hf::volume::NbdServer server(
      *reactor, TRY(hf::sys::listen_unix(path, hf::sys::SocketType::kStream)),
      {.name = name, .description = "memory, lost at exit", .volume = &volume});
  server.start();
  std::thread signals([&] {
    int number = 0;
    ::sigwait(&stop_signals, &number);
    reactor->post([&] {
      server.stop();
      reactor->stop();
    });
  });
  std::puts("serving");
  std::fflush(stdout);
  reactor->run();
  while (!server.stopped()) reactor->run_once(hf::Micros(reactor->now().value + 1000));
  signals.join();
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::fputs("usage: holdfast-nbd-memory SOCKET SIZE_MIB [NAME]\n", stderr);
    return 2;
  }
  uint64_t size = std::strtoull(argv[2], nullptr, 10) << 20;
  hf::Status status = serve(argv[1], size, argc == 4 ? argv[3] : "disk");
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", hf::sys::startup_error_line(status.error()).c_str());
    return 1;
  }
  return 0;
}
