// Who may wait at the door: connections that have not said who they are. Pure bookkeeping.
//
// Strangers share `strangers_max` places, each origin at most `per_origin`; where all are taken,
// the one that has waited longest goes, so that silence holds nobody out for long. Addresses of
// paired sites have places of their own, that no stranger can take. Who is authenticated stands
// here no longer.
#pragma once

#include <list>
#include <map>
#include <optional>
#include <set>

#include "link/socket_address.h"

namespace hf::link {

struct DoorLimits {
  size_t strangers_max = 256;
  size_t per_origin = 16;
  size_t per_known_origin = 32;
};

class Doorkeeper {
 public:
  using Ticket = uint64_t;
  explicit Doorkeeper(DoorLimits limits = {}) : limits_(limits) {}

  // Origins of paired sites; those who stand at the door already keep the place they have.
  void set_known(std::set<Origin> known) { known_ = std::move(known); }

  struct Verdict {
    std::optional<Ticket> ticket;   // nullopt: no place
    std::optional<Ticket> evicted;  // whose place it is; leave() was done for it
  };
  Verdict admit(const Origin& origin);
  void leave(Ticket ticket);
  size_t waiting() const { return places_.size(); }

 private:
  struct Place {
    Origin origin;
    bool known = false;
    std::list<Ticket>::iterator in_order;
  };
  std::list<Ticket>& order_of(const Place& place);

  DoorLimits limits_;
  std::set<Origin> known_;
  Ticket next_ = 1;
  std::map<Ticket, Place> places_;
  std::list<Ticket> strangers_;  // oldest first
  std::map<Origin, std::list<Ticket>> known_waiting_;
  std::map<Origin, size_t> stranger_counts_;
};

}  // namespace hf::link
