#include "control/core/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <string>

#include "base/text.h"
#include "sys/system_clock.h"

namespace hf::control {

namespace {
constexpr size_t kPeerLineMax = 1'000;
}

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

void PeerLog::line(PeerDoes kind, std::string_view text) {
  const Micros now = sys::SystemClock().monotonic();
  Limiter::Verdict verdict;
  {
    MutexLock lock(mutex_);
    verdict = limiter_.look(kind, now);
  }
  write(verdict, text);
}

void PeerLog::line(PeerDoes kind, SiteId site, std::string_view text) {
  const Micros now = sys::SystemClock().monotonic();
  Limiter::Verdict verdict;
  {
    MutexLock lock(mutex_);
    verdict = limiter_.look(kind, site, now);
  }
  write(verdict, text);
}

void PeerLog::write(Limiter::Verdict verdict, std::string_view text) {
  if (!verdict.passes) return;
  std::string line = clean_text(text, kPeerLineMax);
  if (verdict.left_out != 0)
    line += " (and " + std::to_string(verdict.left_out) + " of this kind before it, not written)";
  spdlog::warn("{}", line);
}

}  // namespace hf::control
