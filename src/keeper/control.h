// The control socket: one JSON object a line, answered by one line. For the daemon.
//
//   {"op":"status"}                →
//   {"ok":true,"state":"serving","pid":…,"epoch":…,"incarnation":hex,
//                                     "appended":n,"durable":n,"chain":hex,"vtpm":"…","journal_public_key":hex,…}
//   {"op":"pin","sequence":n}      → the peer has everything up to n durably; {"op":"unpin"} ends
//   it
//   {"op":"stop"}                  → answers at once; the keeper then stops in order and exits
//   anything else                  → {"ok":false,"error":{…}}
#pragma once

#include "keeper/local_server.h"
#include "sys/json.h"

namespace hf::keeper {

class ControlHandler {
 public:
  virtual Result<sys::JsonObject> handle(const sys::JsonObject& request) = 0;

 protected:
  ~ControlHandler() = default;
};

class ControlServer {
 public:
  ControlServer(sys::Reactor& reactor, sys::UniqueFd listener, ControlHandler& handler);
  void start() { server_.start(); }
  void stop() { server_.stop(); }
  bool stopped() const { return server_.stopped(); }

 private:
  LocalServer server_;
};

}  // namespace hf::keeper
