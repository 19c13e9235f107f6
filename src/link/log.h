// The link's log: lines on stderr, which the launcher keeps. What strangers cause is counted, not
// written: of each kind a few lines at once, then one in ten seconds, which says how many were left
// out. So nobody outside can push out of the log what matters. A reader that does not keep up costs
// lines, not time.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace hf::link {

enum class LogKind {
  kSite,      // connections with paired sites come and go
  kRefused,   // a certificate that is not trusted, or not the pinned one
  kStranger,  // connections that were given up before they said who they are
  kPairing,
  kProtocol,  // a peer broke the rules
  kDaemon,
};
inline constexpr size_t kLogKinds = 6;

// Which lines pass. Pure, so that tests need no waiting.
class LogLimiter {
 public:
  static constexpr uint32_t kBurst = 10;
  static constexpr uint64_t kRefillUs = 10'000'000;
  // How many of this kind were left out before it, if this one passes.
  struct Verdict {
    bool passes = false;
    uint64_t left_out = 0;
  };
  Verdict look(LogKind kind, Micros now);

 private:
  struct Bucket {
    uint32_t tokens = kBurst;
    uint64_t refilled_us = 0;
    uint64_t left_out = 0;
  };
  std::array<Bucket, kLogKinds> buckets_;
};

class Log {
 public:
  // Makes stderr non-blocking.
  explicit Log(Clock& clock);
  // Control characters of `text` are cleaned, and it is cut.
  void line(LogKind kind, std::string_view text);

 private:
  Clock& clock_;
  LogLimiter limiter_;
};

}  // namespace hf::link
