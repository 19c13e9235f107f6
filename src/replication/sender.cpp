#include "replication/sender.h"

#include <algorithm>

namespace hf::replication {

namespace {

constexpr Micros kNever{UINT64_MAX};

Error protocol_error(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

// What the replica did not say, or not here and now.
Error forged(std::string what) {
  return Error{.code = ErrorCode::kCorrupt,
               .cause = std::move(what) + " was altered, or is not of this session",
               .effect = "nothing of it was believed; a new session begins",
               .mend = "if it goes on, look at what carries the sites' connection"};
}

Error diverged(std::string cause) {
  return Error{
      .code = ErrorCode::kConflict,
      .cause = std::move(cause),
      .effect = "this site and its replica are on different lines; nothing was overwritten",
      .mend = "decide which side's data counts, then protect the VM again from there"};
}

ErrorCode code_of(Refusal refusal) {
  switch (refusal) {
    case Refusal::kUnknownVm:
      return ErrorCode::kNotFound;
    case Refusal::kWrongKey:
      return ErrorCode::kWrongKey;
    case Refusal::kStaleEpoch:
    case Refusal::kDiverged:
    case Refusal::kMergedAway:
    case Refusal::kBusy:
    case Refusal::kNotReplica:
      return ErrorCode::kConflict;
    case Refusal::kBadRecords:
      return ErrorCode::kCorrupt;
    case Refusal::kProtocol:
      return ErrorCode::kUnsupported;
    case Refusal::kStorage:
    case Refusal::kUnproven:
      return ErrorCode::kUnavailable;
  }
  return ErrorCode::kInternal;
}

}  // namespace

Sender::Sender(SenderOptions options, Rng& rng)
    : options_(options), rng_(rng), retry_us_(options.retry_us_min) {
  HF_ASSERT(options_.epoch.value > 0 && options_.epoch.value <= kNumberMax);
  HF_ASSERT(options_.batch_bytes_max >= journal::kRecordSizeMax);
  HF_ASSERT(options_.batch_bytes_max <= kRecordsBytesMax);
  HF_ASSERT(options_.window_bytes_max >= journal::kRecordSizeMax);
  HF_ASSERT(options_.retry_us_min > 0 && options_.retry_us_min <= options_.retry_us_max);
}

Effects Sender::take_effects() { return std::exchange(effects_, {}); }

void Sender::connected(Micros now) {
  HF_ASSERT(state_ == State::kIdle || state_ == State::kHalted);
  if (state_ == State::kHalted) {
    effects_.push_back(Disconnect{*halted_for_});
    return;
  }
  state_ = State::kGreeting;
  deadline_ = Micros(now.value + options_.answer_us_max);
  session_.emplace(crypto::SessionRole::kHome, rng_, options_.faults);
  step_ = Step::kAnswer;
  hello_ = {.epoch = options_.epoch,
            .home = options_.site,
            .replica = options_.peer_site,
            .public_key = options_.public_key,
            .ephemeral = session_->ephemeral(),
            .nonce = session_->nonce()};
  effects_.push_back(SendFrame{encode(options_.vm, hello_)});
}

template <typename Body, typename... More>
void Sender::send_sealed(const Body& body, const More&... more) {
  effects_.push_back(SendFrame{seal_frame(*session_, options_.vm, body, more...)});
}

void Sender::disconnected(Micros now) {
  forget_connection();
  if (state_ == State::kHalted) return;
  if (state_ != State::kIdle)
    drop({.code = ErrorCode::kUnavailable, .cause = "the link broke"}, now);
  // Whoever reports the end of the connection needs no order to close it.
  std::erase_if(effects_, [](const Effect& e) { return std::holds_alternative<Disconnect>(e); });
}

void Sender::received(const Frame& frame, Micros now) {
  if (state_ == State::kIdle || state_ == State::kHalted) return;  // of a connection given up
  if (frame.vm != options_.vm) {
    return refuse(Refusal::kProtocol, protocol_error("a frame of another VM"), now);
  }
  switch (frame.type) {
    case FrameType::kAnswer:
      return on_answer(frame, now);
    case FrameType::kBegin:
      return on_begin(frame, now);
    case FrameType::kAck:
      return on_ack(frame, now);
    case FrameType::kSeedAck:
      return on_seed_ack(frame, now);
    case FrameType::kError:
      return on_error(frame, now);
    default:
      return refuse(Refusal::kProtocol,
                    protocol_error(std::string("unexpected frame: ") + to_string(frame.type)), now);
  }
}

// ---- A session's beginning ----------------------------------------------------------------------

void Sender::on_answer(const Frame& frame, Micros now) {
  if (!greeting(Step::kAnswer)) {
    return refuse(Refusal::kProtocol, protocol_error("a second answer"), now);
  }
  Result<Answer> answer = decode_answer(frame.body);
  if (!answer.ok()) return refuse(Refusal::kProtocol, std::move(answer).error(), now);
  if (answer->epoch < options_.epoch) {
    return refuse(Refusal::kProtocol, protocol_error("an answer to another hello"), now);
  }
  if (Status agreed = session_->agree(options_.vm, hello_, *answer); !agreed.ok()) {
    return refuse(Refusal::kProtocol, std::move(agreed).error(), now);
  }
  peer_epoch_ = answer->epoch;
  step_ = Step::kChecked;
  effects_.push_back(CheckStatement{.session = session_->number(),
                                    .peer = options_.peer_site,
                                    .statement = session_->peer_statement(),
                                    .signature = answer->signature});
}

void Sender::statement_checked(uint64_t session, Status good, Micros now) {
  if (!session_ || session != session_->number() || !greeting(Step::kChecked)) return;
  if (!good.ok()) {
    return refuse(Refusal::kUnproven,
                  std::move(good).error().context("the replica's site did not prove itself"), now);
  }
  session_->confirm();
  if (peer_epoch_ > options_.epoch) {
    effects_.push_back(PeerEpoch{peer_epoch_});
    return halt(Refusal::kStaleEpoch,
                {.code = ErrorCode::kConflict,
                 .cause = "the peer knows epoch " + std::to_string(peer_epoch_.value) +
                          ", this site runs under " + std::to_string(options_.epoch.value),
                 .effect = "the VM was taken over at the other site",
                 .mend = "stop the VM here"});
  }
  step_ = Step::kSigned;
  effects_.push_back(
      SignStatement{.session = session_->number(), .statement = session_->own_statement()});
}

void Sender::statement_signed(uint64_t session, Result<crypto::Signature> signature, Micros now) {
  if (!session_ || session != session_->number() || !greeting(Step::kSigned)) return;
  if (!signature.ok()) {
    return refuse(Refusal::kUnproven,
                  std::move(signature).error().context("this site's vault did not sign"), now);
  }
  step_ = Step::kBegin;
  deadline_ = Micros(now.value + options_.answer_us_max);
  effects_.push_back(SendFrame{encode(options_.vm, Auth{.signature = *signature})});
}

void Sender::on_begin(const Frame& frame, Micros now) {
  if (!greeting(Step::kBegin)) {
    return refuse(Refusal::kProtocol, protocol_error("a session begins twice"), now);
  }
  Result<Begin> begin = decode_begin(frame.body);
  if (!begin.ok()) return refuse(Refusal::kProtocol, std::move(begin).error(), now);
  if (!open_frame(*session_, *begin)) {
    return refuse(Refusal::kProtocol, forged("the replica's position"), now);
  }
  take_begin(*begin);
}

void Sender::take_begin(const Begin& begin) {
  // Only a replica whose disk was exchanged, or lost what was synced, says so.
  if (acknowledged_ && begin.durable.position.sequence < acknowledged_->position.sequence) {
    effects_.push_back(ReplicaWentBack{.had = *acknowledged_, .has = begin.durable});
    last_error_ = Error{
        .code = ErrorCode::kCorrupt,
        .cause = "the replica holds record " +
                 std::to_string(begin.durable.position.sequence.value) + " and had acknowledged " +
                 std::to_string(acknowledged_->position.sequence.value),
        .effect = "what it lacks is sent again",
        .mend = "look at the replica's site: was its disk exchanged or put back from a copy?"};
    acknowledged_.reset();
  }
  state_ = State::kStreaming;
  deadline_ = kNever;
  retry_us_ = options_.retry_us_min;
  begun_at_ = begin.durable;
  shipped_ = begin.durable;
  window_bytes_ = std::min<uint64_t>(options_.window_bytes_max, begin.window_bytes);
  HF_ASSERT(in_flight_.empty() && in_flight_bytes_ == 0);
  want_more();
}

// The feed answered for what comes after it, so it is home's.
void Sender::found_on_line() {
  if (begun_at_) acknowledged_ = *std::exchange(begun_at_, std::nullopt);
}

// ---- Records ------------------------------------------------------------------------------------

void Sender::on_ack(const Frame& frame, Micros now) {
  if (state_ != State::kStreaming && state_ != State::kSeeding) {
    return refuse(Refusal::kProtocol, protocol_error("an acknowledgement before the session"), now);
  }
  const Result<Ack> ack = decode_ack(frame.body);
  if (!ack.ok()) return refuse(Refusal::kProtocol, Error(ack.error()), now);
  if (!open_frame(*session_, *ack)) {
    return refuse(Refusal::kProtocol, forged("an acknowledgement"), now);
  }
  const Sequence to = ack->durable.position.sequence;
  if (begun_at_ || to > shipped_.position.sequence || to < acknowledged_->position.sequence) {
    return refuse(Refusal::kProtocol,
                  protocol_error("an acknowledgement of what was not sent, or backwards"), now);
  }
  journal::LineEnd reached = *acknowledged_;
  while (!in_flight_.empty() && in_flight_.front().end.position.sequence <= to) {
    HF_ASSERT(in_flight_bytes_ >= in_flight_.front().bytes);
    reached = in_flight_.front().end;
    in_flight_bytes_ -= in_flight_.front().bytes;
    in_flight_.pop_front();
  }
  if (reached != ack->durable) {
    return refuse(Refusal::kDiverged,
                  diverged("the replica acknowledged other records than were sent"), now);
  }
  acknowledged_ = ack->durable;
  deadline_ = in_flight_.empty() ? kNever : Micros(now.value + options_.answer_us_max);
  want_more();
}

void Sender::on_error(const Frame& frame, Micros now) {
  Result<ErrorFrame> error = decode_error(frame.body);
  if (!error.ok()) return refuse(Refusal::kProtocol, std::move(error).error(), now);
  Error reason{.code = code_of(error->refusal),
               .cause = std::string("the replica's site refuses (") + to_string(error->refusal) +
                        "): " + error->cause,
               .effect = error->effect,
               .mend = error->mend};
  // Anybody on the way can write one without a MAC.
  const bool said = proven() && !error->mac.is_zero() && open_frame(*session_, *error);
  if (!said) return drop(std::move(reason), now);
  if (error->epoch > options_.epoch) effects_.push_back(PeerEpoch{error->epoch});
  if (is_final(error->refusal)) return halt(error->refusal, std::move(reason));
  drop(std::move(reason), now);
}

void Sender::feed_records(const FeedBatch& batch, Micros now) {
  HF_ASSERT(feed_asked_);
  if (!feed_answer_counts(State::kStreaming)) return want_more();
  found_on_line();
  home_durable_ = std::max(home_durable_, batch.durable);
  if (batch.records.empty()) {
    oldest_unshipped_ = batch.oldest_unshipped;
    return want_more();
  }
  // The feed's end is a process that faces a guest: nothing it says may end this one.
  if (batch.records.size() > asked_bytes_max_) {
    return refuse(Refusal::kBadRecords, protocol_error("the feed gave more than was asked for"),
                  now);
  }
  if (const Status checked = check_batch(batch); !checked.ok()) {
    const bool fork = checked.error().code == ErrorCode::kConflict;
    return refuse(fork ? Refusal::kDiverged : Refusal::kBadRecords, Error(checked.error()), now);
  }
  oldest_unshipped_ = Micros(0);  // the next answer says what came after this batch
  if (deadline_ == kNever) deadline_ = Micros(now.value + options_.answer_us_max);
  send_sealed(Records{.home_durable = batch.durable, .records = batch.records, .mac = {}},
              shipped_);
  want_more();
}

Status Sender::check_batch(const FeedBatch& batch) {
  journal::LineEnd end = shipped_;
  std::vector<Shipped> records;
  for (ByteSpan left = batch.records; !left.empty();) {
    const journal::RecordHeader header = TRY(journal::decode_header(left));
    const size_t size = header.stored_size();
    if (size > left.size()) return protocol_error("the feed gave half a record");
    if (header.vm != options_.vm) return protocol_error("the feed gave a record of another VM");
    if (header.sequence != end.position.sequence.next() || header.prev_chain != end.chain) {
      return diverged("home's record " + std::to_string(header.sequence.value) +
                      " does not follow the replica's last, " +
                      std::to_string(end.position.sequence.value));
    }
    // The promise a replica rests on: home cannot lose what it holds.
    if (!options_.faults.shipped_before_durable && header.sequence > batch.durable) {
      return protocol_error("the feed gave a record that is not durable at home");
    }
    end.position = {.incarnation = header.incarnation, .sequence = header.sequence};
    end.chain = journal::next_chain(
        end.chain, journal::header_digest(left.first<journal::kRecordHeaderSize>()));
    records.push_back({.end = end, .time = header.time, .bytes = size});
    left = left.subspan(size);
  }
  shipped_ = end;
  for (const Shipped& record : records) {
    in_flight_.push_back(record);
    in_flight_bytes_ += record.bytes;
  }
  return {};
}

void Sender::feed_failed(const Error& error, Micros now) {
  HF_ASSERT(feed_asked_);
  const bool seeding = state_ == State::kSeeding;
  if (!feed_answer_counts(seeding ? State::kSeeding : State::kStreaming)) return want_more();
  if (seeding) return drop(Error(error).context("seed"), now);
  if (error.code == ErrorCode::kConflict) {
    // Whatever it holds, it isn't home's.
    if (begun_at_) acknowledged_.reset();
    return refuse(Refusal::kDiverged,
                  diverged("the replica's last record, number " +
                           std::to_string(shipped_.position.sequence.value) +
                           ", is not on this site's line: " + error.cause),
                  now);
  }
  if (error.code == ErrorCode::kNotFound) {
    found_on_line();
    return begin_seed();
  }
  drop(Error(error).context("feed"), now);
}

bool Sender::feed_answer_counts(State state) {
  feed_asked_ = false;
  return !std::exchange(feed_answer_is_stale_, false) && state_ == state;
}

// ---- Seeding ------------------------------------------------------------------------------------

void Sender::begin_seed() {
  HF_ASSERT(!feed_asked_ && !seed_);
  state_ = State::kSeeding;
  feed_asked_ = true;
  effects_.push_back(WantSeed{});
}

void Sender::feed_seed(ByteSpan description, Micros now) {
  HF_ASSERT(feed_asked_);
  if (!feed_answer_counts(State::kSeeding) || seed_) return want_more();
  Result<journal::SeedDescription> seed =
      journal::decode_seed(description, options_.vm, options_.public_key);
  if (!seed.ok()) {
    return refuse(Refusal::kBadRecords, std::move(seed).error().context("this site's own seed"),
                  now);
  }
  const uint64_t total = seed->bytes();
  seed_ = Seeding{.seed = std::move(*seed), .total = total};
  deadline_ = Micros(now.value + options_.answer_us_max);
  send_sealed(Seed{.description = description, .mac = {}});
  want_seed_bytes();
}

void Sender::want_seed_bytes() {
  if (feed_asked_ || !seed_ || seed_->sent == seed_->total) return;
  HF_ASSERT(seed_->sent - seed_->taken <= window_bytes_);
  const uint64_t room = window_bytes_ - (seed_->sent - seed_->taken);
  const journal::SeedBase& base = seed_->seed.bases[seed_->base];
  seed_->asked = static_cast<size_t>(
      std::min({room, base.size() - seed_->at, uint64_t{journal::kSeedReadMax}}));
  if (seed_->asked == 0) return;
  feed_asked_ = true;
  effects_.push_back(
      WantSeedBytes{.base = base.number, .offset = seed_->at, .length = seed_->asked});
}

void Sender::feed_seed_bytes(ByteSpan bytes, Micros now) {
  HF_ASSERT(feed_asked_);
  if (!feed_answer_counts(State::kSeeding) || !seed_) return want_more();
  if (bytes.size() != seed_->asked) {
    return drop({.code = ErrorCode::kIo, .cause = "the feed gave other bytes than asked for"}, now);
  }
  send_sealed(SeedBytes{.offset = seed_->sent, .bytes = bytes, .mac = {}});
  seed_->sent += bytes.size();
  seed_->at += bytes.size();
  if (seed_->at == seed_->seed.bases[seed_->base].size()) {
    ++seed_->base;
    seed_->at = 0;
  }
  want_seed_bytes();
}

void Sender::on_seed_ack(const Frame& frame, Micros now) {
  if (state_ != State::kSeeding || !seed_) {
    return refuse(Refusal::kProtocol, protocol_error("a seed's acknowledgement out of turn"), now);
  }
  const Result<SeedAck> ack = decode_seed_ack(frame.body);
  if (!ack.ok()) return refuse(Refusal::kProtocol, Error(ack.error()), now);
  if (!open_frame(*session_, *ack)) {
    return refuse(Refusal::kProtocol, forged("a seed's acknowledgement"), now);
  }
  if (ack->total != seed_->total || ack->taken > seed_->sent || ack->taken < seed_->taken) {
    return refuse(Refusal::kProtocol, protocol_error("an acknowledgement of another seed"), now);
  }
  seed_->taken = ack->taken;
  deadline_ = Micros(now.value + options_.answer_us_max);
  if (!ack->installed) return want_seed_bytes();
  retry_us_ = options_.retry_us_min;
  drop({.code = ErrorCode::kUnavailable, .cause = "the replica is seeded and opens anew"}, now);
  last_error_.reset();
}

std::optional<Sender::SeedProgress> Sender::seeding() const {
  if (state_ != State::kSeeding) return std::nullopt;
  return seed_ ? SeedProgress{.done = seed_->taken, .total = seed_->total} : SeedProgress{};
}

// ---- Connection ---------------------------------------------------------------------------------

void Sender::want_more() {
  if (state_ != State::kStreaming || feed_asked_) return;
  HF_ASSERT(in_flight_bytes_ <= window_bytes_);
  const uint64_t room = window_bytes_ - in_flight_bytes_;
  if (room < journal::kRecordSizeMax) return;  // the next record might not fit
  asked_bytes_max_ = std::min<uint64_t>(options_.batch_bytes_max, room);
  feed_asked_ = true;
  effects_.push_back(WantRecords{.after = shipped_.position, .bytes_max = asked_bytes_max_});
}

void Sender::tick(Micros now) {
  if (state_ == State::kIdle || state_ == State::kHalted) return;
  if (now < deadline_) return;
  const bool vault = greeting(Step::kChecked) || greeting(Step::kSigned);
  drop(
      {.code = ErrorCode::kTimeout,
       .cause = vault ? "this site's vault does not answer" : "the replica's site does not answer"},
      now);
}

void Sender::refuse(Refusal refusal, Error error, Micros now) {
  ErrorFrame said{.refusal = refusal,
                  .epoch = options_.epoch,
                  .cause = error.cause,
                  .effect = error.effect,
                  .mend = error.mend,
                  .mac = {}};
  if (proven()) {
    send_sealed(said);
  } else {
    effects_.push_back(SendFrame{encode(options_.vm, said)});
  }
  if (is_final(refusal)) return halt(refusal, std::move(error));
  drop(std::move(error), now);
}

void Sender::drop(Error error, Micros now) {
  forget_connection();
  state_ = State::kIdle;
  reconnect_at_ = Micros(now.value + retry_us_);
  retry_us_ = std::min(retry_us_ * 2, options_.retry_us_max);
  last_error_ = error;
  effects_.push_back(Disconnect{std::move(error)});
}

void Sender::halt(Refusal refusal, Error error) {
  forget_connection();
  halted_as_ = refusal;
  state_ = State::kHalted;
  last_error_ = error;
  halted_for_ = error;
  effects_.push_back(Disconnect{std::move(error)});
}

void Sender::reset() {
  HF_ASSERT(state_ == State::kHalted);
  state_ = State::kIdle;
  halted_for_.reset();
  halted_as_.reset();
  acknowledged_.reset();
  reconnect_at_ = Micros(0);
  retry_us_ = options_.retry_us_min;
}

void Sender::forget_connection() {
  // What was under way counts as not shipped: its age goes on as the RPO's.
  if (!in_flight_.empty()) oldest_unshipped_ = in_flight_.front().time;
  session_.reset();
  begun_at_.reset();
  in_flight_.clear();
  in_flight_bytes_ = 0;
  seed_.reset();
  deadline_ = kNever;
  if (feed_asked_) feed_answer_is_stale_ = true;
}

uint64_t Sender::rpo_us(Micros wall_now) const {
  const Micros oldest = in_flight_.empty() ? oldest_unshipped_ : in_flight_.front().time;
  if (oldest.value == 0 || oldest >= wall_now) return 0;
  return wall_now.value - oldest.value;
}

uint64_t Sender::lag_records() const {
  if (!acknowledged_ || home_durable_ <= acknowledged_->position.sequence) return 0;
  return home_durable_.value - acknowledged_->position.sequence.value;
}

bool Sender::caught_up() const {
  // A journal has at least its incarnation record: nothing durable means that the feed was not
  // asked yet.
  return state_ == State::kStreaming && home_durable_.value != 0 && in_flight_.empty() &&
         !begun_at_ && acknowledged_ && acknowledged_->position.sequence >= home_durable_ &&
         oldest_unshipped_.value == 0;
}

}  // namespace hf::replication
