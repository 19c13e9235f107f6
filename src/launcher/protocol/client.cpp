#include "launcher/protocol/client.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "sys/bounded_io.h"

namespace hf::launcher {

using std::chrono::milliseconds;

namespace {

Error launcher_gone() {
  return Error{.code = ErrorCode::kUnavailable,
               .cause = "the launcher has gone",
               .effect = "no VM can be started or stopped; running ones go on",
               .mend = "holdfast site start"};
}

}  // namespace

struct Client::Inner {
  sys::UniqueFd socket;
  sys::UniqueFd wake;  // eventfd: ends the reader
  OnEvent on_event;
  OnLost on_lost;

  std::mutex mutex;
  std::condition_variable answered;
  std::map<uint64_t, std::optional<Reply>> waiting;  // by request id
  uint64_t next_id = 1;
  bool lost = false;
  std::thread reader;

  void read_loop();
  void take(Reply reply);
  Result<Reply> call(Request request, const std::vector<int>& fds, milliseconds limit);
};

void Client::Inner::take(Reply reply) {
  std::lock_guard lock(mutex);
  auto at = waiting.find(reply.id);
  if (at == waiting.end()) return;  // its caller gave up
  at->second = std::move(reply);
  answered.notify_all();
}

void Client::Inner::read_loop() {
  std::array<pollfd, 2> polled{{{.fd = socket.get(), .events = POLLIN, .revents = 0},
                                {.fd = wake.get(), .events = POLLIN, .revents = 0}}};
  bool gone = false;
  while (!gone) {
    if (::poll(polled.data(), polled.size(), -1) < 0) {
      if (errno == EINTR) continue;
      break;
    }
    if (polled[1].revents != 0) return;
    auto message = sys::receive_message(socket.get(), kAnswerBytesMax, milliseconds(0));
    if (!message.ok()) {
      gone =
          message.error().code != ErrorCode::kTimeout && message.error().code != ErrorCode::kLimit;
      continue;
    }
    if (message->data.empty()) break;
    auto decoded = decode_from_launcher(as_text(message->data));
    if (!decoded.ok()) continue;
    FromLauncher from = std::move(*decoded);
    if (from.event && on_event) on_event(*from.event);
    if (from.reply) take(std::move(*from.reply));
  }
  {
    std::lock_guard lock(mutex);
    lost = true;
    answered.notify_all();
  }
  if (on_lost) on_lost();
}

Result<Reply> Client::Inner::call(Request request, const std::vector<int>& fds,
                                  milliseconds limit) {
  auto deadline = std::chrono::steady_clock::now() + limit;
  {
    std::lock_guard lock(mutex);
    if (lost) return launcher_gone();
    request.id = next_id++;
    waiting[request.id] = std::nullopt;
  }
  std::string text = encode(request);
  // Not under the mutex: where the launcher does not read for a while, its answers still arrive.
  Status sent = text.size() > kMessageBytesMax
                    ? Status(Error{.code = ErrorCode::kLimit,
                                   .cause = "the request to the launcher is longer than 128 KiB"})
                    : sys::send_message(socket.get(), as_bytes(text), fds, limit);
  std::unique_lock lock(mutex);
  if (!sent.ok()) {
    waiting.erase(request.id);
    if (sent.error().code == ErrorCode::kUnavailable) return launcher_gone();
    return sent.error();
  }
  while (!waiting[request.id] && !lost) {
    if (answered.wait_until(lock, deadline) == std::cv_status::timeout) break;
  }
  std::optional<Reply> reply = std::move(waiting[request.id]);
  waiting.erase(request.id);
  if (!reply) {
    if (lost) return launcher_gone();
    return Error{
        .code = ErrorCode::kTimeout,
        .cause = "the launcher did not answer within " + std::to_string(limit.count()) + " ms",
        .effect = "what was asked may still happen",
        .mend = "holdfast vm show"};
  }
  if (reply->error) return std::move(*reply->error);
  return std::move(*reply);
}

Client::Client(sys::UniqueFd socket, OnEvent on_event, OnLost on_lost)
    : inner_(std::make_unique<Inner>()) {
  inner_->socket = std::move(socket);
  inner_->wake.reset(::eventfd(0, EFD_CLOEXEC));
  HF_ASSERT(inner_->wake.valid());
  inner_->on_event = std::move(on_event);
  inner_->on_lost = std::move(on_lost);
  inner_->reader = std::thread([inner = inner_.get()] { inner->read_loop(); });
}

Client::~Client() {
  uint64_t one = 1;
  (void)!::write(inner_->wake.get(), &one, sizeof one);
  inner_->reader.join();
}

Result<int64_t> Client::start(const StartRequest& request, const std::vector<int>& fds,
                              milliseconds limit) {
  Request message{.verb = Request::Verb::kStart, .start = request};
  return TRY(inner_->call(std::move(message), fds, limit)).pid;
}

Status Client::stop(const StopRequest& request, milliseconds limit) {
  Request message{.verb = Request::Verb::kStop, .stop = request};
  TRY(inner_->call(std::move(message), {}, limit));
  return {};
}

Result<Bar> Client::fence(VmId vm, FenceReach reach, milliseconds limit) {
  Request message{.verb = Request::Verb::kFence, .fence = FenceRequest{.vm = vm, .reach = reach}};
  return TRY(inner_->call(std::move(message), {}, limit)).bar;
}

// Bounded: each page begins after the one before it, and all of them together have `limit`.
Result<LauncherStatus> Client::status(milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  LauncherStatus all;
  StatusRequest from;
  for (bool first = true;; first = false) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
    Request message{.verb = Request::Verb::kStatus, .status = from};
    Reply page =
        TRY(inner_->call(std::move(message), {}, std::max<milliseconds>(left, milliseconds(0))));
    if (first) {
      all.first_bar = page.bar;
      all.weaknesses = std::move(page.weaknesses);
    }
    StatusRequest next = from;
    for (UnitStatus& unit : page.units) {
      next.after_unit = std::max(next.after_unit, unit.unit);
      all.units.push_back(std::move(unit));
    }
    for (const auto& [hex, bar] : page.bars) {
      const VmId vm = TRY_CONTEXT(VmId::parse_hex(hex), "the launcher's bars");
      all.bars.emplace(vm, bar);
      if (!next.after_vm || *next.after_vm < vm) next.after_vm = vm;
    }
    if (!page.more) return all;
    if (next.after_unit == from.after_unit && next.after_vm == from.after_vm) {
      return Error{.code = ErrorCode::kCorrupt,
                   .cause = "the launcher says that there is more, and does not say what",
                   .effect = "it is not known what runs here",
                   .mend = "install launcher and daemon of one build, then holdfast site restart"};
    }
    from = std::move(next);
  }
}

}  // namespace hf::launcher
