// The daemon's log: lines on stderr, which the launcher keeps. Never a secret, never guest data.
#pragma once

#include <cstddef>
#include <string_view>

#include "base/ids.h"
#include "base/log_limiter.h"
#include "base/mutex.h"

namespace hf::control {

void log_start();
void log_info(std::string_view text);
void log_warning(std::string_view text);
void log_error(std::string_view text);

enum class PeerDoes {
  kPairing,  // first contacts that failed
  kRequest,  // questions of paired sites that failed
  kOrder,    // a VM was taken over, or is to be
  kReplica,  // a replica here that its source asks for does not run
};
inline constexpr size_t kPeerDoings = 4;

// What other sites cause, strangers among them: base/log_limiter.h says how many of a kind are
// written. Control characters of the text are cleaned, and it is cut. Thread-safe.
class PeerLog {
 public:
  // Of strangers, all together.
  void line(PeerDoes kind, std::string_view text);
  // Of a paired site: counted by itself.
  void line(PeerDoes kind, SiteId site, std::string_view text);

 private:
  using Limiter = LogLimiter<PeerDoes, kPeerDoings>;
  static void write(Limiter::Verdict verdict, std::string_view text);

  Mutex mutex_;
  Limiter limiter_ HF_GUARDED_BY(mutex_);
};

}  // namespace hf::control
