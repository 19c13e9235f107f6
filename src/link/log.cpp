#include "link/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

namespace hf::link {
namespace {

constexpr size_t kLineMax = 600;

// Without localtime(): there is no file to read a zone from.
std::string stamp(Micros wall) {
  const auto seconds = static_cast<time_t>(wall.value / 1'000'000);
  tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     wall.value / 1000 % 1000);
}

}  // namespace

Log::Log(Clock& clock) : clock_(clock) {
  const int flags = ::fcntl(STDERR_FILENO, F_GETFL);
  if (flags >= 0) static_cast<void>(::fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK));
}

void Log::line(LogKind kind, std::string_view text) {
  write(limiter_.look(kind, clock_.monotonic()), text);
}

void Log::line(LogKind kind, SiteId site, std::string_view text) {
  write(limiter_.look(kind, site, clock_.monotonic()), text);
}

void Log::write(LogLimiter::Verdict verdict, std::string_view text) {
  if (!verdict.passes) return;
  std::string line = stamp(clock_.wall_time()) + " " + clean_text(text, kLineMax);
  if (verdict.left_out != 0)
    line += fmt::format(" (and {} of this kind before it, not written)", verdict.left_out);
  line += "\n";
  static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
}

}  // namespace hf::link
