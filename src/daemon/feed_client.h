// The asking side of a keeper's feed: durable sealed records (src/keeper/service/feed.h has the
// format).
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "sys/fd.h"

namespace hf::daemon {

struct FeedAnswer {
  Sequence durable;
  Micros oldest_time;
  Bytes records;
};

class FeedClient {
 public:
  static Result<FeedClient> connect(const std::string& socket_path);
  int fd() const { return socket_.get(); }
  // One question at a time; the answer comes after `wait_ms` at the latest.
  Status ask(const Position& after, size_t bytes_max, uint32_t wait_ms);
  Status ask_seed();
  Status ask_seed_bytes(uint64_t base, uint64_t offset, size_t length);
  // Of a question about a seed the bytes are `records`.
  // kConflict: not on the keeper's line. kNotFound: merged away. Others are passing.
  Result<FeedAnswer> answer(std::chrono::milliseconds limit);

 private:
  explicit FeedClient(sys::UniqueFd socket) : socket_(std::move(socket)) {}
  sys::UniqueFd socket_;
};

}  // namespace hf::daemon
