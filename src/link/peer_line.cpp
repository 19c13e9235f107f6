#include "link/peer_line.h"

#include <openssl/rand.h>

#include <algorithm>

#include "peer/trust.h"

namespace hf::link {

using peer::LinkType;
using peer::Reach;

namespace {

constexpr Micros kDialLimit = seconds(4);  // an address
constexpr Micros kPauseFirst = millis(300);
constexpr Micros kPauseMax = seconds(15);
constexpr Micros kRetireLimit = seconds(30);
constexpr Micros kRetireIdle = seconds(3);
constexpr uint64_t kReportAgainUs = 2'000'000;
// Of two connections made within this time neither is a sign that the other is dead.
constexpr uint64_t kSameTimeUs = 5'000'000;

// Between half and all of it: two sites that lose each other do not come back in step.
Micros jittered(Micros pause) {
  uint32_t random = 0;
  HF_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(&random), sizeof random) == 1);
  return Micros(pause.value / 2 + pause.value / 2 * (random % 1024) / 1024);
}

}  // namespace

PeerLine::PeerLine(Uplink& uplink, SiteId own_site,
                   std::function<std::shared_ptr<const TlsIdentity>()> identity,
                   const peer::PeerRecord& record, crypto::Certificate ca)
    : uplink_(uplink),
      own_site_(own_site),
      identity_(std::move(identity)),
      record_(record),
      ca_(std::move(ca)),
      again_(uplink.loop(), [this] { keep_connected(); }),
      retire_limit_(uplink.loop(),
                    [this] {
                      if (retired_)
                        retired_->end({.code = ErrorCode::kUnavailable,
                                       .cause = "a newer connection took its place"},
                                      true);
                    }),
      clock_again_(uplink.loop(), [this] { say_clock(true); }),
      pause_(kPauseFirst) {}

PeerLine::~PeerLine() = default;

void PeerLine::set(const peer::PeerRecord& record, crypto::Certificate ca) {
  const bool other_authority = ca.fingerprint() != ca_.fingerprint();
  const bool other_address = record.addresses != record_.addresses;
  record_ = record;
  ca_ = std::move(ca);
  if (other_authority)
    end({.code = ErrorCode::kWrongKey, .cause = "site " + record_.name + " has a new authority"});
  if (other_address) dialer_.reset();
  if (other_address || other_authority) pause_ = kPauseFirst;
  if (!waiting_.empty() && !usable()) dial();
  keep_connected();
}

void PeerLine::end(const Error& why) {
  fail_waiting(why);
  if (retired_) retired_->end(why, true);
  if (current_) current_->end(why, true);
  dialer_.reset();
  again_.disarm();
}

void PeerLine::set_state(Reach reach, std::optional<Error> error) {
  const bool same = reach == reach_ && error.has_value() == error_.has_value() &&
                    (!error || error->cause == error_->cause);
  reach_ = reach;
  error_ = std::move(error);
  if (!same) report();
}

void PeerLine::report() {
  reported_ = uplink_.loop().now();
  const peer::PeerStateRecord state{.site = record_.site,
                                    .reach = reach_,
                                    .last_seen = last_seen_,
                                    .error = error_,
                                    .clock_ahead_us = clock_ahead_us_};
  uplink_.send(LinkType::kPeerState, 0, as_bytes(sys::encode_json_text(state)));
}

void PeerLine::note_refused(const Error& error) {
  if (!usable()) set_state(Reach::kWrongCertificate, error);
}

// ---- Connecting ----

void PeerLine::keep_connected() {
  if (record_.keep_connected && current_ == nullptr) dial();
}

void PeerLine::dial() {
  if (dialer_ || current_ || identity_() == nullptr) return;
  again_.disarm();
  dialer_ = std::make_unique<Dialer>(
      uplink_.loop(), identity_(),
      Dialer::Options{
          .addresses = record_.addresses, .alpn = peer::kAlpnSites, .limit = kDialLimit},
      [this](Result<std::unique_ptr<TlsChannel>> channel) { dialled(std::move(channel)); });
}

void PeerLine::dial_later() {
  if (!record_.keep_connected || current_ || dialer_) return;
  again_.arm(jittered(pause_));
  pause_ = Micros(std::min(pause_.value * 2, kPauseMax.value));
}

void PeerLine::dialled(Result<std::unique_ptr<TlsChannel>> channel) {
  const std::string address = dialer_->address();
  uplink_.loop().bury(std::move(dialer_));
  Error error;
  Reach reach = Reach::kUnreachable;
  if (channel.ok()) {
    const auto chain = (*channel)->peer_chain();
    Status verified = chain.ok() ? peer::verify_peer(*chain, ca_, record_.site) : chain.error();
    if (verified.ok()) {
      const Result<Session*> adopted = adopt(*std::move(channel));
      // kConflict: the one that the other site made at the same time stays.
      if (adopted.ok() || adopted.error().code == ErrorCode::kConflict) return;
      verified = adopted.error();
    } else {
      reach = Reach::kWrongCertificate;
    }
    error = {
        .code = reach == Reach::kWrongCertificate ? ErrorCode::kWrongKey : verified.error().code,
        .cause = "who answers at " + address + " is not site " + record_.name + ": " +
                 verified.error().cause,
        .effect = "nothing was sent to it",
        .mend = "compare the fingerprints: holdfast site peers here, holdfast site show there"};
    uplink_.log().line(LogKind::kRefused, record_.site, error.describe());
  } else {
    error = std::move(channel)
                .error()
                .context("site " + record_.name)
                .with_effect("it was not reached, and nothing was changed")
                .with_mend(
                    "start it: holdfast site start there; holdfast site peers shows its "
                    "address");
    // By its limit too: nothing was asked. A question's own time is another matter.
    if (error.code == ErrorCode::kTimeout) error.code = ErrorCode::kUnavailable;
  }
  if (current_ == nullptr) {
    set_state(reach, error);
    // Each failure is said, also one like the last: holdfastd then looks its name up again. Of many
    // questions for a site that is away one in a while is enough.
    if (uplink_.loop().now().value - reported_.value >= kReportAgainUs) report();
  }
  if (!usable()) fail_waiting(error);
  dial_later();
}

Result<Session*> PeerLine::adopt(std::unique_ptr<TlsChannel> channel) {
  const bool dialled_by_us = channel->is_client();
  if (current_) {
    const bool same_time = uplink_.loop().now().value - current_->since().value < kSameTimeUs &&
                           current_->dialled_by_us() != dialled_by_us;
    const bool ours_stays = own_site_ < record_.site;
    if (same_time && dialled_by_us != ours_stays) {
      return Error{.code = ErrorCode::kConflict, .cause = "both sites connected; the other stays"};
    }
    // One that is replaced at a time.
    if (retired_)
      retired_->end({.code = ErrorCode::kUnavailable, .cause = "newer connections took its place"},
                    true);
    // Also an idle one stays a while: what the other side sent before it knew is answered.
    retired_ = std::move(current_);
    retire_limit_.arm(retired_->idle() ? kRetireIdle : kRetireLimit);
  }
  if (!dialled_by_us && dialer_ && !(own_site_ < record_.site)) dialer_.reset();
  current_ =
      std::make_unique<Session>(uplink_, *this, record_.site, record_.name, std::move(channel));
  Status started = current_->start();
  if (started.ok()) return current_.get();
  uplink_.loop().bury(std::move(current_));
  return started.error();
}

void PeerLine::session_up(Session& session) {
  if (&session != current_.get()) return;
  uplink_.log().line(LogKind::kSite, record_.site, "connected with site " + record_.name);
  pause_ = kPauseFirst;
  tried_again_ = false;
  last_seen_ = session.last_seen_wall();
  set_state(Reach::kConnected, std::nullopt);
  send_waiting();
}

// Said to holdfastd when it is news, so that a peer that tells it without end costs nobody.
void PeerLine::session_clock(Session& session, int64_t ahead_us) {
  if (&session != current_.get()) return;
  const bool was_off = clock_ahead_us_ && peer::clock_is_off(*clock_ahead_us_);
  const bool news =
      !clock_ahead_us_ || std::abs(*clock_ahead_us_ - ahead_us) >= peer::kClockOffUs / 2;
  const bool often =
      clock_said_ && uplink_.loop().now().value - clock_said_->value < kReportAgainUs;
  clock_ahead_us_ = ahead_us;
  if (!news) return;
  if (often) {
    // Not moved: whoever tells another time again and again would never be heard of.
    if (!clock_again_.armed()) clock_again_.arm(Micros(kReportAgainUs));
    return;
  }
  say_clock(was_off);
}

void PeerLine::say_clock(bool was_off) {
  clock_said_ = uplink_.loop().now();
  if (peer::clock_is_off(*clock_ahead_us_) || was_off)
    uplink_.log().line(LogKind::kClock, record_.site,
                       peer::clock_words(record_.name, *clock_ahead_us_));
  report();
}

void PeerLine::session_down(Session& session, const Error& why) {
  const Micros seen = session.last_seen_wall();
  last_seen_ = last_seen_ ? std::max(*last_seen_, seen) : seen;
  if (&session == retired_.get()) {
    retire_limit_.disarm();
    uplink_.loop().bury(std::move(retired_));
    return;
  }
  HF_ASSERT(&session == current_.get());
  const bool was_up = session.up();
  uplink_.loop().bury(std::move(current_));
  uplink_.log().line(LogKind::kSite, record_.site,
                     "site " + record_.name + " is not connected: " + why.cause);
  Error error = why;
  if (error.effect.empty()) error.effect = "it is connected to again when that is needed";
  set_state(Reach::kUnreachable, error);
  // Closed without a word before it was up: where both connected at the same time, the other
  // connection is on its way.
  const bool again = !was_up && why.code == ErrorCode::kUnavailable && !tried_again_;
  tried_again_ = again;
  if (!was_up && !again) fail_waiting(error);
  if (!waiting_.empty()) return dial();
  dial_later();
}

// ---- What waits ----

void PeerLine::send_waiting() {
  std::map<uint64_t, Waiting> waiting;
  waiting.swap(waiting_);
  for (auto& [id, one] : waiting) {
    if (!usable()) {
      fail_one(id, one, {.code = ErrorCode::kUnavailable, .cause = "the connection was lost"});
    } else if (one.vm) {
      current_->open(id, *one.vm, std::move(one.keeper));
    } else {
      current_->ask(id, one.total, one.limit_ms, one.parts.front());
      for (size_t i = 1; i < one.parts.size(); ++i) current_->ask_more(id, one.parts[i]);
    }
  }
}

void PeerLine::fail_one(uint64_t link_id, const Waiting& waiting, const Error& error) {
  const Bytes body = peer::encode_error_body({.error = error});
  if (waiting.vm) {
    uplink_.send(LinkType::kEnded, link_id, body);
  } else {
    uplink_.send(LinkType::kAnswer, link_id, body, peer::kFlagError | peer::kFlagUnheard);
  }
  uplink_.drop_id(link_id);
}

void PeerLine::fail_waiting(const Error& error) {
  std::map<uint64_t, Waiting> waiting;
  waiting.swap(waiting_);
  for (const auto& [id, one] : waiting) fail_one(id, one, error);
}

void PeerLine::ask(uint64_t link_id, const peer::Ask& ask) {
  if (usable()) return current_->ask(link_id, ask.total, ask.limit_ms, ask.part);
  Waiting one{.total = ask.total,
              .limit_ms = ask.limit_ms,
              .asked = peer::PartCounter(ask.total),
              .parts = {Bytes(ask.part.begin(), ask.part.end())}};
  const auto questions =
      std::ranges::count_if(waiting_, [](auto& item) { return !item.second.vm; });
  if (questions >= static_cast<ptrdiff_t>(peer::kQuestionsPerPeerMax)) {
    return fail_one(link_id, one,
                    {.code = ErrorCode::kLimit,
                     .cause = "too many questions for site " + record_.name + " are under way"});
  }
  static_cast<void>(one.asked.take(ask.part.size()));
  waiting_[link_id] = std::move(one);
  dial();
}

void PeerLine::ask_more(uint64_t link_id, ByteSpan part) {
  if (const auto at = waiting_.find(link_id); at != waiting_.end()) {
    if (at->second.asked.take(part.size()).ok())
      at->second.parts.emplace_back(part.begin(), part.end());
    return;
  }
  if (Session* session = session_of(link_id)) session->ask_more(link_id, part);
}

void PeerLine::cancel(uint64_t link_id) {
  if (waiting_.contains(link_id)) return give_up(link_id);
  if (Session* session = session_of(link_id)) session->cancel(link_id);
}

void PeerLine::give_up(uint64_t link_id) {
  const auto at = waiting_.find(link_id);
  if (at == waiting_.end() || at->second.vm) return;
  const Waiting one = std::move(at->second);
  waiting_.erase(at);
  Error error{.code = ErrorCode::kUnavailable,
              .cause = "site " + record_.name + " was not reached in time",
              .effect = "nothing was sent to it",
              .mend = "holdfast site peers shows since when"};
  if (error_) error.cause += ": " + error_->cause;
  fail_one(link_id, one, error);
}

void PeerLine::open(uint64_t link_id, VmId vm, sys::UniqueFd keeper) {
  if (usable()) return current_->open(link_id, vm, std::move(keeper));
  Waiting one{.vm = vm, .keeper = std::move(keeper)};
  if (waiting_.size() >= peer::kStreamsPerPeerMax) {
    return fail_one(link_id, one,
                    {.code = ErrorCode::kLimit,
                     .cause = "too much for site " + record_.name + " waits for a connection"});
  }
  waiting_[link_id] = std::move(one);
  dial();
}

void PeerLine::close(uint64_t link_id) {
  if (const auto at = waiting_.find(link_id); at != waiting_.end()) {
    const Waiting one = std::move(at->second);
    waiting_.erase(at);
    return fail_one(
        link_id, one,
        {.code = ErrorCode::kUnavailable, .cause = "the stream was ended by holdfastd"});
  }
  if (Session* session = session_of(link_id)) session->close(link_id);
}

Session* PeerLine::session_of(uint64_t link_id) {
  if (current_ && current_->has(link_id)) return current_.get();
  if (retired_ && retired_->has(link_id)) return retired_.get();
  return nullptr;
}

void PeerLine::daemon_gone() {
  for (const auto& [id, one] : waiting_) uplink_.drop_id(id);
  waiting_.clear();
  if (retired_) retired_->daemon_gone();
  if (current_) current_->daemon_gone();
}

void PeerLine::daemon_new() {
  if (retired_) retired_->close_all();
  if (current_) current_->close_all();
}

}  // namespace hf::link
