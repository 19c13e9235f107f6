// A listener that gives nobody, as without descriptors left, is asked again after a while: the
// keeper's thread serves a guest.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "keeper/service/local_server.h"
#include "keeper/ship/ship_socket.h"

namespace hf::keeper {
namespace {

class TurnCounter final : public sys::Task {
 public:
  void run() override { ++turns; }
  size_t turns = 0;
};

class Deaf final : public ShipHandler {
 public:
  void on_ship_open() override {}
  void on_ship_frame(const replication::Frame&) override {}
  void on_ship_closed(Error) override {}
};

// A socket that does not listen: accepting from it fails at once, each time.
sys::UniqueFd no_listener() {
  return sys::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

size_t turns_of(sys::Reactor& reactor, uint64_t span_us) {
  TurnCounter counter;
  reactor.each_turn(counter);
  const Micros until(reactor.now().value + span_us);
  while (reactor.now().value < until.value) reactor.run_once(until);
  reactor.end_turns(counter);
  return counter.turns;
}

TEST(Accepting, the_ship_socket_waits_where_accepting_fails) {
  const auto reactor = std::move(sys::Reactor::create()).value();
  Deaf handler;
  ShipSocket socket(*reactor, no_listener(), handler);
  socket.start();
  EXPECT_LT(turns_of(*reactor, 500'000), 50U);
  socket.stop();
  reactor->run_until([&] { return socket.stopped(); });
}

TEST(Accepting, a_local_server_waits_where_accepting_fails) {
  const auto reactor = std::move(sys::Reactor::create()).value();
  LocalServer server(*reactor, no_listener(), 4, [](LocalServer&, sys::UniqueFd) {
    return std::unique_ptr<LocalConnection>();
  });
  server.start();
  EXPECT_LT(turns_of(*reactor, 500'000), 50U);
  server.stop();
  reactor->run_until([&] { return server.stopped(); });
}

}  // namespace
}  // namespace hf::keeper
