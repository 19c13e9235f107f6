#include "control/host/console.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "base/assert.h"
#include "sys/bounded_io.h"

namespace hf::control {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

// QEMU opens its console before its monitor answers, so the first pause is short.
constexpr auto kRetryFirst = 20ms;
constexpr auto kRetryMax = 2000ms;
constexpr auto kStood = 1000ms;  // a connection that ends sooner was no success
constexpr int kEventsMax = 64;
constexpr auto kConnectLimit = 20ms;  // a backlog is full for moments only

}  // namespace

struct ConsoleHub::Console {
  explicit Console(std::string path) : socket_path(std::move(path)) {}

  void append(std::string_view text);

  const std::string socket_path;
  Notice changed;  // told without `mutex`
  std::mutex mutex;
  bool attached = true;
  std::string kept;         // the newest bytes
  uint64_t kept_begin = 0;  // how many came before them
  sys::UniqueFd connection;
  // The hub's thread's alone.
  Clock::time_point connect_at = Clock::now();
  Clock::time_point connected_at;
  std::chrono::milliseconds retry = kRetryFirst;
};

void ConsoleHub::Console::append(std::string_view text) {
  {
    std::lock_guard lock(mutex);
    kept += text;
    if (kept.size() > kConsoleBytesMax) {
      // A quarter at a time, so that not every byte moves all others.
      size_t drop = kept.size() - kConsoleBytesMax * 3 / 4;
      kept.erase(0, drop);
      kept_begin += drop;
    }
  }
  changed.tell();
}

ConsoleHub::ConsoleHub()
    : epoll_(::epoll_create1(EPOLL_CLOEXEC)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  HF_ASSERT(epoll_.valid() && wake_.valid());
  epoll_event event{.events = EPOLLIN, .data = {.fd = wake_.get()}};
  HF_ASSERT(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) == 0);
  thread_ = std::thread([this] { run(); });
}

ConsoleHub::~ConsoleHub() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ::eventfd_write(wake_.get(), 1);
  thread_.join();
}

void ConsoleHub::wake() { ::eventfd_write(wake_.get(), 1); }

void ConsoleHub::run() {
  for (;;) {
    int timeout = connect_due();
    epoll_event events[kEventsMax];
    int count = ::epoll_wait(epoll_.get(), events, kEventsMax, timeout);
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    for (int i = 0; i < count; ++i) {
      int fd = events[i].data.fd;
      if (fd == wake_.get()) {
        eventfd_t value = 0;
        ::eventfd_read(wake_.get(), &value);
        close_ended();
      } else if (auto found = connected_.find(fd); found != connected_.end()) {
        read_from(std::shared_ptr<Console>(found->second));
      }
    }
  }
}

void ConsoleHub::close_ended() {
  std::vector<std::shared_ptr<Console>> ended;
  {
    std::lock_guard lock(mutex_);
    ended.swap(ended_);
  }
  for (const std::shared_ptr<Console>& console : ended) {
    connected_.erase(console->connection.get());
    std::lock_guard lock(console->mutex);
    console->connection.reset();
  }
}

int ConsoleHub::connect_due() {
  std::vector<std::shared_ptr<Console>> due;
  auto now = Clock::now();
  auto next = Clock::time_point::max();
  {
    std::lock_guard lock(mutex_);
    for (auto& [vm, console] : consoles_) {
      std::lock_guard own(console->mutex);
      if (!console->attached || console->connection) continue;
      if (console->connect_at <= now) {
        due.push_back(console);
        console->connect_at = now + console->retry;
        console->retry = std::min<std::chrono::milliseconds>(console->retry * 2, kRetryMax);
      }
      next = std::min(next, console->connect_at);
    }
  }
  for (const std::shared_ptr<Console>& console : due) {
    Result<sys::UniqueFd> made = sys::connect_unix_within(console->socket_path, kConnectLimit);
    if (!made.ok()) continue;
    int fd = made->get();
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) continue;
    std::lock_guard lock(console->mutex);
    if (!console->attached) continue;  // meanwhile; what was made is closed here
    connected_[fd] = console;
    console->connection = std::move(made).value();
    console->connected_at = Clock::now();
  }
  if (next == Clock::time_point::max()) return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(next - now).count();
  return static_cast<int>(std::max<int64_t>(left, 0));
}

// Once an event: one that talks without end leaves the others their turns. A descriptor leaves the
// set by being closed.
void ConsoleHub::read_from(const std::shared_ptr<Console>& console) {
  std::byte buffer[16384];
  int fd = console->connection.get();
  ssize_t got = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got > 0) return console->append(as_text(ByteSpan(buffer, static_cast<size_t>(got))));
  connected_.erase(fd);
  std::lock_guard lock(console->mutex);
  console->connection.reset();
  const auto now = Clock::now();
  // One that is hung up on at once goes on from where its pauses were.
  if (now - console->connected_at >= kStood) console->retry = kRetryFirst;
  console->connect_at = now + console->retry;
}

namespace {

Error no_console() {
  return {.code = ErrorCode::kNotFound,
          .cause = "the VM has no console: it was not started since holdfastd began",
          .effect = "there is nothing to show",
          .mend = "holdfast vm start VM"};
}

}  // namespace

std::shared_ptr<ConsoleHub::Console> ConsoleHub::find(VmId vm) {
  std::lock_guard lock(mutex_);
  auto found = consoles_.find(vm);
  return found == consoles_.end() ? nullptr : found->second;
}

void ConsoleHub::attach(VmId vm, const std::string& socket_path, ConsoleStart start) {
  std::shared_ptr<Console> old = find(vm);
  auto console = std::make_shared<Console>(socket_path);
  if (old != nullptr) {
    std::lock_guard own(old->mutex);
    if (start == ConsoleStart::kGoingOn && old->attached) return;
    if (start == ConsoleStart::kGoingOn) console->kept = old->kept;
  }
  detach(vm);
  {
    std::lock_guard lock(mutex_);
    consoles_[vm] = std::move(console);
  }
  wake();
}

void ConsoleHub::detach(VmId vm) {
  std::shared_ptr<Console> console = find(vm);
  if (console == nullptr) return;
  {
    std::lock_guard own(console->mutex);
    if (!std::exchange(console->attached, false)) return;
  }
  {
    std::lock_guard lock(mutex_);
    ended_.push_back(console);
  }
  console->changed.tell();
  wake();
}

bool ConsoleHub::attached(VmId vm) {
  std::shared_ptr<Console> console = find(vm);
  if (console == nullptr) return false;
  std::lock_guard own(console->mutex);
  return console->attached;
}

void ConsoleHub::forget(VmId vm) {
  detach(vm);
  std::lock_guard lock(mutex_);
  consoles_.erase(vm);
}

Result<std::unique_ptr<BodyStream>> ConsoleHub::read(VmId vm, bool follow) {
  struct Reader final : BodyStream {
    std::optional<std::string> next() override {
      std::lock_guard lock(console->mutex);
      if (console->kept_begin + console->kept.size() <= at)
        return follow && console->attached ? std::optional<std::string>("") : std::nullopt;
      at = std::max(at, console->kept_begin);
      std::string chunk = console->kept.substr(at - console->kept_begin, size_t{64} << 10);
      at += chunk.size();
      return chunk;
    }
    Notice* changed() override { return &console->changed; }
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

}  // namespace hf::control
