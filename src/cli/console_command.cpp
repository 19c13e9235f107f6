// holdfast vm console: what the serial console said, what it says, and typing into it.
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <thread>

#include "cli/core/grammar.h"

namespace hf::cli {
namespace {

constexpr char kLeave = 0x1d;  // Ctrl-]

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

// The terminal passes every key on while this lives.
class RawTerminal {
 public:
  RawTerminal() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios raw = before_;
    ::cfmakeraw(&raw);
    changed_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
  }
  ~RawTerminal() {
    if (changed_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  termios before_{};
  bool changed_ = false;
};

bool write_out(std::string_view chunk) {
  while (!chunk.empty()) {
    ssize_t put = ::write(STDOUT_FILENO, chunk.data(), chunk.size());
    if (put <= 0) return false;
    chunk.remove_prefix(static_cast<size_t>(put));
  }
  return true;
}

void pass_keys(Client client, const std::string& where, std::atomic<bool>& over) {
  while (!over) {
    pollfd wait{STDIN_FILENO, POLLIN, 0};
    if (::poll(&wait, 1, 100) <= 0) continue;
    char keys[256];
    ssize_t got = ::read(STDIN_FILENO, keys, sizeof keys);
    if (got <= 0) return;
    std::string_view typed(keys, static_cast<size_t>(got));
    if (typed.find(kLeave) != std::string_view::npos) {
      over = true;
      return;
    }
    if (!client.post_bytes(where, typed).ok()) return;
  }
}

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
  std::fprintf(stderr, "[Ctrl-] leaves the console]\n");
  std::atomic<bool> over = false;
  Status streamed;
  {
    RawTerminal raw;
    std::thread keys([&] { pass_keys(context.client(), where, over); });
    streamed = client.stream(where + "?follow=1",
                             [&](std::string_view chunk) { return !over && write_out(chunk); });
    over = true;
    keys.join();
  }
  std::fprintf(stderr, "\n");
  return streamed;
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
