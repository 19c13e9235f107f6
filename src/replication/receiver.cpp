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

Error forged(std::string what) {
  return Error{.code = ErrorCode::kCorrupt,
               .cause = std::move(what) + " was altered, or is not of this session",
               .effect = "nothing of it was taken; a new session begins",
               .mend = "if it goes on, look at what carries the sites' connection"};
}

}  // namespace

Receiver::Receiver(ReceiverOptions options, journal::ReplicaJournal& journal, Rng& rng)
    : options_(options), journal_(journal), rng_(rng) {
  HF_ASSERT(options_.window_bytes >= journal::kRecordSizeMax);
}

Effects Receiver::take_effects() { return std::exchange(effects_, {}); }

void Receiver::connected(Micros now) {
  HF_ASSERT(state_ == State::kIdle);
  state_ = State::kWaiting;
  step_ = Step::kHello;
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
  if (frame.type == FrameType::kHello && waiting_for(Step::kHello)) return on_hello(frame);
  if (frame.type == FrameType::kAuth && waiting_for(Step::kAuth)) return on_auth(frame);
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
  if (waiting_for(Step::kLastWord)) return refuse(Refusal::kStaleEpoch, stale());
  refuse(Refusal::kProtocol, {.code = ErrorCode::kUnsupported,
                              .cause = std::string("unexpected frame: ") + to_string(frame.type)});
}

// ---- A session's beginning ----------------------------------------------------------------------

Error Receiver::stale() const {
  return {.code = ErrorCode::kConflict,
          .cause = "the source runs under epoch " + std::to_string(hello_.epoch.value) +
                   ", this site knows epoch " + std::to_string(answer_.epoch.value),
          .effect = "the VM was taken over; the source's writes since are a branch",
          .mend = "stop the VM at the source"};
}

Status Receiver::check_hello(const Hello& hello) const {
  if (hello.home != options_.peer_site || hello.replica != options_.site) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "the source means another site, or is one that this VM is not from",
                 .effect = "nothing was taken from it",
                 .mend = "holdfast protection show at both sites"};
  }
  if (hello.public_key != options_.public_key) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the source's journal key is not the one pinned for this VM",
                 .effect = "nothing was taken from it",
                 .mend = "if the VM's key was replaced on purpose, protect it anew"};
  }
  return {};
}

void Receiver::on_hello(const Frame& frame) {
  const Result<Hello> hello = decode_hello(frame.body);
  if (!hello.ok()) return refuse(Refusal::kProtocol, Error(hello.error()));
  if (Status meant = check_hello(*hello); !meant.ok()) {
    const bool key = meant.error().code == ErrorCode::kWrongKey;
    return refuse(key ? Refusal::kWrongKey : Refusal::kUnknownVm, std::move(meant).error());
  }
  hello_ = *hello;
  session_.emplace(crypto::SessionRole::kReplica, rng_, options_.faults);
  answer_ = {.epoch = std::max({hello_.epoch, options_.epoch, journal_.epoch()}),
             .ephemeral = session_->ephemeral(),
             .nonce = session_->nonce(),
             .signature = {}};
  if (Status agreed = session_->agree(options_.vm, hello_, answer_); !agreed.ok()) {
    return refuse(Refusal::kProtocol, std::move(agreed).error());
  }
  step_ = Step::kSigned;
  effects_.push_back(
      SignStatement{.session = session_->number(), .statement = session_->own_statement()});
}

void Receiver::statement_signed(uint64_t session, Result<crypto::Signature> signature, Micros) {
  if (!session_ || session != session_->number() || !waiting_for(Step::kSigned)) return;
  if (!signature.ok()) {
    return refuse(Refusal::kUnproven,
                  std::move(signature).error().context("the replica's vault did not sign"));
  }
  answer_.signature = *signature;
  effects_.push_back(SendFrame{encode(options_.vm, answer_)});
  // A source that was taken over hears it from our vault: it stops at nobody else's word.
  step_ = answer_.epoch > hello_.epoch ? Step::kLastWord : Step::kAuth;
  if (step_ == Step::kLastWord) last_error_ = stale();
}

void Receiver::on_auth(const Frame& frame) {
  const Result<Auth> auth = decode_auth(frame.body);
  if (!auth.ok()) return refuse(Refusal::kProtocol, Error(auth.error()));
  step_ = Step::kChecked;
  effects_.push_back(CheckStatement{.session = session_->number(),
                                    .peer = options_.peer_site,
                                    .statement = session_->peer_statement(),
                                    .signature = auth->signature});
}

void Receiver::statement_checked(uint64_t session, Status good, Micros) {
  if (!session_ || session != session_->number() || !waiting_for(Step::kChecked)) return;
  if (!good.ok()) {
    return refuse(Refusal::kUnproven,
                  std::move(good).error().context("the source's site did not prove itself"));
  }
  session_->confirm();
  if (const Error* failed = journal_.failed(); failed != nullptr) {
    return refuse(Refusal::kStorage, Error(*failed));
  }
  if (hello_.epoch > options_.epoch) {
    options_.epoch = hello_.epoch;
    effects_.push_back(PeerEpoch{hello_.epoch});
  }
  state_ = State::kStreaming;
  deadline_ = kNever;
  const journal::LineEnd durable = journal_.durable_end();
  acknowledged_ = durable;
  // What an earlier connection brought and is not durable yet will come again; the journal has it
  // already, so wait for it to be durable before saying where to go on.
  if (journal_.end() != durable) {
    taken_since_flush_ = true;
    begin_due_ = true;
    return flush_if_due();
  }
  begin();
}

void Receiver::begin() {
  begin_due_ = false;
  received_ = journal_.durable_end();
  acknowledged_ = received_;
  send_sealed(Begin{.durable = received_, .window_bytes = options_.window_bytes, .mac = {}});
}

template <typename Body>
void Receiver::send_sealed(const Body& body) {
  effects_.push_back(SendFrame{seal_frame(*session_, options_.vm, body)});
}

// ---- Records ------------------------------------------------------------------------------------

// To where these records lead from what came before, by their headers alone.
std::optional<journal::LineEnd> Receiver::follow(ByteSpan records) const {
  journal::LineEnd end = received_;
  while (!records.empty()) {
    const Result<journal::RecordHeader> header = journal::decode_header(records);
    if (!header.ok() || header->stored_size() > records.size()) return std::nullopt;
    if (header->sequence != end.position.sequence.next() || header->prev_chain != end.chain) {
      return std::nullopt;
    }
    end.position = {.incarnation = header->incarnation, .sequence = header->sequence};
    end.chain = journal::next_chain(
        end.chain, journal::header_digest(records.first<journal::kRecordHeaderSize>()));
    records = records.subspan(header->stored_size());
  }
  return end;
}

void Receiver::on_records(const Frame& frame) {
  const Result<Records> records = decode_records(frame.body);
  if (!records.ok()) return refuse(Refusal::kProtocol, Error(records.error()));
  if (begin_due_ || waiting_bytes() + records->records.size() > options_.window_bytes) {
    return refuse(Refusal::kProtocol, {.code = ErrorCode::kLimit,
                                       .cause = "the source sends more than the window allows"});
  }
  const std::optional<journal::LineEnd> end = follow(records->records);
  if (!end || !open_frame(*session_, *records, *end)) {
    return refuse(Refusal::kProtocol, forged("a batch of records"));
  }
  received_ = *end;
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
  if (begin_due_ || waiting_bytes() > 0) {
    return refuse(Refusal::kProtocol,
                  {.code = ErrorCode::kUnsupported, .cause = "a seed while records are under way"});
  }
  if (!open_frame(*session_, *body)) return refuse(Refusal::kProtocol, forged("a seed"));
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
  if (!open_frame(*session_, *body)) {
    return refuse(Refusal::kProtocol, forged("a part of a seed"));
  }
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
  send_sealed(SeedAck{.taken = total, .total = total, .installed = true, .mac = {}});
  forget_connection();
  effects_.push_back(Disconnect{
      {.code = ErrorCode::kUnavailable, .cause = "the replica is seeded and opens anew"}});
}

void Receiver::acknowledge_seed() {
  send_sealed(SeedAck{.taken = journal_.seed_taken(), .total = journal_.seed_total(), .mac = {}});
}

void Receiver::on_flushed(Status status) {
  HF_ASSERT(flushing_);
  flushing_ = false;
  if (state_ != State::kStreaming) return;
  if (!status.ok()) return refuse(Refusal::kStorage, std::move(status).error());
  if (begin_due_) {
    if (journal_.end() == journal_.durable_end()) return begin();
    taken_since_flush_ = true;
  }
  if (!begin_due_) acknowledge();
  drain();
}

void Receiver::acknowledge() {
  const journal::LineEnd durable = journal_.durable_end();
  HF_ASSERT(durable.position.sequence >= acknowledged_.position.sequence);
  if (durable.position.sequence == acknowledged_.position.sequence) return;
  acknowledged_ = durable;
  send_sealed(Ack{.durable = durable, .mac = {}});
}

void Receiver::tick(Micros now) {
  if (state_ == State::kWaiting && now >= deadline_) {
    return refuse(Refusal::kProtocol, {.code = ErrorCode::kTimeout,
                                       .cause = "the source did not prove itself in time"});
  }
  if (state_ == State::kSeeding && journal_.failed() == nullptr) return finish_seed();
  if (state_ != State::kStreaming && state_ != State::kSeeding) return;
  if (const Error* failed = journal_.failed(); failed != nullptr) {
    return refuse(Refusal::kStorage, Error(*failed));
  }
  drain();
}

void Receiver::refuse(Refusal refusal, Error error) {
  const ErrorFrame said{.refusal = refusal,
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
  forget_connection();
  last_error_ = error;
  effects_.push_back(Disconnect{std::move(error)});
}

void Receiver::forget_connection() {
  if (state_ == State::kSeeding) journal_.abandon_seed();
  state_ = State::kIdle;
  session_.reset();
  deadline_ = kNever;
  waiting_.clear();
  waiting_at_ = 0;
  begin_due_ = false;
}

}  // namespace hf::replication
