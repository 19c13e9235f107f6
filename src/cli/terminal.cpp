#include "cli/terminal.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

namespace hf::cli {
namespace {

constexpr int kEnding[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT};

// Terminals that keep a stack of titles, or at least pass over what they do not know.
bool knows_titles() {
  const char* term = std::getenv("TERM");
  if (term == nullptr) return false;
  for (std::string_view one : {"xterm", "screen", "tmux", "rxvt", "foot", "alacritty", "vte"}) {
    if (std::string_view(term).starts_with(one)) return true;
  }
  return false;
}

void say(std::string_view text) { (void)!::write(STDOUT_FILENO, text.data(), text.size()); }

// What a guest may have switched: mouse reports, bracketed paste, application keys, a hidden
// cursor, no wrapping, another character set, colours.
constexpr std::string_view kAsUsual =
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25h\x1b[?7h\x1b("
    "B\x1b[0m";

constexpr std::string_view kOtherScreen[] = {"\x1b[?1049", "\x1b[?1047", "\x1b[?47"};

}  // namespace

Result<RawTerminal> RawTerminal::take(const std::string& title) {
  RawTerminal terminal;
  if (::tcgetattr(STDIN_FILENO, &terminal.before_) != 0)
    return errno_error(errno, "look at the terminal");
  sigset_t caught;
  ::sigemptyset(&caught);
  for (int signal : kEnding) ::sigaddset(&caught, signal);
  ::sigaddset(&caught, SIGTSTP);
  terminal.signals_.reset(::signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!terminal.signals_) return errno_error(errno, "watch signals");
  // Given back from the background too, if it comes to that.
  ::sigaddset(&caught, SIGTTOU);
  ::pthread_sigmask(SIG_BLOCK, &caught, &terminal.signals_before_);
  terminal.title_ = title;
  if (!terminal.enter()) {
    Error error = errno_error(errno, "change the terminal");
    ::pthread_sigmask(SIG_SETMASK, &terminal.signals_before_, nullptr);
    return error;
  }
  return terminal;
}

RawTerminal::RawTerminal(RawTerminal&& other) noexcept
    : entered_(std::exchange(other.entered_, false)),
      titled_(other.titled_),
      other_screen_(other.other_screen_),
      ended_by_(other.ended_by_),
      tail_(std::move(other.tail_)),
      title_(std::move(other.title_)),
      before_(other.before_),
      signals_before_(other.signals_before_),
      signals_(std::move(other.signals_)) {}

RawTerminal::~RawTerminal() {
  if (!signals_) return;  // another has it now
  leave();
  // What came meanwhile takes effect now; one that was taken already ends the process as it would
  // have.
  if (ended_by_ != 0) ::raise(ended_by_);
  ::pthread_sigmask(SIG_SETMASK, &signals_before_, nullptr);
}

bool RawTerminal::enter() {
  termios raw = before_;
  ::cfmakeraw(&raw);
  entered_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
  titled_ = entered_ && knows_titles();
  if (titled_) say("\x1b[22;0t\x1b]0;" + title_ + "\x07");
  return entered_;
}

void RawTerminal::leave() {
  if (!entered_) return;
  if (other_screen_) say("\x1b[?1049l");
  say(kAsUsual);
  if (titled_) say("\x1b]0;\x07\x1b[23;0t");
  // Not after what is still to be written: that may be held by Ctrl-S.
  (void)::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  entered_ = false;
}

bool RawTerminal::take_signal() {
  signalfd_siginfo signal{};
  if (::read(signals_.get(), &signal, sizeof signal) != sizeof signal) return true;
  if (signal.ssi_signo != SIGTSTP) {
    ended_by_ = static_cast<int>(signal.ssi_signo);
    return false;
  }
  leave();
  ::raise(SIGSTOP);
  return enter();
}

void RawTerminal::note(std::string_view chunk) {
  constexpr size_t kSequenceMax = 8;
  tail_ += chunk;
  for (std::string_view switches : kOtherScreen) {
    const size_t at = tail_.rfind(switches);
    if (at == std::string::npos || at + switches.size() >= tail_.size()) continue;
    const char which = tail_[at + switches.size()];
    if (which == 'h' || which == 'l') other_screen_ = which == 'h';
  }
  if (tail_.size() > kSequenceMax) tail_.erase(0, tail_.size() - kSequenceMax);
}

}  // namespace hf::cli
