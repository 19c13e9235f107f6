#include "cli/core/follow.h"
#include "cli/core/launcher.h"
#include "cli/core/mends.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

namespace hf::cli {
namespace {

constexpr std::chrono::seconds kDaemonAway{15};  // one that died or hung is back within eight
constexpr unsigned kPercentStep = 10;            // lines of a log, where no terminal is

struct Text {
  std::array<char, 2048> bytes;
  size_t size = 0;
};

// What is said when a signal ends this program. The handler only writes what lies ready: it may
// interrupt anything.
class Farewell {
 public:
  Farewell() {
    for (size_t i = 0; i < kSignals.size(); ++i) {
      struct sigaction now{};
      now.sa_handler = &Farewell::leave;
      sigemptyset(&now.sa_mask);
      ::sigaction(kSignals[i], &now, &before_[i]);
      // Whoever started this program without them (nohup) means it.
      if (before_[i].sa_handler == SIG_IGN) ::sigaction(kSignals[i], &before_[i], nullptr);
    }
  }
  ~Farewell() {
    for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
    ready_ = -1;
  }
  Farewell(const Farewell&) = delete;
  Farewell& operator=(const Farewell&) = delete;

  void say(std::string_view text) {
    const int next = ready_ == 0 ? 1 : 0;
    Text& into = texts_[static_cast<size_t>(next)];
    into.size = std::min(text.size(), into.bytes.size());
    std::memcpy(into.bytes.data(), text.data(), into.size);
    ready_ = next;
  }

 private:
  static constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};
  static void leave(int signal) {
    const int at = ready_;
    if (at >= 0) {
      const Text& text = texts_[static_cast<size_t>(at)];
      static_cast<void>(!::write(STDERR_FILENO, text.bytes.data(), text.size));
    }
    ::_exit(128 + signal);
  }

  inline static std::array<Text, 2> texts_;
  inline static std::atomic<int> ready_ = -1;
  std::array<struct sigaction, 3> before_{};
};

std::string farewell_of(const Context& context, const sys::JsonObject& job) {
  const std::string id = cell(job, "id");
  const std::string own = own_words(context);
  const bool can = cell(job, "cancellable") == "yes";
  const Error told{.code = ErrorCode::kUnavailable,
                   .cause = fmt::format("interrupted; job {} ({} of \"{}\") was not waited for", id,
                                        cell(job, "kind"), cell(job, "subject")),
                   .effect = fmt::format("job {} goes on", id),
                   .mend = fmt::format("follow it: {} job follow {}; ", own, id) +
                           (can ? fmt::format("cancel it: {} job cancel {}", own, id)
                                : "it cannot be cancelled: " + cell(job, "not_cancellable"))};
  return (context.format == Format::kTable ? "\n" : "") + error_text(context, told);
}

// What the job has become. A holdfastd that dies is started again, and then knows how far it came.
Result<sys::JsonValue> look_at_job(Client& client, uint64_t id, uint64_t seen) {
  const auto end = std::chrono::steady_clock::now() + kDaemonAway;
  LauncherWatch launcher(client.state());
  for (;;) {
    Result<sys::JsonValue> answer =
        client.get(fmt::format("/v1/jobs/{}?wait_ms=10000&seen={}", id, seen));
    if (answer.ok() || answer.error().code != ErrorCode::kUnavailable) return answer;
    if (launcher.given_up() || std::chrono::steady_clock::now() >= end) {
      Error error = std::move(answer).error();
      error.effect = fmt::format("what became of job {} is not known", id);
      error.mend += fmt::format("; then holdfast --state {} job show {}", client.state(), id);
      return error;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

// Steps as they come, and how far the newest is: over and over on one line of a terminal.
class StepPrinter {
 public:
  explicit StepPrinter(const Context& context) : quiet_(context.quiet) {}
  ~StepPrinter() { end_line(); }
  StepPrinter(const StepPrinter&) = delete;
  StepPrinter& operator=(const StepPrinter&) = delete;

  Status print(const sys::JsonObject& job) {
    if (quiet_) return {};
    // One that a dead holdfastd did has none.
    static const sys::JsonArray kNoSteps;
    const sys::JsonArray* steps =
        job.contains("steps") ? TRY(sys::get_array(job, "steps")) : &kNoSteps;
    for (; shown_ < steps->size(); ++shown_) {
      end_line();
      percent_ = 0;
      const sys::JsonObject& step = (*steps)[shown_].as_object();
      line(TRY(sys::get_i64(step, "at_ms")), TRY(sys::get_string(step, "text")));
    }
    if (job.contains("percent"))
      print_percent(TRY(sys::get_i64(job, "elapsed_ms")), TRY(sys::get_u64(job, "percent")));
    return {};
  }
  void line(int64_t at_ms, const std::string& text) {
    end_line();
    if (!quiet_)
      std::fprintf(stderr, "%7.2f s  %s\n", static_cast<double>(at_ms) / 1000, text.c_str());
  }

 private:
  void print_percent(int64_t at_ms, uint64_t percent) {
    const double at = static_cast<double>(at_ms) / 1000;
    if (terminal_) {
      std::fprintf(stderr, "\r%7.2f s  %llu %%", at, static_cast<unsigned long long>(percent));
      std::fflush(stderr);
      open_line_ = true;
    } else if (percent >= percent_ + kPercentStep) {
      percent_ = percent / kPercentStep * kPercentStep;
      std::fprintf(stderr, "%7.2f s  %llu %%\n", at, static_cast<unsigned long long>(percent));
    }
  }
  void end_line() {
    if (std::exchange(open_line_, false)) std::fputc('\n', stderr);
  }

  const bool quiet_;
  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool open_line_ = false;
  size_t shown_ = 0;
  uint64_t percent_ = 0;
};

Error no_job() { return {.code = ErrorCode::kInternal, .cause = "holdfastd sent no job"}; }

}  // namespace

std::string own_words(const Context& context) {
  return context.state == kUsualState ? "holdfast" : "holdfast --state " + context.state;
}

Result<sys::JsonObject> await_job(const Context& context, Client& client,
                                  const sys::JsonValue& started) {
  if (!started.is_object()) return no_job();
  const uint64_t id = TRY(sys::get_u64(started.as_object(), "id"));
  Farewell farewell;
  farewell.say(farewell_of(context, started.as_object()));
  StepPrinter steps(context);
  for (uint64_t seen = 0;;) {
    sys::JsonValue answer = TRY(look_at_job(client, id, seen));
    if (!answer.is_object()) return no_job();
    sys::JsonObject& job = answer.as_object();
    seen = TRY(sys::get_u64_or(job, "version", 0));
    TRY(steps.print(job));
    const std::string state = TRY(sys::get_string(job, "state"));
    if (state == "running") {
      farewell.say(farewell_of(context, job));
      continue;
    }
    if (state == "done") steps.line(TRY(sys::get_i64(job, "elapsed_ms")), "done");
    return std::move(job);
  }
}

Result<sys::JsonObject> follow_job(const Context& context, Client& client,
                                   const sys::JsonValue& started) {
  const sys::JsonObject job = TRY(await_job(context, client, started));
  if (TRY(sys::get_string(job, "state")) != "done")
    return completed_of_site(sys::error_from_json(*TRY(sys::get_object(job, "error"))),
                             context.state);
  return *TRY(sys::get_object(job, "result"));
}

}  // namespace hf::cli
