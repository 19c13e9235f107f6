#include "replication/receiver.h"

#include <algorithm>

namespace hf::replication {

namespace {

constexpr Micros kNever{UINT64_MAX};

Refusal refusal_of(const Error& error) {
  switch (error.code) {
    case ErrorCode::kCorrupt:
    case ErrorCode::kWrongKey:
      return Refusal::kBadRecords;
    case ErrorCode::kConflict:
      return Refusal::kDiverged;
    default:
      return Refusal::kStorage;
  }
}

}  // namespace

Receiver::Receiver(ReceiverOptions options, journal::ReplicaJournal& journal)
    : options_(options), journal_(journal) {
  HF_ASSERT(options_.window_bytes >= journal::kRecordSizeMax);
}

Effects Receiver::take_effects() { return std::exchange(effects_, {}); }

void Receiver::connected(Micros now) {
  HF_ASSERT(state_ == State::kIdle);
  state_ = State::kWaiting;
  deadline_ = Micros(now.value + options_.silence_us_max);
}

void Receiver::disconnected() {
  forget_connection();
  std::erase_if(effects_, [](const Effect& e) { return std::holds_alternative<Disconnect>(e); });
}

void Receiver::received(const Frame& frame, Micros) {
  if (state_ == State::kIdle) return;  // of a connection given up
  if (frame.vm != options_.vm) {
    return refuse(Refusal::kUnknownVm,
                  {.code = ErrorCode::kNotFound, .cause = "this connection carries another VM"});
  }
  if (frame.type == FrameType::kHello && state_ == State::kWaiting) return on_hello(frame);
  if (frame.type == FrameType::kRecords && state_ == State::kStreaming) return on_records(frame);
  if (frame.type == FrameType::kSeed && state_ == State::kStreaming) return on_seed(frame);
  if (frame.type == FrameType::kSeedBytes && state_ == State::kSeeding) return on_seed_bytes(frame);
  if (frame.type == FrameType::kError) {
    const Result<ErrorFrame> error = decode_error(frame.body);
    last_error_ = error.ok() ? Error{.code = ErrorCode::kConflict,
                                     .cause = "the source gives up: " + error->cause,
                                     .effect = error->effect,
                                     .mend = error->mend}
                             : error.error();
    forget_connection();
    effects_.push_back(Disconnect{*last_error_});
    return;
  }
  refuse(Refusal::kProtocol, {.code = ErrorCode::kUnsupported,
                              .cause = std::string("unexpected frame: ") + to_string(frame.type)});
}

void Receiver::on_hello(const Frame& frame) {
  const Result<Hello> hello = decode_hello(frame.body);
  if (!hello.ok()) return refuse(Refusal::kProtocol, Error(hello.error()));
  if (hello->public_key != options_.public_key) {
    return refuse(Refusal::kWrongKey,
                  {.code = ErrorCode::kWrongKey,
                   .cause = "the source's journal key is not the one pinned for this VM",
                   .effect = "nothing was taken from it",
                   .mend = "if the VM's key was replaced on purpose, protect it anew"});
  }
  const Epoch known = std::max(options_.epoch, journal_.epoch());
  if (hello->epoch < known) {
    return refuse(Refusal::kStaleEpoch,
                  {.code = ErrorCode::kConflict,
                   .cause = "the source runs under epoch " + std::to_string(hello->epoch.value) +
                            ", this site knows epoch " + std::to_string(known.value),
                   .effect = "the VM was taken over; the source's writes since are a branch",
                   .mend = "stop the VM at the source"});
  }
  if (const Error* failed = journal_.failed(); failed != nullptr) {
    return refuse(Refusal::kStorage, Error(*failed));
  }
  if (hello->epoch > options_.epoch) {
    options_.epoch = hello->epoch;
    effects_.push_back(PeerEpoch{hello->epoch});
  }
  state_ = State::kStreaming;
  deadline_ = kNever;
  const journal::LineEnd durable = journal_.durable_end();
  acknowledged_ = durable.position.sequence;
  // What an earlier connection brought and is not durable yet will come again; the journal has it
  // already, so wait for it to be durable before saying where to go on.
  if (journal_.end() != durable) {
    taken_since_flush_ = true;
    reply_due_ = true;
    return flush_if_due();
  }
  reply();
}

void Receiver::reply() {
  reply_due_ = false;
  const journal::LineEnd durable = journal_.durable_end();
  acknowledged_ = durable.position.sequence;
  effects_.push_back(
      SendFrame{encode(options_.vm, HelloReply{.epoch = options_.epoch,
                                               .durable = durable,
                                               .window_bytes = options_.window_bytes})});
}

void Receiver::on_records(const Frame& frame) {
  const Result<Records> records = decode_records(frame.body);
  if (!records.ok()) return refuse(Refusal::kProtocol, Error(records.error()));
  if (reply_due_ || waiting_bytes() + records->records.size() > options_.window_bytes) {
    return refuse(Refusal::kProtocol, {.code = ErrorCode::kLimit,
                                       .cause = "the source sends more than the window allows"});
  }
  home_durable_ = std::max(home_durable_, records->home_durable);
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(waiting_at_));
  waiting_at_ = 0;
  waiting_.insert(waiting_.end(), records->records.begin(), records->records.end());
  drain();
}

void Receiver::drain() {
  while (state_ == State::kStreaming && waiting_bytes() > 0 && journal_.accepting()) {
    const Result<size_t> taken = journal_.append_sealed(ByteSpan(waiting_).subspan(waiting_at_));
    if (!taken.ok()) {
      // Records before the bad one were taken; they are good and stay.
      return refuse(refusal_of(taken.error()), Error(taken.error()));
    }
    if (*taken == 0) break;
    HF_ASSERT(*taken <= waiting_bytes());
    waiting_at_ += *taken;
    taken_since_flush_ = true;
  }
  flush_if_due();
}

void Receiver::flush_if_due() {
  if (flushing_ || !taken_since_flush_ || journal_.failed() != nullptr) return;
  taken_since_flush_ = false;
  flushing_ = true;
  journal_.flush(flushed_);
}

// ---- Seeding ------------------------------------------------------------------------------------

void Receiver::on_seed(const Frame& frame) {
  const Result<Seed> body = decode_seed_frame(frame.body);
  if (!body.ok()) return refuse(Refusal::kProtocol, Error(body.error()));
  if (reply_due_ || waiting_bytes() > 0) {
    return refuse(Refusal::kProtocol,
                  {.code = ErrorCode::kUnsupported, .cause = "a seed while records are under way"});
  }
  const Result<journal::SeedDescription> seed =
      journal::decode_seed(body->description, options_.vm, options_.public_key);
  if (!seed.ok()) return refuse(refusal_of(seed.error()), Error(seed.error()));
  if (const Status begun = journal_.begin_seed(*seed); !begun.ok()) {
    return refuse(refusal_of(begun.error()), Error(begun.error()));
  }
  state_ = State::kSeeding;
  acknowledge_seed();
}

void Receiver::on_seed_bytes(const Frame& frame) {
  const Result<SeedBytes> body = decode_seed_bytes(frame.body);
  if (!body.ok()) return refuse(Refusal::kProtocol, Error(body.error()));
  if (body->offset != journal_.seed_taken()) {
    return refuse(Refusal::kProtocol,
                  {.code = ErrorCode::kCorrupt, .cause = "a seed's bytes out of order"});
  }
  if (const Status taken = journal_.append_seed(body->bytes); !taken.ok()) {
    return refuse(refusal_of(taken.error()), Error(taken.error()));
  }
  acknowledge_seed();
  finish_seed();
}

// At once when all is there and nothing of the journal that it replaces is under way.
void Receiver::finish_seed() {
  if (journal_.seed_taken() != journal_.seed_total() || flushing_ || !journal_.idle()) return;
  const uint64_t total = journal_.seed_total();
  if (const Status finished = journal_.finish_seed(); !finished.ok()) {
    return refuse(Refusal::kStorage, Error(finished.error()));
  }
  effects_.push_back(
      SendFrame{encode(options_.vm, SeedAck{.taken = total, .total = total, .installed = true})});
  forget_connection();
  effects_.push_back(Disconnect{
      {.code = ErrorCode::kUnavailable, .cause = "the replica is seeded and opens anew"}});
}

void Receiver::acknowledge_seed() {
  effects_.push_back(SendFrame{encode(
      options_.vm, SeedAck{.taken = journal_.seed_taken(), .total = journal_.seed_total()})});
}

void Receiver::on_flushed(Status status) {
  HF_ASSERT(flushing_);
  flushing_ = false;
  if (state_ != State::kStreaming) return;
  if (!status.ok()) return refuse(Refusal::kStorage, std::move(status).error());
  if (reply_due_) {
    if (journal_.end() == journal_.durable_end()) return reply();
    taken_since_flush_ = true;
  }
  if (!reply_due_) acknowledge();
  drain();
}

void Receiver::acknowledge() {
  const journal::LineEnd durable = journal_.durable_end();
  HF_ASSERT(durable.position.sequence >= acknowledged_);
  if (durable.position.sequence == acknowledged_) return;
  acknowledged_ = durable.position.sequence;
  effects_.push_back(SendFrame{encode(options_.vm, Ack{.durable = durable})});
}

void Receiver::tick(Micros now) {
  if (state_ == State::kWaiting && now >= deadline_) {
    return refuse(Refusal::kProtocol, {.code = ErrorCode::kTimeout, .cause = "no hello came"});
  }
  if (state_ == State::kSeeding && journal_.failed() == nullptr) return finish_seed();
  if (state_ != State::kStreaming && state_ != State::kSeeding) return;
  if (const Error* failed = journal_.failed(); failed != nullptr) {
    return refuse(Refusal::kStorage, Error(*failed));
  }
  drain();
}

void Receiver::refuse(Refusal refusal, Error error) {
  effects_.push_back(SendFrame{encode(options_.vm, ErrorFrame{.refusal = refusal,
                                                              .epoch = options_.epoch,
                                                              .cause = error.cause,
                                                              .effect = error.effect,
                                                              .mend = error.mend})});
  forget_connection();
  last_error_ = error;
  effects_.push_back(Disconnect{std::move(error)});
}

void Receiver::forget_connection() {
  if (state_ == State::kSeeding) journal_.abandon_seed();
  state_ = State::kIdle;
  deadline_ = kNever;
  waiting_.clear();
  waiting_at_ = 0;
  reply_due_ = false;
}

}  // namespace hf::replication
