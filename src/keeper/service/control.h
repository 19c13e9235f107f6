// The control socket: what may be asked there and how it is written says
// keeper_protocol/control.h. For holdfastd.
#pragma once

#include <functional>

#include "keeper/service/local_server.h"
#include "keeper_protocol/control.h"

namespace hf::keeper {

using keeper_protocol::encode_reply;

// Called once with the answer's members, on the reactor's thread, at once or later; the client may
// be gone by then.
using ControlReply = std::move_only_function<void(Result<sys::JsonObject>)>;

class ControlHandler {
 public:
  virtual void handle(keeper_protocol::Question question, ControlReply reply) = 0;

 protected:
  ~ControlHandler() = default;
};

// Of a question that this keeper's mode does not have.
Error not_in_this_mode(const keeper_protocol::Question& question, std::string_view mode);

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
