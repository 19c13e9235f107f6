#include "keeper/replica/replica_keeper.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "keeper/directory_lock.h"
#include "keeper/sandbox.h"

namespace hf::keeper {
namespace {

using keeper_protocol::End;

constexpr Micros kNever{UINT64_MAX};
constexpr uint64_t kTrimAfterUs = 1'000'000;
constexpr uint64_t kStopGraceUs = 10'000'000;
constexpr size_t kSealsMax = 16;
// Of what files answer, before sockets have their turn again.
constexpr int kStorageRounds = 16;
// Three buffers of this stay resident; records of the largest size fit.
constexpr size_t kStagingBytes = journal::kRecordSizeMax + (size_t{128} << 10);
// What was checked record by record as it came need not all be read again at each start.
constexpr uint64_t kVerifyAtOpen = uint64_t{64} << 20;

journal::ReplicaOptions options_of(const keeper_protocol::ReplicaConfig& config) {
  journal::ReplicaOptions options{.vm = config.vm, .public_key = config.public_key};
  options.log.staging_bytes = kStagingBytes;
  options.log.verify_bytes_max = kVerifyAtOpen;
  return options;
}

// The launcher keeps what is written here.
void log_line(const std::string& text) {
  std::fputs(("holdfast-keeper: replica: " + text + "\n").c_str(), stderr);
}

Error with_advice(Error error) {
  const bool full = error.code == ErrorCode::kNoSpace;
  return std::move(error)
      .with_effect("the replica takes nothing and falls behind")
      .with_mend(full ? "free space on the replica's site; it then goes on by itself"
                      : "look at the replica's site: holdfast protection show there");
}

Error holds_enough(uint64_t stored, uint64_t stored_max, const SiteId& source) {
  return {.code = ErrorCode::kLimit,
          .cause = "the quota of the VM's site is used up at the replica's: the replica holds " +
                   std::to_string(stored) + " bytes of the " + std::to_string(stored_max) +
                   " that it may",
          .effect = "the replica takes nothing and falls behind",
          .mend = "at the replica's site: holdfast site peer set " + source.hex() +
                  " --quota SIZE, or holdfast replica evict VM of one that is not needed; it then "
                  "goes on by itself"};
}

}  // namespace

ReplicaKeeper::ReplicaKeeper(const keeper_protocol::ReplicaConfig& config) : config_(config) {
  if (config.limited) stored_max_ = 0;  // nothing, until it is told
}
ReplicaKeeper::~ReplicaKeeper() {
  if (reactor_ == nullptr) return;
  reactor_->end_turns(turn_);
  reactor_->disarm(*this);
}

Status ReplicaKeeper::start(sys::InheritedFds& fds) {
  lock_ = TRY(lock_directory(config_.journal_dir));
  reactor_ = TRY(sys::Reactor::create());
  ::mallopt(M_ARENA_MAX, 1);  // a thread of a moment leaves no heap of its own behind
  vault_ = std::make_unique<SessionVault>(*reactor_, config_.vm, config_.vault_socket);
  witness_ = std::make_unique<SessionVault>(*reactor_, config_.vm, config_.vault_socket);
  TRY_CONTEXT(open_journal(), "open the replica " + config_.journal_dir);
  TRY_CONTEXT(confine_to_directories({config_.journal_dir}), "give up other files");
  ship_ = std::make_unique<ShipSocket>(*reactor_, TRY(fds.take("ship")),
                                       static_cast<ShipHandler&>(*this));
  control_ = std::make_unique<ControlServer>(*reactor_, TRY(fds.take("control")),
                                             static_cast<ControlHandler&>(*this));
  ship_->start();
  control_->start();
  trim_when_idle();
  reactor_->each_turn(turn_);
  TRY_CONTEXT(confine_to_serving(), "give up system calls");
  return {};
}

Result<std::unique_ptr<journal::ReplicaJournal>> ReplicaKeeper::open_or_create() {
  auto opened = journal::ReplicaJournal::open(*storage_, clock_, options_of(config_));
  if (opened.ok() || !config_.create || opened.error().code != ErrorCode::kNotFound) return opened;
  return journal::ReplicaJournal::create(*storage_, clock_, options_of(config_));
}

Status ReplicaKeeper::open_journal() {
  storage_ = TRY(sys::PosixStorage::open_directory(config_.journal_dir));
  journal_ = TRY(open_or_create());
  receiver_ = std::make_unique<replication::Receiver>(
      replication::ReceiverOptions{.vm = config_.vm,
                                   .site = config_.site,
                                   .peer_site = config_.peer_site,
                                   .epoch = std::max(config_.epoch, learned_),
                                   .public_key = config_.public_key},
      *journal_, rng_);
  ++receiver_number_;
  return {};
}

Status ReplicaKeeper::make_room() {
  if (!stored_max_ || !told_ || stored_bytes() < *stored_max_) return {};
  if (journal_->stored().cut_at_opening == 0 || !seals_.empty()) return {};
  TRY(settle_journal());
  return reopen_if_gone();
}

Status ReplicaKeeper::room_for(size_t bytes) {
  if (config_.limited && !told_) {
    return Error{.code = ErrorCode::kUnavailable,
                 .cause = "the replica was not told yet how much it may hold",
                 .effect = "it takes nothing yet",
                 .mend = "it is told by itself within seconds"};
  }
  if (!stored_max_) return {};
  // With what has come and waits to be written.
  bytes += receiver_->waiting_bytes();
  if (stored_bytes() + bytes <= *stored_max_) return {};
  return holds_enough(stored_bytes(), *stored_max_, config_.peer_site);
}

Status ReplicaKeeper::run_until_stopped() {
  reactor_->run_until([this] { return stop_requested_ || !ended_.ok(); });
  if (ended_.ok()) return stop();
  reactor_->run_once(Micros(0));  // what home is told goes out
  return std::move(ended_);
}

// Once a turn of the loop, after whatever that turn did to the journal, before it waits.
void ReplicaKeeper::on_turn() {
  if (!ended_.ok()) return;
  ended_ = turn();
  const Micros next = next_deadline();
  if (next == kNever) {
    reactor_->disarm(*this);
  } else {
    reactor_->arm(*this, next);
  }
}

Micros ReplicaKeeper::next_deadline() const {
  Micros next = std::min(trim_at_, patience_);
  if (journal_ == nullptr) return next;
  if (!storage_->idle()) return reactor_->now();
  return std::min({next, journal_->next_deadline(), receiver_->deadline()});
}

Status ReplicaKeeper::turn() {
  const Micros now = reactor_->now();
  if (journal_ != nullptr) {
    for (int round = 0; round == 0 || (round < kStorageRounds && !storage_->idle()); ++round) {
      storage_->drain();
      if (reactor_->now() >= journal_->next_deadline()) journal_->tick();
      receiver_->tick(now);
      apply_effects();
    }
    durable_ = journal_->durable_end();
    durable_time_ = journal_->durable_time();
    if (journal_->replaced()) {
      log_line("seeded");
      end_stream();  // one that came in the same moment finds the new journal with its next try
      TRY(settle_journal());
      TRY_CONTEXT(open_journal(), "open the seeded replica");
      durable_ = journal_->durable_end();
      durable_time_ = journal_->durable_time();
    } else if (journal_->failed() != nullptr) {
      TRY(on_journal_failed());
    }
  }
  if (now >= trim_at_) trim_when_idle();
  return {};
}

// A full disk may have room later; anything else is for a new process.
Status ReplicaKeeper::on_journal_failed() {
  const Error failed = with_advice(*journal_->failed());
  error_ = failed;
  log_line(failed.describe());
  if (ship_->open()) refuse(replication::Refusal::kStorage, failed);
  end_stream();
  answer_seals(failed);
  TRY(settle_journal());
  if (failed.code == ErrorCode::kNoSpace) return {};
  return failed;
}

// Nothing may be under way when the journal goes.
Status ReplicaKeeper::settle_journal() {
  receiver_->disconnected();
  const Micros patience(reactor_->now().value + kStopGraceUs);
  while (!journal_->idle() || !storage_->idle()) {
    if (reactor_->now() > patience) {
      return Error{.code = ErrorCode::kIo, .cause = "the replica's disk does not answer"};
    }
    storage_->drain();
    if (journal_->failed() == nullptr) journal_->tick();
  }
  seal_flushing_ = false;
  learned_ = std::max(learned_, receiver_->epoch());
  receiver_.reset();
  journal_.reset();
  storage_.reset();
  return {};
}

Status ReplicaKeeper::reopen_if_gone() {
  if (journal_ != nullptr) return {};
  Status opened = open_journal();
  if (opened.ok()) return {};
  journal_.reset();
  storage_.reset();
  error_ = with_advice(std::move(opened).error());
  return *error_;
}

// ---- Ship ---------------------------------------------------------------------------------------

void ReplicaKeeper::on_ship_open() {
  if (sealed_) {
    return refuse(replication::Refusal::kBusy,
                  {.code = ErrorCode::kConflict,
                   .cause = "the replica is sealed: a failover is under way",
                   .effect = "nothing was received"});
  }
  if (Status open = reopen_if_gone(); !open.ok()) {
    return refuse(replication::Refusal::kStorage, Error(open.error()));
  }
  if (Status made = make_room(); !made.ok()) {
    return refuse(replication::Refusal::kStorage, Error(made.error()));
  }
  if (Status room = room_for(1); !room.ok()) {
    error_ = room.error();
    return refuse(replication::Refusal::kStorage, Error(room.error()));
  }
  receiver_->connected(reactor_->now());
  apply_effects();
}

void ReplicaKeeper::on_ship_frame(const replication::Frame& frame) {
  if (receiver_ == nullptr) return ship_->end();
  if (frame.type == replication::FrameType::kRecords ||
      frame.type == replication::FrameType::kSeedBytes) {
    if (Status room = room_for(frame.body.size()); !room.ok()) {
      error_ = room.error();
      log_line(error_->describe());
      refuse(replication::Refusal::kStorage, Error(room.error()));
      return end_stream();
    }
  }
  receiver_->received(frame, reactor_->now());
  apply_effects();
}

void ReplicaKeeper::on_ship_closed(Error reason) {
  if (receiver_ != nullptr) receiver_->disconnected();
  // What an end before said may be why this one ended, too; what did not check says it itself.
  if (!error_ || reason.code != ErrorCode::kUnavailable) error_ = std::move(reason);
  trim_at_ = Micros(reactor_->now().value + kTrimAfterUs);
}

void ReplicaKeeper::apply_effects() {
  for (replication::Effect& effect : receiver_->take_effects()) {
    if (auto* send = std::get_if<replication::SendFrame>(&effect)) {
      ship_->send(std::move(send->frame));
      trim_at_ = Micros(reactor_->now().value + kTrimAfterUs);
    } else if (auto* to_sign = std::get_if<replication::SignStatement>(&effect)) {
      ask_vault(*to_sign);
    } else if (auto* to_check = std::get_if<replication::CheckStatement>(&effect)) {
      ask_vault(*to_check);
    } else if (auto* epoch = std::get_if<replication::PeerEpoch>(&effect)) {
      learned_ = std::max(learned_, epoch->epoch);
    } else if (auto* end = std::get_if<replication::Disconnect>(&effect)) {
      if (!journal_->replaced()) {
        error_ = end->reason;
        log_line(end->reason.describe());
      }
      return end_stream();
    }
  }
  if (receiver_->state() == replication::Receiver::State::kStreaming) error_.reset();
}

void ReplicaKeeper::ask_vault(const replication::SignStatement& question) {
  vault_->sign(question, [this, receiver = receiver_number_,
                          session = question.session](Result<crypto::Signature> signature) {
    if (receiver != receiver_number_ || receiver_ == nullptr) return;
    receiver_->statement_signed(session, std::move(signature), reactor_->now());
    apply_effects();
  });
}

void ReplicaKeeper::ask_vault(const replication::CheckStatement& question) {
  vault_->check(question,
                [this, receiver = receiver_number_, session = question.session](Status good) {
                  if (receiver != receiver_number_ || receiver_ == nullptr) return;
                  receiver_->statement_checked(session, std::move(good), reactor_->now());
                  apply_effects();
                });
}

void ReplicaKeeper::refuse(replication::Refusal refusal, Error error) {
  ship_->send(replication::encode(config_.vm, replication::ErrorFrame{.refusal = refusal,
                                                                      .epoch = epoch(),
                                                                      .cause = error.cause,
                                                                      .effect = error.effect,
                                                                      .mend = error.mend}));
  ship_->end();
}

void ReplicaKeeper::end_stream() {
  ship_->end();
  if (receiver_ != nullptr) {
    receiver_->disconnected();
    (void)receiver_->take_effects();
  }
  trim_at_ = Micros(reactor_->now().value + kTrimAfterUs);
}

// What only a busy stream needs goes back to the system, once.
void ReplicaKeeper::trim_when_idle() {
  trim_at_ = kNever;
  if (receiver_ != nullptr) receiver_->trim();
  if (ship_ != nullptr) ship_->trim();
  ::malloc_trim(0);
}

// ---- Control ------------------------------------------------------------------------------------

void ReplicaKeeper::handle(keeper_protocol::Question question, ControlReply reply) {
  if (std::holds_alternative<keeper_protocol::GetStatus>(question)) {
    return reply(encode_reply(keeper_protocol::AnyStatus(status())));
  }
  if (std::holds_alternative<keeper_protocol::Seal>(question)) return seal(std::move(reply));
  if (std::holds_alternative<keeper_protocol::ShowLine>(question)) {
    return show_line(std::move(reply));
  }
  if (std::holds_alternative<keeper_protocol::Unseal>(question)) {
    sealed_ = false;
    answer_seals(Error{.code = ErrorCode::kConflict, .cause = "the replica was unsealed"});
    return reply(sys::JsonObject{});
  }
  if (const auto* limit = std::get_if<keeper_protocol::LimitStore>(&question)) {
    stored_max_ = limit->bytes_max;
    told_ = true;
    return reply(encode_reply(keeper_protocol::StoreUse{.stored_bytes = stored_bytes()}));
  }
  if (std::holds_alternative<keeper_protocol::Stop>(question)) {
    stop_requested_ = true;
    return reply(sys::JsonObject{});
  }
  reply(not_in_this_mode(question, config_.kOp));
}

void ReplicaKeeper::show_line(ControlReply reply) {
  if (witness_->busy()) {
    return reply(Error{.code = ErrorCode::kConflict, .cause = "the line is being shown already"});
  }
  if (Status open = reopen_if_gone(); !open.ok()) return reply(open.error());
  // What the source was told: it can say whether that lies on its line.
  const bool streams = receiver_->state() == replication::Receiver::State::kStreaming;
  const journal::LineEnd end = streams ? receiver_->acknowledged() : journal_->durable_end();
  const bool whole = end.position.sequence.value > 0 &&
                     receiver_->state() != replication::Receiver::State::kSeeding;
  witness_->show({.end = {.position = end.position, .chain = end.chain}, .whole = whole},
                 [end, whole, reply = std::move(reply)](Status shown) mutable {
                   if (!shown.ok()) return reply(std::move(shown).error());
                   reply(encode_reply(keeper_protocol::Shown{.end = keeper_protocol::End::of(end),
                                                             .whole = whole}));
                 });
}

void ReplicaKeeper::seal(ControlReply reply) {
  if (seals_.size() == kSealsMax) {
    return reply(Error{.code = ErrorCode::kLimit, .cause = "too many wait for the seal"});
  }
  if (Status open = reopen_if_gone(); !open.ok()) return reply(open.error());
  sealed_ = true;
  if (ship_->open()) {
    refuse(replication::Refusal::kBusy, {.code = ErrorCode::kConflict,
                                         .cause = "the replica was sealed: a failover is under way",
                                         .effect = "it takes nothing more"});
  }
  end_stream();
  seals_.push_back(std::move(reply));
  flush_for_seal();
}

void ReplicaKeeper::flush_for_seal() {
  if (seal_flushing_) return;
  seal_flushing_ = true;
  journal_->flush(seal_flushed_);
}

void ReplicaKeeper::on_seal_flushed(Status status) {
  seal_flushing_ = false;
  if (status.ok() && !seals_.empty() && journal_->end() != journal_->durable_end()) {
    return flush_for_seal();
  }
  answer_seals(status);
}

void ReplicaKeeper::answer_seals(const Status& status) {
  for (ControlReply& reply : std::exchange(seals_, {})) {
    if (!status.ok()) {
      reply(Error(status.error()));
    } else {
      reply(encode_reply(
          keeper_protocol::Sealed{.durable = End::of(journal_->durable_end()), .epoch = epoch()}));
    }
  }
}

Epoch ReplicaKeeper::epoch() const {
  const Epoch known = std::max(config_.epoch, learned_);
  return journal_ == nullptr ? known : std::max(known, journal_->epoch());
}

keeper_protocol::ReplicaStatus ReplicaKeeper::status() const {
  const bool open = journal_ != nullptr;
  const journal::LineEnd end = open ? journal_->durable_end() : durable_;
  return {.pid = ::getpid(),
          .connected = ship_->open(),
          .sealed = sealed_,
          .holds_anything = end.position.sequence.value > 0,
          .epoch = epoch(),
          .durable = End::of(end),
          .durable_time_us = open ? journal_->durable_time() : durable_time_,
          .home_durable = open ? receiver_->home_durable() : Sequence(),
          .seed_bytes_done = open ? journal_->seed_taken() : 0,
          .seed_bytes_total = open ? journal_->seed_total() : 0,
          .stored_bytes = stored_bytes(),
          .stored_bytes_max = stored_max_,
          .error = error_};
}

Status ReplicaKeeper::stop() {
  end_stream();
  ship_->stop();
  vault_->forget_waiting();
  answer_seals(Error{.code = ErrorCode::kUnavailable, .cause = "the keeper is stopping"});
  if (journal_ != nullptr && journal_->end() != journal_->durable_end()) flush_for_seal();
  reactor_->run_once(Micros(0));  // the answer to the stop itself goes out
  control_->stop();
  patience_ = Micros(reactor_->now().value + kStopGraceUs);
  reactor_->run_until([this] {
    const bool closed =
        ship_->stopped() && control_->stopped() && vault_->idle() && witness_->idle();
    return (closed && !seal_flushing_) || !ended_.ok() || reactor_->now() >= patience_;
  });
  reactor_->end_turns(turn_);
  reactor_->disarm(*this);
  if (!ended_.ok()) return std::move(ended_);
  if (journal_ != nullptr) TRY(settle_journal());
  return {};
}

}  // namespace hf::keeper
