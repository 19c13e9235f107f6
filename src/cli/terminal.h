// The user's terminal while a guest's console has it: every key goes to the guest, and on every way
// out but SIGKILL the terminal is as it was.
#pragma once

#include <termios.h>

#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

namespace hf::cli {

class RawTerminal {
 public:
  // Takes stdin's terminal; signals that would end or stop this process become readable at
  // signal_fd() instead, so that the terminal is given back first.
  static Result<RawTerminal> take(const std::string& title);
  RawTerminal(RawTerminal&& other) noexcept;
  RawTerminal& operator=(RawTerminal&&) = delete;
  ~RawTerminal();

  int signal_fd() const { return signals_.get(); }
  // False: it was one that ends this process, which it does once the terminal is given back. One
  // that stops it has stopped it meanwhile, with the terminal given back.
  bool take_signal();
  // What the guest said, on its way to the terminal.
  void note(std::string_view chunk);

 private:
  RawTerminal() = default;
  bool enter();
  void leave();

  bool entered_ = false;
  bool titled_ = false;
  bool other_screen_ = false;  // the guest drew on the second one, and has not gone back
  int ended_by_ = 0;
  std::string tail_;  // of what was noted: sequences come in pieces
  std::string title_;
  termios before_{};
  sigset_t signals_before_{};
  sys::UniqueFd signals_;
};

}  // namespace hf::cli
