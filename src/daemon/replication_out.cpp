#include "daemon/replication_out.h"

#include <poll.h>

#include <algorithm>

#include "daemon/keeper_client.h"
#include "daemon/log.h"
#include "daemon/peer_service.h"
#include "daemon/protections.h"
#include "daemon/recovery_rules.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

constexpr uint32_t kFeedWaitMs = 500;
constexpr auto kPeerQuestionPause = 10s;
constexpr auto kBacklogPause = 500ms;
constexpr int kLastReadsMax = 64;  // of a connection that is at its end

// A Disconnect of the Sender's, as the end of a connection.
Error closed(const Error& reason) { return reason; }

}  // namespace

OutgoingStream::OutgoingStream(Services& services, VmId vm, SiteId peer)
    : services_(services),
      vm_(vm),
      peer_(peer),
      control_(services.paths.run_file(vm, "control.sock")),
      feed_path_(services.paths.run_file(vm, "feed.sock")) {
  thread_ = std::thread([this] { run(); });
}

OutgoingStream::~OutgoingStream() {
  stopping_ = true;
  thread_.join();
}

void OutgoingStream::sleep(std::chrono::milliseconds time) {
  auto end = std::chrono::steady_clock::now() + time;
  while (!stopping_ && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::min(time, 20ms));
}

bool OutgoingStream::keeper_runs() { return services_.units->running(keeper_unit(vm_)); }

void OutgoingStream::run() {
  std::unique_ptr<replication::Sender> sender;
  while (!stopping_) {
    if (!keeper_runs()) {
      sender.reset();
      ask_peer_once();
      sleep(100ms);
      continue;
    }
    if (restart_.exchange(false)) sender.reset();
    if (sender == nullptr) {
      Result<std::unique_ptr<replication::Sender>> made = make_sender();
      if (!made.ok()) {
        publish_error("waiting", made.error());
        sleep(500ms);
        continue;
      }
      sender = std::move(made).value();
    }
    if (sender->state() == replication::Sender::State::kHalted) {
      publish(*sender, "halted");
      stop_if_superseded();
      sleep(200ms);
      continue;
    }
    if (clock_.now().value < sender->reconnect_at().value) {
      look_at_backlog(*sender);
      publish(*sender, "connecting");
      sleep(50ms);
      continue;
    }
    serve_connection(*sender);
  }
}

Result<std::unique_ptr<replication::Sender>> OutgoingStream::make_sender() {
  VmRow row = TRY(services_.catalog->vm(vm_));
  vault::KeyInfo key = TRY(services_.vault.key_info(vm_));
  replication::SenderOptions options{.vm = vm_,
                                     .site = services_.site.site_id,
                                     .epoch = row.epoch,
                                     .public_key = key.journal_public_key};
  return std::make_unique<replication::Sender>(options);
}

void OutgoingStream::serve_connection(replication::Sender& sender) {
  Result<PeerRow> peer = services_.catalog->peer(peer_);
  if (!peer.ok()) {
    publish_error("waiting", peer.error());
    return sleep(500ms);
  }
  Result<std::unique_ptr<TlsStream>> tls = services_.peers->connect(*peer, kAlpnFrames, 5s);
  if (!tls.ok()) {
    look_at_backlog(sender);
    publish(sender, "connecting");
    publish_error("connecting", tls.error());
    return sleep(200ms);
  }
  reader_ = replication::FrameReader();
  sender.connected(clock_.now());
  Status ended = pump(sender, **tls);
  if (!ended.ok() && !stopping_) {
    log_warning("replication of " + vm_.hex() + " to " + peer->name + ": " +
                ended.error().describe());
    publish_error("connecting", ended.error());
  }
  sender.disconnected(clock_.now());
  // The feed's connection went with pump(): what was asked on it is not answered any more.
  if (sender.awaits_feed()) {
    sender.feed_failed({.code = ErrorCode::kUnavailable, .cause = "the connection ended"},
                       clock_.now());
  }
  static_cast<void>(sender.take_effects());
}

// Until the connection ends, by error or because the keeper has gone.
Status OutgoingStream::pump(replication::Sender& sender, TlsStream& tls) {
  std::optional<FeedClient> feed;
  feed_asked_ = false;
  while (!stopping_ && !restart_) {
    if (Status applied = apply(sender, tls, feed); !applied.ok()) {
      return last_words(sender, tls, std::move(applied).error());
    }
    pollfd waits[2] = {{tls.fd(), POLLIN, 0}, {feed && feed_asked_ ? feed->fd() : -1, POLLIN, 0}};
    int timeout = tls.has_pending() ? 0 : 50;
    if (::poll(waits, 2, timeout) < 0 && errno != EINTR) return errno_error(errno, "wait");
    if (waits[0].revents != 0 || tls.has_pending()) TRY(take_from_peer(sender, tls));
    if (waits[1].revents != 0) take_from_feed(sender, feed);
    sender.tick(clock_.now());
    pin_acknowledged(sender);
    publish(sender, sender.state() == replication::Sender::State::kStreaming ? "streaming"
                    : sender.seeding()                                       ? "seeding"
                                                                             : "connecting");
    if (!keeper_runs()) return {};
  }
  return {};
}

// A replica that gives up says why before it closes; that a send failed is only what follows of it.
Error OutgoingStream::last_words(replication::Sender& sender, TlsStream& tls, Error failed) {
  for (int i = 0; i < kLastReadsMax; ++i) {
    pollfd wait{tls.fd(), POLLIN, 0};
    if (!tls.has_pending() && ::poll(&wait, 1, 0) <= 0) break;
    if (!take_from_peer(sender, tls).ok()) break;
  }
  for (replication::Effect& effect : sender.take_effects()) {
    if (auto* end = std::get_if<replication::Disconnect>(&effect)) return end->reason;
  }
  return failed;
}

Status OutgoingStream::apply(replication::Sender& sender, TlsStream& tls,
                             std::optional<FeedClient>& feed) {
  for (replication::Effect& effect : sender.take_effects()) {
    if (auto* send = std::get_if<replication::SendFrame>(&effect)) {
      TRY(tls.write_all(send->frame, 30s));
    } else if (std::holds_alternative<replication::WantRecords>(effect) ||
               std::holds_alternative<replication::WantSeed>(effect) ||
               std::holds_alternative<replication::WantSeedBytes>(effect)) {
      Status asked = ask_feed(feed, effect);
      feed_asked_ = asked.ok();
      if (!asked.ok()) {
        feed.reset();
        // It is being restarted, as a rule in milliseconds.
        std::this_thread::sleep_for(20ms);
        sender.feed_failed(asked.error(), clock_.now());
      }
    } else if (auto* epoch = std::get_if<replication::PeerEpoch>(&effect)) {
      learn_epoch(epoch->epoch);
    } else if (auto* end = std::get_if<replication::Disconnect>(&effect)) {
      return closed(end->reason);
    }
  }
  return {};
}

Status OutgoingStream::ask_feed(std::optional<FeedClient>& feed,
                                const replication::Effect& question) {
  if (!feed) {
    Result<FeedClient> connected = FeedClient::connect(feed_path_);
    if (!connected.ok())
      return Error{.code = ErrorCode::kUnavailable, .cause = "the keeper's feed is not there"};
    feed.emplace(std::move(connected).value());
  }
  if (auto* bytes = std::get_if<replication::WantSeedBytes>(&question)) {
    question_ = Question::kSeedBytes;
    return feed->ask_seed_bytes(bytes->base, bytes->offset, bytes->length);
  }
  if (std::holds_alternative<replication::WantSeed>(question)) {
    question_ = Question::kSeed;
    return feed->ask_seed();
  }
  question_ = Question::kRecords;
  const auto& want = std::get<replication::WantRecords>(question);
  return feed->ask(want.after, want.bytes_max, kFeedWaitMs);
}

Status OutgoingStream::take_from_peer(replication::Sender& sender, TlsStream& tls) {
  std::byte buffer[16384];
  Result<size_t> got = tls.read_some(buffer, 0ms);
  if (!got.ok()) return got.error().code == ErrorCode::kTimeout ? Status() : Status(got.error());
  if (*got == 0)
    return Error{.code = ErrorCode::kUnavailable, .cause = "the peer closed the connection"};
  reader_.push(ByteSpan(buffer, *got));
  while (std::optional<replication::Frame> frame = TRY(reader_.next()))
    sender.received(*frame, clock_.now());
  return {};
}

void OutgoingStream::take_from_feed(replication::Sender& sender, std::optional<FeedClient>& feed) {
  Result<FeedAnswer> answer = feed->answer(5s);
  feed_asked_ = false;
  if (answer.ok()) {
    home_durable_ = std::max(home_durable_, answer->durable);
    if (question_ == Question::kSeed) return sender.feed_seed(answer->records, clock_.now());
    if (question_ == Question::kSeedBytes)
      return sender.feed_seed_bytes(answer->records, clock_.now());
    sender.feed_records({.records = answer->records,
                         .durable = answer->durable,
                         .oldest_unshipped = answer->oldest_time},
                        clock_.now());
    return;
  }
  feed.reset();
  sender.feed_failed(answer.error(), clock_.now());
}

// While nothing is shipped the RPO grows: how old is the oldest write the replica lacks?
void OutgoingStream::look_at_backlog(replication::Sender& sender) {
  auto now = std::chrono::steady_clock::now();
  if (!sender.acknowledged() || now - looked_at_ < kBacklogPause) return;
  looked_at_ = now;
  Result<FeedClient> feed = FeedClient::connect(feed_path_);
  // The feed refuses to be asked for less than a record may have.
  if (!feed.ok() || !feed->ask(sender.acknowledged()->position, journal::kRecordSizeMax, 0).ok())
    return;
  Result<FeedAnswer> answer = feed->answer(1s);
  if (!answer.ok()) return;
  home_durable_ = std::max(home_durable_, answer->durable);
  sender.note_backlog(answer->oldest_time);
}

// The VM does not run here: has the peer taken it over meanwhile?
void OutgoingStream::ask_peer_once() {
  auto now = std::chrono::steady_clock::now();
  bool asked_lately = asked_peer_at_ != std::chrono::steady_clock::time_point() &&
                      now - asked_peer_at_ < kPeerQuestionPause;
  if (peer_knows_us_ || asked_lately) return;
  asked_peer_at_ = now;
  Result<VmRow> row = services_.catalog->vm(vm_);
  if (!row.ok() || row->role != VmRole::kActive) return;
  Result<recovery::PeerAnswer> answer =
      services_.peers->ask_epoch(vm_, recovery_state(*row, true), 3s);
  if (!answer.ok()) return publish_error("waiting", answer.error());
  peer_knows_us_ = true;
  learn_epoch(answer->epoch);
}

void OutgoingStream::learn_epoch(Epoch epoch) {
  Result<VmRow> row = services_.catalog->vm(vm_);
  if (!row.ok()) return;
  recovery::LearnOutcome learned = recovery::learn_peer_epoch(recovery_state(*row, true), epoch);
  if (learned.learned == recovery::Learned::kNothing) return;
  std::string note = "another site took the VM over under epoch " + std::to_string(epoch.value);
  if (Status stored = store_recovery_state(services_, learned.state, note); !stored.ok()) {
    return log_error(stored.error().describe());
  }
  if (learned.learned != recovery::Learned::kSuperseded) return;
  log_error("VM " + row->name + " is superseded: " + note);
  services_.protections->superseded(vm_);
}

// Until it is: the job that stops the VM may have been refused while another one ran.
void OutgoingStream::stop_if_superseded() {
  Result<VmRow> row = services_.catalog->vm(vm_);
  if (row.ok() && row->role == VmRole::kSuperseded) services_.protections->superseded(vm_);
}

// The keeper may merge away what the replica has durably, and nothing else.
void OutgoingStream::pin_acknowledged(const replication::Sender& sender) {
  if (!sender.acknowledged() || sender.acknowledged()->position.sequence == pinned_) return;
  auto now = std::chrono::steady_clock::now();
  if (now - pinned_at_ < 1s) return;
  pinned_at_ = now;
  Sequence upto = sender.acknowledged()->position.sequence;
  if (ask_keeper(control_, {{"op", "pin"}, {"sequence", upto.value}}, 500ms).ok()) pinned_ = upto;
}

void OutgoingStream::publish(const replication::Sender& sender, std::string_view state) {
  std::lock_guard lock(mutex_);
  const Micros now = clock_.now();
  view_.state = state;
  view_.caught_up = sender.caught_up();
  view_.rpo_us = sender.rpo_us(now);
  view_.lag_records = sender.lag_records();
  view_.unacknowledged_bytes = sender.unacknowledged_bytes();
  view_.home_durable = home_durable_;
  view_.acknowledged = sender.acknowledged();
  view_.seeding = sender.seeding();
  view_.at = std::chrono::steady_clock::now();
  if (sender.halt_reason() != nullptr) {
    view_.error = *sender.halt_reason();
  } else if (state == "streaming" || state == "seeding") {
    view_.error.reset();
  }
}

void OutgoingStream::publish_error(std::string_view state, const Error& error) {
  std::lock_guard lock(mutex_);
  view_.state = state;
  view_.error = Error(error)
                    .with_effect("the replica falls behind; the guest goes on")
                    .with_mend("it is tried again by itself; if it lasts: holdfast site peers");
}

sys::JsonObject OutgoingStream::show() {
  std::lock_guard lock(mutex_);
  bool running = keeper_runs();
  sys::JsonObject show{{"state", running                   ? view_.state
                                 : view_.state == "halted" ? "halted"
                                                           : "vm stopped"},
                       {"caught_up", view_.caught_up},
                       {"lag_records", view_.lag_records},
                       {"lag_bytes", view_.unacknowledged_bytes},
                       {"home_durable", view_.home_durable.value}};
  if (view_.acknowledged) {
    show["acknowledged"] = view_.acknowledged->position.sequence.value;
    show["acknowledged_incarnation"] = view_.acknowledged->position.incarnation.hex();
    // What was not there when last looked at has only grown older.
    std::chrono::microseconds since{0};
    if (view_.rpo_us != 0) {
      since = std::chrono::duration_cast<std::chrono::microseconds>(
          std::chrono::steady_clock::now() - view_.at);
    }
    show["rpo_ms"] = (view_.rpo_us + static_cast<uint64_t>(since.count()) + 999) / 1000;
  } else {
    show["rpo_ms"] = nullptr;  // the replica has nothing yet
  }
  if (view_.seeding) {
    show["seed_bytes_done"] = view_.seeding->done;
    show["seed_bytes_total"] = view_.seeding->total;
  }
  if (view_.error) show["error"] = sys::error_to_json(*view_.error);
  return show;
}

bool OutgoingStream::drain(std::chrono::milliseconds limit) {
  auto end = std::chrono::steady_clock::now() + limit;
  while (keeper_runs() && std::chrono::steady_clock::now() < end) {
    Result<sys::JsonObject> keeper = ask_keeper(control_, {{"op", "status"}}, 500ms);
    uint64_t durable = 0;
    if (keeper.ok()) {
      Result<uint64_t> said = sys::get_u64(*keeper, "appended");
      if (said.ok()) durable = *said;
    }
    {
      std::lock_guard lock(mutex_);
      if (view_.state != "streaming") return false;
      if (view_.acknowledged && durable != 0 &&
          view_.acknowledged->position.sequence.value >= durable)
        return true;
    }
    std::this_thread::sleep_for(20ms);
  }
  return false;
}

}  // namespace hf::daemon
