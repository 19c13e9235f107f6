// Asks a keeper on its control socket: one connection a question, from any thread.
#pragma once

#include <chrono>
#include <string>

#include "keeper_protocol/control.h"
#include "sys/fd.h"

namespace hf::keeper_protocol {

// An answer that may take as long as it likes: fd() is readable when there is something of it.
template <typename Asked>
class PendingAnswer {
 public:
  int fd() const { return socket_.get(); }
  // All of it, once, or the keeper's own error. kUnavailable: it closed the connection.
  Result<typename Asked::Reply> take(std::chrono::milliseconds limit);

 private:
  friend class Client;
  explicit PendingAnswer(sys::UniqueFd socket) : socket_(std::move(socket)) {}
  sys::UniqueFd socket_;
};

class Client {
 public:
  explicit Client(std::string control_socket) : path_(std::move(control_socket)) {}

  // kUnavailable: nobody answers there; kTimeout; or the keeper's own error.
  template <typename Asked>
  Result<typename Asked::Reply> ask(const Asked& question, std::chrono::milliseconds limit) const {
    sys::JsonObject members = TRY(ask_json(sys::encode_operation(question), limit));
    return decode_reply<typename Asked::Reply>(std::move(members));
  }
  // Asks, and leaves the answer for later; `limit` is for the question to be sent.
  template <typename Asked>
  Result<PendingAnswer<Asked>> begin(const Asked& question, std::chrono::milliseconds limit) const {
    return PendingAnswer<Asked>(TRY(send_json(sys::encode_operation(question), limit)));
  }

 private:
  template <typename Asked>
  friend class PendingAnswer;
  Result<sys::JsonObject> ask_json(const sys::JsonObject& question,
                                   std::chrono::milliseconds limit) const;
  Result<sys::UniqueFd> send_json(const sys::JsonObject& question,
                                  std::chrono::milliseconds limit) const;
  static Result<sys::JsonObject> take_json(int socket, std::chrono::milliseconds limit);
  std::string path_;
};

template <typename Asked>
Result<typename Asked::Reply> PendingAnswer<Asked>::take(std::chrono::milliseconds limit) {
  return decode_reply<typename Asked::Reply>(TRY(Client::take_json(socket_.get(), limit)));
}

}  // namespace hf::keeper_protocol
