// Calls to holdfastd over its unix socket.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "sys/json.h"

namespace hf::cli {

class Client {
 public:
  explicit Client(std::string state) : state_(std::move(state)) {}

  Result<sys::JsonValue> get(const std::string& target);
  Result<sys::JsonValue> post(const std::string& target, const sys::JsonObject& body);
  Result<sys::JsonValue> put(const std::string& target, const sys::JsonObject& body);
  Result<sys::JsonValue> remove(const std::string& target);
  // Raw bytes as the body.
  Status post_bytes(const std::string& target, std::string_view bytes);
  // Chunks as they come, until the end or until `take` returns false.
  Status stream(const std::string& target, const std::function<bool(std::string_view)>& take);

  const std::string& state() const { return state_; }

 private:
  struct Call;
  Result<sys::JsonValue> call(const char* method, const std::string& target,
                              const std::string* body);
  // Why nobody answered: this user may not ask, or nobody is there.
  Error unreachable(std::string_view why) const;

  std::string state_;
};

// This user may not connect to the socket: who may, and how he becomes one of them.
Error not_permitted(const std::string& state, const std::string& socket);

std::string url_escape(std::string_view text);

}  // namespace hf::cli
