#include "sim/world/network.h"

namespace hf::sim {

namespace {
size_t index_of(End end) { return end == End::kCaller ? 0 : 1; }
End other(End end) { return end == End::kCaller ? End::kListener : End::kCaller; }
}  // namespace

ConnectionId SimNetwork::connect(Endpoint& caller, Endpoint& listener) {
  const ConnectionId id(next_++);
  Connection connection;
  connection.ends = {&caller, up_ ? &listener : nullptr};
  connection.broken = !up_;
  connections_[id] = connection;
  if (!up_) tell(id, End::kCaller);
  return id;
}

void SimNetwork::send(ConnectionId id, End from, Bytes message) {
  const auto found = connections_.find(id);
  if (found == connections_.end() || found->second.broken) {
    lost_++;
    return;
  }
  if (options_.loss_one_in > 0 && rng_.chance(1, options_.loss_one_in)) {
    lost_++;
    break_connection(id);
    return;
  }
  Micros& last = found->second.last_arrival[index_of(from)];
  const uint64_t delay = rng_.between(options_.delay_us_min, options_.delay_us_max);
  const Micros arrival(std::max(last.value + 1, scheduler_.now().value + delay));
  last = arrival;
  scheduler_.at(arrival, [this, id, from, message = std::move(message)] {
    const auto at = connections_.find(id);
    if (at == connections_.end() || at->second.broken) {
      lost_++;
      return;
    }
    Endpoint* to = at->second.ends[index_of(other(from))];
    if (to != nullptr) to->on_message(id, message);
  });
}

void SimNetwork::leave(ConnectionId id, End end) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  found->second.ends[index_of(end)] = nullptr;
  // As close() does: what this end has sent arrives, then the other hears of the end.
  const Micros last = found->second.last_arrival[index_of(end)];
  scheduler_.at(Micros(last.value + 1), [this, id] {
    if (connections_.contains(id)) break_connection(id);
  });
}

void SimNetwork::set_link_up(bool up) {
  up_ = up;
  if (up) return;
  std::vector<ConnectionId> all;
  for (const auto& [id, connection] : connections_) all.push_back(id);
  for (const ConnectionId id : all) break_connection(id);
}

void SimNetwork::break_connection(ConnectionId id) {
  Connection& connection = connections_.at(id);
  if (connection.broken) return;
  connection.broken = true;
  tell(id, End::kCaller);
  tell(id, End::kListener);
}

void SimNetwork::tell(ConnectionId id, End end) {
  scheduler_.after(rng_.between(1, options_.notice_us_max), [this, id, end] {
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;
    Endpoint* to = found->second.ends[index_of(end)];
    found->second.ends[index_of(end)] = nullptr;
    const bool forgotten = found->second.ends[0] == nullptr && found->second.ends[1] == nullptr;
    if (forgotten) connections_.erase(found);
    if (to != nullptr) to->on_closed(id);
  });
}

}  // namespace hf::sim
