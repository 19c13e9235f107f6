// SimNetwork: connections between two ends as TCP gives them: messages arrive whole, in order and
// after a while; a connection that breaks loses a tail of what was under way in each direction, and
// each end hears of it in its own time (until then it may send into the void).
#pragma once

#include <map>

#include "sim/world/rng.h"
#include "sim/world/scheduler.h"

namespace hf::sim {

using ConnectionId = StrongNumber<struct ConnectionTag, uint64_t>;
enum class End : uint8_t { kCaller, kListener };

class Endpoint {
 public:
  virtual void on_message(ConnectionId connection, ByteSpan message) = 0;
  virtual void on_closed(ConnectionId connection) = 0;

 protected:
  ~Endpoint() = default;
};

class SimNetwork {
 public:
  struct Options {
    uint64_t delay_us_min = 50;
    uint64_t delay_us_max = 3'000;
    uint64_t notice_us_max = 20'000;  // until an end hears that its connection broke
    // A message in this many is lost, and with it its connection (0: none).
    uint64_t loss_one_in = 0;
  };
  SimNetwork(Scheduler& scheduler, SimRng rng, Options options)
      : scheduler_(scheduler), rng_(std::move(rng)), options_(options) {}
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;

  // Both ends outlive the connection or call leave(). While the link is down the caller hears
  // on_closed and the listener nothing.
  ConnectionId connect(Endpoint& caller, Endpoint& listener);
  void send(ConnectionId connection, End from, Bytes message);
  // This end is gone (closed or dead): it hears nothing more; the other gets what was sent, then
  // on_closed.
  void leave(ConnectionId connection, End end);
  void set_link_up(bool up);
  bool link_up() const { return up_; }
  uint64_t messages_lost() const { return lost_; }

 private:
  struct Connection {
    std::array<Endpoint*, 2> ends{};       // null once that end left or has been told
    std::array<Micros, 2> last_arrival{};  // in the direction from that end; keeps the order
    bool broken = false;
  };
  void break_connection(ConnectionId id);
  void tell(ConnectionId id, End end);

  Scheduler& scheduler_;
  SimRng rng_;
  Options options_;
  bool up_ = true;
  uint64_t next_ = 1;
  uint64_t lost_ = 0;
  std::map<ConnectionId, Connection> connections_;
};

}  // namespace hf::sim
