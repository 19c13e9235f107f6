#include "daemon/console.h"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <thread>

#include "sys/bounded_io.h"

namespace hf::daemon {

using namespace std::chrono_literals;

struct ConsoleHub::Console {
  explicit Console(std::string path) : socket_path(std::move(path)) {}
  ~Console() { end(); }

  void begin() {
    attached = true;
    thread = std::thread([this] { run(); });
  }
  void end() {
    attached = false;
    changed.notify_all();
    if (thread.joinable()) thread.join();
  }
  void run();
  void read_from(int fd);
  void append(std::string_view text);

  const std::string socket_path;
  std::atomic<bool> attached = false;
  std::mutex mutex;
  std::condition_variable changed;
  std::string kept;         // the newest bytes
  uint64_t kept_begin = 0;  // how many came before them
  sys::UniqueFd connection;
  std::thread thread;
};

void ConsoleHub::Console::append(std::string_view text) {
  std::lock_guard lock(mutex);
  kept += text;
  if (kept.size() > kConsoleBytesMax) {
    // A quarter at a time, so that not every byte moves all others.
    size_t drop = kept.size() - kConsoleBytesMax * 3 / 4;
    kept.erase(0, drop);
    kept_begin += drop;
  }
  changed.notify_all();
}

void ConsoleHub::Console::read_from(int fd) {
  std::byte buffer[16384];
  while (attached) {
    Result<bool> ready = sys::wait_ready(fd, POLLIN, 200ms);
    if (!ready.ok()) return;
    if (!*ready) continue;
    ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) return;
    append(as_text(ByteSpan(buffer, static_cast<size_t>(got))));
  }
}

void ConsoleHub::Console::run() {
  while (attached) {
    Result<sys::UniqueFd> connected = sys::connect_unix_within(socket_path, 500ms);
    if (!connected.ok()) {
      std::this_thread::sleep_for(50ms);
      continue;
    }
    int fd = connected->get();
    {
      std::lock_guard lock(mutex);
      connection = std::move(connected).value();
    }
    read_from(fd);
    std::lock_guard lock(mutex);
    connection.reset();
  }
}

namespace {

Error no_console() {
  return {.code = ErrorCode::kNotFound,
          .cause = "the VM has no console: it was not started since holdfastd began",
          .effect = "there is nothing to show",
          .mend = "holdfast vm start VM"};
}

}  // namespace

ConsoleHub::ConsoleHub() = default;
ConsoleHub::~ConsoleHub() = default;

std::shared_ptr<ConsoleHub::Console> ConsoleHub::find(VmId vm) {
  std::lock_guard lock(mutex_);
  auto found = consoles_.find(vm);
  return found == consoles_.end() ? nullptr : found->second;
}

void ConsoleHub::attach(VmId vm, const std::string& socket_path, ConsoleStart start) {
  std::shared_ptr<Console> old = find(vm);
  if (old != nullptr && start == ConsoleStart::kGoingOn && old->attached) return;
  if (old != nullptr) old->end();
  auto console = std::make_shared<Console>(socket_path);
  if (old != nullptr && start == ConsoleStart::kGoingOn) console->kept = old->kept;
  console->begin();
  std::lock_guard lock(mutex_);
  consoles_[vm] = std::move(console);
}

void ConsoleHub::detach(VmId vm) {
  if (std::shared_ptr<Console> console = find(vm)) console->end();
}

void ConsoleHub::forget(VmId vm) {
  detach(vm);
  std::lock_guard lock(mutex_);
  consoles_.erase(vm);
}

Result<std::unique_ptr<BodyStream>> ConsoleHub::read(VmId vm, bool follow) {
  struct Reader final : BodyStream {
    std::optional<std::string> next() override {
      std::unique_lock lock(console->mutex);
      auto fresh = [this] { return console->kept_begin + console->kept.size() > at; };
      if (follow)
        console->changed.wait_for(lock, 500ms, [&] { return fresh() || !console->attached; });
      if (!fresh()) {
        return follow && console->attached ? std::optional<std::string>("") : std::nullopt;
      }
      at = std::max(at, console->kept_begin);
      std::string chunk = console->kept.substr(at - console->kept_begin, size_t{64} << 10);
      at += chunk.size();
      return chunk;
    }
    std::shared_ptr<Console> console;
    uint64_t at = 0;
    bool follow = false;
  };
  auto reader = std::make_unique<Reader>();
  reader->console = find(vm);
  if (reader->console == nullptr) return no_console();
  reader->follow = follow;
  return std::unique_ptr<BodyStream>(std::move(reader));
}

Status ConsoleHub::write(VmId vm, std::string_view text) {
  std::shared_ptr<Console> console = find(vm);
  if (console == nullptr) return no_console();
  sys::UniqueFd connection;
  {
    std::lock_guard lock(console->mutex);
    if (console->connection) connection = TRY(console->connection.duplicate());
  }
  if (!connection) {
    return Error{.code = ErrorCode::kUnavailable,
                 .cause = "the VM's console is not connected",
                 .effect = "nothing was typed",
                 .mend = "is the VM running? holdfast vm list"};
  }
  return sys::send_all(connection.get(), as_bytes(text), 2s);
}

}  // namespace hf::daemon
