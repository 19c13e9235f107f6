#include "control/core/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <string>

#include "base/log_limiter.h"
#include "base/mutex.h"
#include "base/text.h"
#include "sys/system_clock.h"

namespace hf::control {

namespace {
constexpr size_t kPeerLineMax = 1'000;

using PeerLimiter = LogLimiter<PeerLog, kPeerLogs>;

template <typename Look>
void write_limited(Look look, std::string_view text) {
  static Mutex mutex;
  static PeerLimiter limiter;
  sys::SystemClock clock;
  PeerLimiter::Verdict verdict;
  {
    MutexLock lock(mutex);
    verdict = look(limiter, clock.monotonic());
  }
  if (!verdict.passes) return;
  std::string line = clean_text(text, kPeerLineMax);
  if (verdict.left_out != 0)
    line += " (and " + std::to_string(verdict.left_out) + " of this kind before it, not written)";
  spdlog::warn("{}", line);
}

}  // namespace

void log_start() {
  auto logger = spdlog::stderr_logger_mt("holdfastd");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

// As an argument, never as the format: the text may hold braces.
void log_info(std::string_view text) { spdlog::info("{}", text); }
void log_warning(std::string_view text) { spdlog::warn("{}", text); }
void log_error(std::string_view text) { spdlog::error("{}", text); }

void log_peer(PeerLog kind, std::string_view text) {
  write_limited([&](PeerLimiter& limiter, Micros now) { return limiter.look(kind, now); }, text);
}

void log_peer(PeerLog kind, SiteId site, std::string_view text) {
  write_limited([&](PeerLimiter& limiter, Micros now) { return limiter.look(kind, site, now); },
                text);
}

}  // namespace hf::control
