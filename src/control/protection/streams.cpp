#include "control/protection/streams.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "control/core/log.h"
#include "control/peers/peer_messages.h"
#include "control/peers/peer_service.h"
#include "control/title/titles.h"
#include "sys/bounded_io.h"

namespace hf::control {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::milliseconds kPauseMin = 100ms;
constexpr std::chrono::milliseconds kPauseMax = 10s;
constexpr std::chrono::milliseconds kStood = 1s;
constexpr std::chrono::milliseconds kConnectLimit = 500ms;
constexpr std::chrono::milliseconds kPeerLimit = 3s;
constexpr std::chrono::milliseconds kWithdrawAgain = 30s;
constexpr std::chrono::milliseconds kMute = 10s;
constexpr size_t kEarlyMax = 4;  // of a stream's two events, and of one before it

}  // namespace

Streams::Streams(Services& services, Caretakers& caretakers,
                 std::function<void(VmId)> withdraw_again, Open open)
    : services_(services),
      caretakers_(caretakers),
      withdraw_again_(std::move(withdraw_again)),
      open_(open ? std::move(open) : [&services](SiteId peer, VmId vm, sys::UniqueFd keeper) {
        return services.peers->link().open_stream(peer, vm, std::move(keeper));
      }) {}

void Streams::start() {
  Result<std::vector<ProtectionRow>> rows = services_.catalog->protections();
  if (!rows.ok()) log_error(rows.error().describe());
  std::lock_guard lock(mutex_);
  started_ = true;
  if (!rows.ok()) return;
  for (const ProtectionRow& row : *rows) {
    if (row.direction != Direction::kOut || row.state == ProtectionState::kOffered) continue;
    streams_[row.vm] = {.peer = row.peer,
                        .withdrawing = row.state == ProtectionState::kWithdrawing};
    serve(row.peer);
  }
}

void Streams::stop() {
  std::map<SiteId, std::thread> ending;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    ending.swap(threads_);
  }
  changed_.notify_all();
  for (auto& [peer, thread] : ending) thread.join();
}

void Streams::serve(SiteId peer) {
  if (!started_ || stopping_ || threads_.contains(peer)) return;
  threads_[peer] = std::thread([this, peer] { run(peer); });
}

void Streams::add(VmId vm, SiteId peer) {
  {
    std::lock_guard lock(mutex_);
    Stream& stream = streams_[vm];
    if (stream.peer != peer || stream.withdrawing) stream = {.peer = peer};
    stream.wanted_look = true;
    stream.pause = 0ms;
    serve(peer);
  }
  changed_.notify_all();
}

void Streams::add_withdrawal(VmId vm, SiteId peer) {
  {
    std::lock_guard lock(mutex_);
    streams_[vm] = {.peer = peer,
                    .withdrawing = true,
                    .wanted_look = false,
                    .due = Clock::now() + kWithdrawAgain};
    serve(peer);
  }
  changed_.notify_all();
}

void Streams::remove(VmId vm) {
  std::optional<peer::StreamId> id;
  {
    std::lock_guard lock(mutex_);
    auto found = streams_.find(vm);
    if (found == streams_.end()) return;
    id = found->second.id;
    streams_.erase(found);
  }
  if (id) services_.peers->link().close_stream(*id);
}

bool Streams::has(VmId vm) {
  std::lock_guard lock(mutex_);
  return streams_.contains(vm);
}

void Streams::look(VmId vm) {
  {
    std::lock_guard lock(mutex_);
    auto found = streams_.find(vm);
    if (found == streams_.end() || found->second.withdrawing) return;
    found->second.wanted_look = true;
    found->second.pause = 0ms;
  }
  changed_.notify_all();
}

Streams::View Streams::view(VmId vm) {
  std::lock_guard lock(mutex_);
  auto found = streams_.find(vm);
  if (found == streams_.end()) return {};
  return {.open = found->second.open, .error = found->second.error};
}

void Streams::on_stream(const peer::StreamEvent& event) {
  if (event.incoming) return;
  {
    std::lock_guard lock(mutex_);
    auto found = streams_.find(event.vm);
    if (found == streams_.end()) return;
    Stream& stream = found->second;
    if (stream.id != event.id) {
      if (stream.opening != 0 && stream.early.size() < kEarlyMax) stream.early.push_back(event);
      return;
    }
    take(stream, event);
  }
  changed_.notify_all();
}

// Under the mutex.
void Streams::take(Stream& stream, const peer::StreamEvent& event) {
  if (event.kind == peer::StreamEvent::Kind::kOpened) {
    stream.open = true;
    stream.opened = Clock::now();
    stream.error.reset();
    services_.titles->look(event.vm);
    return;
  }
  // One that ends as soon as it is open is no success: it is not tried ten times a second.
  if (stream.open && Clock::now() - stream.opened >= kStood) stream.pause = 0ms;
  stream.id.reset();
  stream.open = false;
  try_again_later(stream, event.error);
  if (event.refused) {
    Result<StreamRefusalDetail> detail = sys::decode_json<StreamRefusalDetail>(event.detail);
    // Learned with the next try: a replica that cannot be opened says its epoch each time.
    if (detail.ok() && detail->epoch.value > 0) stream.refused_under = detail->epoch;
  }
}

void Streams::on_peer(const peer::PeerState& state) {
  if (state.reach != peer::Reach::kConnected) return;
  {
    std::lock_guard lock(mutex_);
    mute_until_.erase(state.site);
    for (auto& [vm, stream] : streams_) {
      if (stream.peer != state.site || stream.id) continue;
      stream.wanted_look = true;
      stream.pause = 0ms;
    }
  }
  changed_.notify_all();
}

// Under the mutex.
void Streams::try_again_later(Stream& stream, std::optional<Error> error) {
  stream.pause = std::clamp(stream.pause * 2, kPauseMin, kPauseMax);
  stream.due = Clock::now() + stream.pause;
  stream.error = std::move(error);
}

std::vector<VmId> Streams::await_due(SiteId peer) {
  std::vector<VmId> now;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    Time next = Time::max();
    for (auto& [vm, stream] : streams_) {
      if (stream.peer != peer) continue;
      if (stream.wanted_look || stream.due <= Clock::now()) {
        stream.wanted_look = false;
        stream.due = Time::max();
        now.push_back(vm);
      }
      next = std::min(next, stream.due);
    }
    if (!now.empty()) return now;
    if (next == Time::max()) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, next);
    }
  }
  return {};
}

void Streams::run(SiteId peer) {
  for (;;) {
    std::vector<VmId> now = await_due(peer);
    if (now.empty()) return;
    // Of a VM that runs nothing is asked first: it waits for no other's question.
    std::ranges::partition(now,
                           [this](VmId vm) { return services_.units->running(keeper_unit(vm)); });
    for (VmId vm : now) step(vm);
  }
}

// The peer refuses: it may have a title that this site has not heard of.
void Streams::learn(VmId vm, SiteId peer) {
  Result<TitleKeeper::Exchanged> learned = services_.titles->exchange(vm, peer, kPeerLimit);
  if (!learned.ok()) log_info("VM " + vm.hex() + ": " + learned.error().describe());
}

// The VM does not run here: has the peer taken it over meanwhile?
void Streams::ask_peer(VmId vm, SiteId peer) {
  Result<VmRow> row = services_.catalog->vm(vm);
  if (!row.ok() || row->role != VmRole::kActive || !services_.peers->connected(peer)) return;
  {
    std::lock_guard lock(mutex_);
    auto found = streams_.find(vm);
    if (found == streams_.end()) return;
    if (const auto mute = mute_until_.find(peer);
        mute != mute_until_.end() && Clock::now() < mute->second) {
      found->second.due = mute->second;
      return;
    }
  }
  Result<TitleKeeper::Exchanged> answer = services_.titles->exchange(vm, peer, kPeerLimit);
  std::lock_guard lock(mutex_);
  if (!answer.ok() && answer.error().code == ErrorCode::kTimeout)
    mute_until_[peer] = Clock::now() + kMute;
  auto found = streams_.find(vm);
  if (found == streams_.end()) return;
  found->second.peer_asked = answer.ok();
  if (!answer.ok()) try_again_later(found->second, std::move(answer).error());
}

// No keeper with the key runs. Is there another one that ships?
bool Streams::tend(VmId vm, SiteId peer, bool refused) {
  Result<VmRow> row = services_.catalog->vm(vm);
  if (refused && row.ok() && row->role == VmRole::kSuperseded) {
    caretakers_.end(vm);  // nobody takes what it has
    return false;
  }
  Result<bool> tended = caretakers_.tend(vm, peer);
  if (tended.ok()) return *tended;
  std::lock_guard lock(mutex_);
  auto found = streams_.find(vm);
  if (found != streams_.end()) try_again_later(found->second, std::move(tended).error());
  return false;
}

// Under the mutex. While the peer is away, its coming is what wakes.
void Streams::withdraw(Stream& stream, VmId vm) {
  if (!services_.peers->connected(stream.peer)) return;
  stream.due = Clock::now() + kWithdrawAgain;
  withdraw_again_(vm);
}

void Streams::step(VmId vm) {
  SiteId peer;
  std::optional<Epoch> refused_under;
  bool peer_asked = false;
  {
    std::lock_guard lock(mutex_);
    auto found = streams_.find(vm);
    if (found == streams_.end() || found->second.id) return;
    peer = found->second.peer;
    if (found->second.withdrawing) return withdraw(found->second, vm);
    refused_under = std::exchange(found->second.refused_under, std::nullopt);
    peer_asked = found->second.peer_asked;
  }
  if (refused_under) learn(vm, peer);
  // A keeper that is not there is looked for when the launcher says that it has come.
  if (!services_.units->running(keeper_unit(vm))) {
    if (!peer_asked) ask_peer(vm, peer);
    if (!tend(vm, peer, refused_under.has_value())) return;
  }
  open(vm, peer);
}

void Streams::open(VmId vm, SiteId peer) {
  Result<sys::UniqueFd> keeper =
      sys::connect_unix_within(services_.paths.run_file(vm, "ship.sock"), kConnectLimit);
  uint64_t number = 0;
  {
    std::lock_guard lock(mutex_);
    auto found = streams_.find(vm);
    if (found == streams_.end() || found->second.peer != peer || found->second.id) return;
    if (!keeper.ok()) return try_again_later(found->second, std::move(keeper).error());
    number = found->second.opening = ++tries_;
  }
  // Not under the mutex: a link that takes nothing just now holds nobody else up. So the stream's
  // first events may be there before its id is known.
  Result<peer::StreamId> id = open_(peer, vm, std::move(keeper).value());
  {
    std::lock_guard lock(mutex_);
    auto found = streams_.find(vm);
    if (found != streams_.end() && found->second.opening == number) {
      Stream& stream = found->second;
      stream.opening = 0;
      const std::vector<peer::StreamEvent> early = std::exchange(stream.early, {});
      if (!id.ok()) return try_again_later(stream, std::move(id).error());
      stream.id = *id;
      for (const peer::StreamEvent& event : early)
        if (stream.id == event.id) take(stream, event);
      return;
    }
  }
  if (id.ok()) services_.peers->link().close_stream(*id);  // nobody wants it any more
}

}  // namespace hf::control
