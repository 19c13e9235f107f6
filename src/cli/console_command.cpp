// holdfast vm console: what the serial console said, what it says, and typing into it.
#include <sys/timerfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/text.h"
#include "cli/core/grammar.h"
#include "cli/terminal.h"

namespace hf::cli {
namespace {

constexpr char kLeave = 0x1d;  // Ctrl-]
constexpr const char* kHintWords = "Ctrl-] leaves the console";
constexpr std::string_view kHint = "\r\n[Ctrl-] leaves the console]\r\n";

std::string unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    char next = text[++i];
    out += next == 'n' ? '\n' : next == 'r' ? '\r' : next == 't' ? '\t' : next;
  }
  return out;
}

bool write_out(std::string_view chunk) {
  while (!chunk.empty()) {
    ssize_t put = ::write(STDOUT_FILENO, chunk.data(), chunk.size());
    if (put <= 0) return false;
    chunk.remove_prefix(static_cast<size_t>(put));
  }
  return true;
}

// A console on a terminal: one thread, which waits for the guest, for keys and for signals at once,
// so that Ctrl-] is heard whatever the guest, holdfastd or the network of the terminal do.
class Conversation {
 public:
  static Result<Conversation> begin(Client& client, std::string where, RawTerminal& terminal) {
    Conversation conversation(client, std::move(where), terminal);
    conversation.hint_due_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    const itimerspec once{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = kHintNs}};
    if (!conversation.hint_due_ ||
        ::timerfd_settime(conversation.hint_due_.get(), 0, &once, nullptr) != 0) {
      return errno_error(errno, "make a timer");
    }
    return conversation;
  }

  Status hold() {
    Status streamed =
        client_.stream(where_ + "?follow=1", [this](std::string_view chunk) { return show(chunk); },
                       {{STDIN_FILENO, [this] { return take_keys() && send_keys(); }},
                        {terminal_.signal_fd(), [this] { return terminal_.take_signal(); }},
                        {hint_due_.get(), [this] { return show_hint(); }}});
    return sent_.ok() ? streamed : sent_;
  }

 private:
  Conversation(Client& client, std::string where, RawTerminal& terminal)
      : client_(client), where_(std::move(where)), terminal_(terminal) {}

  // Not before what the console said so far: it would scroll away.
  bool show_hint() {
    uint64_t times = 0;
    if (::read(hint_due_.get(), &times, sizeof times) < 0) return true;
    return write_out(kHint);
  }

  bool show(std::string_view chunk) {
    terminal_.note(chunk);
    return write_out(chunk);
  }

  // False: to leave.
  bool take_keys() {
    char keys[256];
    const ssize_t got = ::read(STDIN_FILENO, keys, sizeof keys);
    if (got < 0 && errno == EINTR) return true;
    if (got <= 0) return false;  // the terminal has gone
    const std::string_view typed(keys, static_cast<size_t>(got));
    if (typed.find(kLeave) != std::string_view::npos) return false;
    // What people press who want to get out.
    for (const char key : typed) {
      interrupts_ = key == '\x03' || key == '\x04' ? interrupts_ + 1 : 0;
      if (interrupts_ > 0 && interrupts_ % kInterruptsMax == 0) write_out(kHint);
    }
    waiting_ += typed;
    return waiting_.size() <= kWaitingMax;
  }

  // Keys that are typed meanwhile go next; Ctrl-] ends the waiting.
  bool send_keys() {
    bool left = false;
    while (!waiting_.empty() && !left) {
      const std::string now = std::exchange(waiting_, {});
      const auto unless_left = [&](bool goes_on) {
        left = left || !goes_on;
        return goes_on;
      };
      Status sent = client_.post_bytes(
          where_, now,
          {{STDIN_FILENO, [&] { return unless_left(take_keys()); }},
           {terminal_.signal_fd(), [&] { return unless_left(terminal_.take_signal()); }}});
      if (left) return false;
      if (!sent.ok()) {
        sent_ = std::move(sent);
        return false;
      }
    }
    return !left;
  }

  static constexpr long kHintNs = 400'000'000;
  static constexpr int kInterruptsMax = 3;
  static constexpr size_t kWaitingMax = size_t{64} << 10;

  Client& client_;
  const std::string where_;
  RawTerminal& terminal_;
  sys::UniqueFd hint_due_;
  std::string waiting_;  // typed, and not sent yet
  int interrupts_ = 0;   // in a row
  Status sent_;
};

struct ConsoleOptions {
  std::string name;
  bool follow = false;
  std::string send;
};

Status vm_console(const Context& context, const ConsoleOptions& options) {
  Client client = context.client();
  std::string where = "/v1/vms/" + url_escape(options.name) + "/console";
  if (!options.send.empty()) return client.post_bytes(where, unescape(options.send));
  bool interactive = ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0;
  if (!interactive) return client.stream(where + (options.follow ? "?follow=1" : ""), write_out);
  Status held;
  {
    RawTerminal terminal = TRY(RawTerminal::take(clean_text(options.name, 63) + ": " + kHintWords));
    held = TRY(Conversation::begin(client, where, terminal)).hold();
  }
  std::fprintf(stderr, "\n");
  return held;
}

}  // namespace

void add_vm_console(CLI::App& app, Line& line) {
  CLI::App* vm = noun(app, "vm", "virtual machines");
  CLI::App* console = vm->add_subcommand("console", "the VM's serial console");
  auto options = std::make_shared<ConsoleOptions>();
  console->add_option("vm", options->name, "its name or id")->required();
  console->add_flag("--follow", options->follow, "go on with what comes");
  console->add_option("--send", options->send,
                      "send this text (\\n, \\r, \\t are understood) instead of reading");
  verb(console, line, [options](const Context& context) { return vm_console(context, *options); });
}

}  // namespace hf::cli
