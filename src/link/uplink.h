// Towards holdfastd, as everything in the link sees it.
#pragma once

#include "link/event_loop.h"
#include "link/log.h"
#include "peer/link_protocol.h"

namespace hf::link {

class Uplink {
 public:
  // False: no holdfastd is connected, or it takes nothing: whoever asked another site is told.
  virtual bool reachable() const = 0;
  virtual void send(peer::LinkType type, uint64_t id, ByteSpan body, uint8_t flags = 0) = 0;
  // An id for what the link begins; messages of holdfastd with it are led to that site's Peer.
  virtual uint64_t new_id(SiteId site) = 0;
  virtual void drop_id(uint64_t id) = 0;  // also of ids that holdfastd gave; unknown ones: nothing

  virtual EventLoop& loop() = 0;
  virtual Log& log() = 0;

 protected:
  ~Uplink() = default;
};

}  // namespace hf::link
