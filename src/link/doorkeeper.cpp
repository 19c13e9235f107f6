#include "link/doorkeeper.h"

namespace hf::link {

std::list<Doorkeeper::Ticket>& Doorkeeper::order_of(const Place& place) {
  return place.known ? known_waiting_[place.origin] : strangers_;
}

Doorkeeper::Verdict Doorkeeper::admit(const Origin& origin) {
  Verdict verdict;
  Place place{.origin = origin, .known = known_.contains(origin)};
  const size_t max = place.known ? limits_.per_known_origin : limits_.strangers_max;
  if (!place.known) {
    const auto count = stranger_counts_.find(origin);
    if (count != stranger_counts_.end() && count->second >= limits_.per_origin) return verdict;
  }
  if (const std::list<Ticket>& order = order_of(place); order.size() >= max) {
    verdict.evicted = order.front();
    leave(*verdict.evicted);
  }
  const Ticket ticket = next_++;
  std::list<Ticket>& order = order_of(place);
  place.in_order = order.insert(order.end(), ticket);
  if (!place.known) ++stranger_counts_[origin];
  places_[ticket] = place;
  verdict.ticket = ticket;
  return verdict;
}

void Doorkeeper::leave(Ticket ticket) {
  const auto at = places_.find(ticket);
  if (at == places_.end()) return;
  const Place& place = at->second;
  order_of(place).erase(place.in_order);
  if (place.known) {
    if (known_waiting_[place.origin].empty()) known_waiting_.erase(place.origin);
  } else if (--stranger_counts_[place.origin] == 0) {
    stranger_counts_.erase(place.origin);
  }
  places_.erase(at);
}

}  // namespace hf::link
