#include "cli/core/launcher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>

#include "sys/fd.h"

namespace hf::cli {
namespace {

constexpr int64_t kLookEveryMs = 500;
constexpr int64_t kGoneMs = 2000;

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

// Only reads the file: a lock taken here, however short, could make a launcher's start fail.
Result<pid_t> running_launcher(const std::string& state) {
  Error none{.code = ErrorCode::kNotFound,
             .cause = "the site does not run: no launcher serves " + state,
             .effect = "nothing was done",
             .mend = "holdfast --state " + state + " site start"};
  sys::UniqueFd file(::open((state + "/run/lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file && errno == EACCES) {
    return Error{.code = ErrorCode::kPermission,
                 .cause = "user " + std::to_string(::geteuid()) + " may not look into " + state +
                          "/run: it is another user's",
                 .effect = "nothing was done",
                 .mend = "run the command as root: sudo holdfast --state " + state + " ..."};
  }
  if (!file) return errno == ENOENT ? none : errno_error(errno, "open " + state + "/run/lock");
  std::string text(as_text(TRY(sys::read_all(file.get(), 64))));
  pid_t pid = 0;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (failed != std::errc{} || pid <= 1) return none;
  std::error_code unreadable;
  std::string program =
      std::filesystem::read_symlink(fmt::format("/proc/{}/exe", pid), unreadable).filename();
  if (program.starts_with("holdfast-launcher")) return pid;
  if (unreadable == std::errc::permission_denied) {
    return Error{.code = ErrorCode::kPermission,
                 .cause = fmt::format("process {} is another user's", pid)};
  }
  none.cause += fmt::format(" (the last one, process {}, has gone)", pid);
  return none;
}

Error nobody_serves(const std::string& state, std::string_view part, std::string_view why) {
  Result<pid_t> launcher = running_launcher(state);
  if (!launcher.ok() && launcher.error().code == ErrorCode::kNotFound) {
    Error error = std::move(launcher).error();
    error.code = ErrorCode::kUnavailable;
    return error;
  }
  Error error{.code = ErrorCode::kUnavailable,
              .cause = fmt::format("{} does not answer: {}", part, why),
              .effect = "nothing was done",
              .mend = "holdfast --state " + state + " site start"};
  if (launcher.ok()) {
    error.mend = fmt::format(
        "give the command again: the launcher starts anew what ends or hangs. If that is no help: "
        "holdfast --state {} site restart",
        state);
  }
  return error;
}

bool LauncherWatch::given_up() {
  const int64_t now = now_ms();
  if (now - looked_ms_ < kLookEveryMs) return false;
  looked_ms_ = now;
  const Result<pid_t> launcher = running_launcher(state_);
  if (launcher.ok() || launcher.error().code != ErrorCode::kNotFound) {
    gone_since_ms_ = 0;
    return false;
  }
  if (gone_since_ms_ == 0) gone_since_ms_ = now;
  return now - gone_since_ms_ >= kGoneMs;
}

}  // namespace hf::cli
