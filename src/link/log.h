// The link's log: lines on stderr, which the launcher keeps. What strangers cause is counted, not
// written: of each kind (of paired sites: and site) a few lines at once, then one in ten seconds,
// which says how many were left out. So nobody outside can push out of the log what matters. A
// reader that does not keep up costs lines, not time.
#pragma once

#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/log_limiter.h"

namespace hf::link {

enum class LogKind {
  kSite,      // connections with paired sites come and go
  kRefused,   // a certificate that is not trusted, or not the pinned one
  kStranger,  // connections that were given up before they said who they are
  kPairing,
  kProtocol,  // a peer broke the rules
  kDaemon,
  kClock,  // a paired site's clock shows another time than ours
};
inline constexpr size_t kLogKinds = 7;

using LogLimiter = hf::LogLimiter<LogKind, kLogKinds>;

class Log {
 public:
  // Makes stderr non-blocking.
  explicit Log(Clock& clock);
  // Control characters of `text` are cleaned, and it is cut.
  void line(LogKind kind, std::string_view text);
  // About a paired site, by whatever it does or whoever answers in its place: it is counted by
  // itself.
  void line(LogKind kind, SiteId site, std::string_view text);

 private:
  void write(LogLimiter::Verdict verdict, std::string_view text);

  Clock& clock_;
  LogLimiter limiter_;
};

}  // namespace hf::link
