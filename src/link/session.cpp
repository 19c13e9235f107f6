#include "link/session.h"

#include <algorithm>

namespace hf::link {

using peer::FrameType;

namespace {

constexpr Micros kHelloLimit = seconds(3);
constexpr Micros kPingAfter = seconds(5);
constexpr uint64_t kTellClockUs = 60'000'000;
// No clock is so far off (some 146,000 years); what is told is a stranger's number.
constexpr int64_t kClockMax = int64_t{1} << 62;
constexpr uint64_t kDeadAfterUs = 15'000'000;       // nothing came
constexpr uint64_t kStalledAfterUs = 20'000'000;    // it takes nothing
constexpr size_t kWriteBudget = size_t{512} << 10;  // a turn; the channel has one for reading
// Taken in a turn: some cost far more than their bytes, as a stream that is refused does.
constexpr size_t kFramesATurn = 1024;
constexpr size_t kReadSize = peer::kFrameSizeMax;
constexpr size_t kOutSize = 4 * peer::kFrameSizeMax;
// No peer that reads makes us owe it so much of the first rank (the second is bounded by the number
// of questions): what it sends is then left where it is.
constexpr size_t kOwedMax = size_t{4} << 20;

Error broke_rules(std::string cause) {
  return {.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

}  // namespace

Session::Session(Uplink& uplink, SessionOwner& owner, SiteId site, std::string name,
                 std::unique_ptr<TlsChannel> channel)
    : uplink_(uplink),
      owner_(owner),
      site_(site),
      name_(std::move(name)),
      channel_(std::move(channel)),
      pump_task_(uplink.loop(), [this] { pump(); }),
      alive_timer_(uplink.loop(), [this] { check_alive(); }),
      since_(uplink.loop().now()),
      last_received_(since_),
      last_progress_(since_),
      last_seen_wall_(uplink.loop().wall_time()),
      in_(2 * peer::kFrameSizeMax + kReadSize),
      next_stream_(channel_->is_client() ? 1 : 2),
      next_question_(next_stream_) {
  out_.reserve(kOutSize + peer::kFrameSizeMax);
}

Session::~Session() {
  if (watched_) uplink_.loop().forget(channel_->fd(), *this);
}

Status Session::start() {
  TRY(uplink_.loop().watch(channel_->fd(), *this));
  watched_ = true;
  channel_->trust();
  queue(peer::encode_hello());
  alive_timer_.arm(kHelloLimit);
  return {};
}

bool Session::idle() const { return streams_.empty() && ours_.empty() && theirs_.empty(); }

bool Session::has(uint64_t link_id) const {
  return stream_ids_.contains(link_id) || ours_.contains(link_id) || their_ids_.contains(link_id);
}

uint64_t Session::next_id(uint64_t& counter) {
  const uint64_t id = counter;
  counter += 2;
  return id;
}

void Session::end(const Error& why, bool tell) {
  if (dead_) return;
  if (tell) {
    const Bytes body = peer::encode_error_body({.error = why});
    first_.push_front(peer::encode_frame(FrameType::kGoodbye, 0, body));
    first_bytes_ += first_.front().size();
    static_cast<void>(write_some());
  }
  channel_->say_goodbye();
  dead_ = true;
  alive_timer_.disarm();
  uplink_.loop().forget(channel_->fd(), *this);
  watched_ = false;
  end_streams(why);
  end_questions(why);
  owner_.session_down(*this, why);
}

// Both at any event: TLS may have to write before it can read, and the other way round.
void Session::on_ready(uint32_t) {
  readable_ = true;
  writable_ = true;
  pump_task_.defer();
}

void Session::queue(Bytes frame, Rank rank) {
  if (dead_) return;
  if (rank == Rank::kFirst) first_bytes_ += frame.size();
  (rank == Rank::kFirst ? first_ : second_).push_back(std::move(frame));
  pump_task_.defer();
}

void Session::pump() {
  if (dead_) return;
  Status status = read_some();
  if (!dead_ && status.ok()) status = write_some();
  if (dead_ || status.ok()) return;
  const bool rules = status.error().code == ErrorCode::kCorrupt;
  if (rules) {
    uplink_.log().line(LogKind::kProtocol, site_,
                       "site " + name_ + " broke the rules: " + status.error().cause +
                           "; its connection is ended");
  }
  end(status.error(), rules);
}

// ---- In ----

Status Session::read_some() {
  size_t frames_left = kFramesATurn;
  for (;;) {
    TRY(parse(frames_left));  // first what the last turn has left
    if (dead_) return {};
    if (frames_left == 0) {
      pump_task_.defer();
      return {};
    }
    if (!readable_ || first_bytes_ > kOwedMax) return {};  // read again when it has taken some
    const TlsChannel::Moved moved = TRY(channel_->read(
        MutableByteSpan(in_).subspan(in_to_, std::min(in_.size() - in_to_, kReadSize))));
    if (moved.step == TlsChannel::Step::kBlocked) {
      readable_ = false;
      return {};
    }
    if (moved.step == TlsChannel::Step::kYield) {
      pump_task_.defer();
      return {};
    }
    if (moved.step == TlsChannel::Step::kClosed) {
      return Error{.code = ErrorCode::kUnavailable,
                   .cause = "site " + name_ + " closed the connection"};
    }
    in_to_ += moved.bytes;
    last_received_ = uplink_.loop().now();
    last_seen_wall_ = uplink_.loop().wall_time();
    ping_sent_ = false;
  }
}

Status Session::parse(size_t& frames_left) {
  while (!dead_ && frames_left > 0) {
    const std::optional<peer::Frame> frame =
        TRY(peer::first_frame(ByteSpan(in_).subspan(in_from_, in_to_ - in_from_)));
    if (!frame) break;
    in_from_ += peer::kFrameHeaderSize + frame->body.size();
    --frames_left;
    TRY(take(*frame));
  }
  // With frames left of the turn's, it is less than one: there is always room for another read.
  if (in_from_ > 0) {
    std::memmove(in_.data(), in_.data() + in_from_, in_to_ - in_from_);
    in_to_ -= in_from_;
    in_from_ = 0;
  }
  return {};
}

Status Session::take(const peer::Frame& frame) {
  const FrameType type = frame.header.type;
  if (type == FrameType::kGoodbye) {
    Error why = peer::decode_error_body(frame.body).error;
    end(std::move(why).context("site " + name_ + " ended the connection"), false);
    return {};
  }
  if (!up_) {
    if (type != FrameType::kHello) return broke_rules("the first frame is no hello");
    TRY(peer::decode_hello(frame.body));
    up_ = true;
    alive_timer_.arm(kPingAfter);
    tell_clock();
    owner_.session_up(*this);
    return {};
  }
  switch (type) {
    case FrameType::kPing:
      // The newest only: nobody gets us to hold more.
      pong_ = peer::encode_frame(FrameType::kPong, 0, frame.body);
      pump_task_.defer();
      return {};
    case FrameType::kPong:
      return {};
    case FrameType::kClock:
      return take_clock(frame.body);
    case FrameType::kAsk:
      return take_ask(frame);
    case FrameType::kAskMore:
      return take_ask_more(frame);
    case FrameType::kAnswer:
      return take_answer(frame);
    case FrameType::kAnswerMore:
      return take_answer_more(frame);
    case FrameType::kCancel:
      take_cancel(frame.header.id);
      return {};
    case FrameType::kOpen:
    case FrameType::kAccept:
    case FrameType::kRefuse:
    case FrameType::kData:
    case FrameType::kCredit:
    case FrameType::kFin:
    case FrameType::kReset:
      return take_stream_frame(frame);
    default:
      return broke_rules("a frame that does not belong here");
  }
}

// ---- Out ----

void Session::fill() {
  out_.clear();
  out_from_ = 0;
  auto append = [this](const Bytes& frame) { out_.insert(out_.end(), frame.begin(), frame.end()); };
  if (pong_) append(*std::exchange(pong_, std::nullopt));
  while (out_.size() + peer::kFrameSizeMax <= kOutSize) {
    if (!first_.empty()) {
      append(first_.front());
      first_bytes_ -= first_.front().size();
      first_.pop_front();
    } else if (!second_.empty()) {
      append(second_.front());
      second_.pop_front();
    } else if (!up_ || !append_data()) {
      return;
    }
  }
}

Status Session::write_some() {
  size_t budget = kWriteBudget;
  while (writable_) {
    if (out_from_ == out_.size()) fill();
    if (out_.empty()) {
      last_progress_ = uplink_.loop().now();
      return {};
    }
    if (budget == 0) {
      pump_task_.defer();
      return {};
    }
    const TlsChannel::Moved moved = TRY(channel_->write(ByteSpan(out_).subspan(out_from_)));
    if (moved.step == TlsChannel::Step::kBlocked) {
      writable_ = false;
      return {};
    }
    if (moved.step == TlsChannel::Step::kClosed)
      return Error{.code = ErrorCode::kUnavailable, .cause = "the connection is closed"};
    out_from_ += moved.bytes;
    budget -= std::min(budget, moved.bytes);
    last_progress_ = uplink_.loop().now();
    if (first_bytes_ <= kOwedMax && readable_) pump_task_.defer();
  }
  return {};
}

// ---- Time ----

// Which is told again: a clock may be set while the connection lasts.
void Session::tell_clock() {
  clock_told_ = uplink_.loop().now();
  queue(peer::encode_clock(uplink_.loop().wall_time()));
}

Status Session::take_clock(ByteSpan body) {
  const Micros theirs = TRY(peer::decode_clock(body));
  const auto bounded = [](Micros time) {
    return static_cast<int64_t>(std::min(time.value, static_cast<uint64_t>(kClockMax)));
  };
  owner_.session_clock(*this, bounded(theirs) - bounded(uplink_.loop().wall_time()));
  return {};
}

void Session::check_alive() {
  if (dead_) return;
  if (up_ && uplink_.loop().now().value - clock_told_.value >= kTellClockUs) tell_clock();
  const uint64_t now = uplink_.loop().now().value;
  const uint64_t silent = now - last_received_.value;
  if (!up_ || silent >= kDeadAfterUs) {
    return end({.code = ErrorCode::kTimeout, .cause = "site " + name_ + " has fallen silent"},
               false);
  }
  const bool owes = out_from_ < out_.size() || !first_.empty() || !second_.empty();
  if (owes && now - last_progress_.value >= kStalledAfterUs) {
    return end({.code = ErrorCode::kTimeout, .cause = "site " + name_ + " takes nothing any more"},
               false);
  }
  if (silent >= kPingAfter.value && !ping_sent_) {
    ping_sent_ = true;
    std::byte token[8] = {};
    store_le<uint64_t>(token, now);
    queue(peer::encode_frame(FrameType::kPing, 0, token));
  }
  const uint64_t left = ping_sent_ ? kDeadAfterUs - silent : kPingAfter.value - silent;
  alive_timer_.arm(Micros(std::max<uint64_t>(left, 1000)));
}

}  // namespace hf::link
