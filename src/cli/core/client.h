// Calls to holdfastd over its unix socket.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/json.h"

namespace hf::cli {

// What is waited for beside an answer. `ready` is called whenever `fd` can be read, or is at its
// end; false ends the call.
struct Watch {
  int fd = -1;
  std::function<bool()> ready;
};

class Client {
 public:
  explicit Client(std::string state) : state_(std::move(state)) {}

  Result<sys::JsonValue> get(const std::string& target);
  Result<sys::JsonValue> post(const std::string& target, const sys::JsonObject& body);
  Result<sys::JsonValue> put(const std::string& target, const sys::JsonObject& body);
  Result<sys::JsonValue> remove(const std::string& target);
  // Raw bytes as the body.
  Status post_bytes(const std::string& target, std::string_view bytes,
                    const std::vector<Watch>& watches = {});
  // Chunks as they come, until the end or until `take` or a watch returns false.
  Status stream(const std::string& target, const std::function<bool(std::string_view)>& take,
                const std::vector<Watch>& watches = {});

  const std::string& state() const { return state_; }

 private:
  struct Call;
  struct Outcome {
    int curl = 0;              // a CURLcode
    bool watch_ended = false;  // then `curl` says nothing
    bool nobody_left = false;  // the launcher has gone, and with it who would answer
  };
  Result<Call> prepare(const std::string& target) const;
  Outcome perform(Call& call, const std::vector<Watch>& watches) const;
  // kTimeout: a watch ended it.
  Result<sys::JsonValue> ask(const char* method, const std::string& target, const std::string* body,
                             const std::vector<Watch>& watches = {});
  std::string api_socket() const { return state_ + "/run/api.sock"; }
  // Why nobody answered: this user may not ask, or nobody is there.
  Error unreachable(std::string_view why) const;

  std::string state_;
};

// This user may not connect to the socket: who may, and how he becomes one of them.
Error not_permitted(const std::string& state, const std::string& socket);

std::string url_escape(std::string_view text);

}  // namespace hf::cli
