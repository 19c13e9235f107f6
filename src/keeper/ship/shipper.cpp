#include "keeper/ship/shipper.h"

#include <algorithm>
#include <cstdio>

namespace hf::keeper {
namespace {

using replication::Sender;
using State = replication::Sender::State;

constexpr size_t kDrainsMax = 16;

Error ended(std::string cause) {
  return Error{.code = ErrorCode::kUnavailable, .cause = std::move(cause)};
}

keeper_protocol::ShippingState shown(State state) {
  using enum keeper_protocol::ShippingState;
  switch (state) {
    case State::kIdle:
      return kWaiting;
    case State::kGreeting:
      return kGreeting;
    case State::kStreaming:
      return kStreaming;
    case State::kSeeding:
      return kSeeding;
    case State::kHalted:
      return kHalted;
  }
  return kWaiting;
}

}  // namespace

Shipper::Shipper(sys::Reactor& reactor, Clock& clock, sys::UniqueFd listener,
                 journal::SealedSource& source, ShipperOptions options)
    : reactor_(reactor),
      clock_(clock),
      source_(source),
      options_(std::move(options)),
      socket_(reactor, std::move(listener), static_cast<ShipHandler&>(*this)),
      vault_(reactor, options_.vm, options_.vault_socket),
      witness_(reactor, options_.vm, options_.vault_socket) {}

Shipper::~Shipper() {
  HF_ASSERT(reading_ == Reading::kNothing);
  reactor_.disarm(*this);
}

std::unique_ptr<Sender> Shipper::make_sender() {
  return std::make_unique<Sender>(replication::SenderOptions{.vm = options_.vm,
                                                             .site = options_.site,
                                                             .peer_site = *peer_,
                                                             .epoch = options_.epoch,
                                                             .public_key = options_.public_key},
                                  rng_);
}

void Shipper::set_peer(std::optional<SiteId> peer) {
  const bool same = peer == peer_;
  if (same && (sender_ == nullptr || sender_->state() != State::kHalted)) return;
  if (socket_.open()) {
    socket_.end();
    error_ = ended("the protection changed");
  }
  reading_is_stale_ = reading_ != Reading::kNothing;
  wanted_.reset();
  wants_seed_.reset();
  told_ = Sequence();
  noted_.reset();
  backlog_known_ = asked_ = let_go_ = false;
  peer_epoch_.reset();
  peer_ = peer;
  ++sender_number_;
  vault_.forget_waiting();
  sender_ = peer_ ? make_sender() : nullptr;
  answer_drains();
}

void Shipper::stop() {
  socket_.stop();
  reactor_.disarm(*this);
  if (sender_ != nullptr) sender_->disconnected(now());
  wanted_.reset();
  wants_seed_.reset();
  vault_.forget_waiting();
  for (Drain& drain : drains_) {
    drain.reply(keeper_protocol::encode_reply(keeper_protocol::Drained{.drained = false}));
  }
  drains_.clear();
}

void Shipper::on_ship_open() {
  if (sender_ == nullptr) return socket_.end();
  sender_->connected(now());
  apply_effects();
}

void Shipper::on_ship_frame(const replication::Frame& frame) {
  if (sender_ == nullptr) return;
  sender_->received(frame, now());
  apply_effects();
  note_acknowledged();
}

void Shipper::on_ship_closed(Error reason) {
  // What an end before said may be why this one ended, too.
  if (!error_ || reason.code != ErrorCode::kUnavailable) error_ = std::move(reason);
  forget_stream();
}

void Shipper::forget_stream() {
  if (sender_ == nullptr) return;
  sender_->disconnected(now());
  // What waits here is not answered any more; a read under way answers for itself.
  const bool waits = wanted_ || wants_seed_;
  wanted_.reset();
  wants_seed_.reset();
  if (waits) sender_->feed_failed(ended("the stream ended"), now());
  (void)sender_->take_effects();
  backlog_known_ = asked_ = false;
  told_ = Sequence();
  arm();
}

void Shipper::apply_effects() {
  // What one effect does may ask for more.
  for (auto effects = sender_->take_effects(); !effects.empty();
       effects = sender_->take_effects()) {
    for (replication::Effect& effect : effects) {
      if (!apply(effect)) return forget_stream();
    }
    look_for_records();
  }
  if (sender_->state() == State::kStreaming || sender_->state() == State::kSeeding) error_.reset();
  arm();
}

// False: the stream is over.
bool Shipper::apply(replication::Effect& effect) {
  if (auto* send = std::get_if<replication::SendFrame>(&effect)) {
    socket_.send(std::move(send->frame));
  } else if (const auto* records = std::get_if<replication::WantRecords>(&effect)) {
    wanted_ = *records;
  } else if (const auto* to_sign = std::get_if<replication::SignStatement>(&effect)) {
    ask_vault(*to_sign);
  } else if (const auto* to_check = std::get_if<replication::CheckStatement>(&effect)) {
    ask_vault(*to_check);
  } else if (const auto* epoch = std::get_if<replication::PeerEpoch>(&effect)) {
    peer_epoch_ = std::max(peer_epoch_.value_or(Epoch()), epoch->epoch);
  } else if (const auto* lost = std::get_if<replication::ReplicaWentBack>(&effect)) {
    note_went_back(*lost);
  } else if (const auto* end = std::get_if<replication::Disconnect>(&effect)) {
    error_ = end->reason;
    socket_.end();
    return false;
  } else {
    wants_seed_ = effect;
  }
  return true;
}

void Shipper::ask_vault(const replication::SignStatement& question) {
  vault_.sign(question, [this, sender = sender_number_,
                         session = question.session](Result<crypto::Signature> signature) {
    if (sender != sender_number_ || sender_ == nullptr) return;
    sender_->statement_signed(session, std::move(signature), now());
    apply_effects();
  });
}

void Shipper::ask_vault(const replication::CheckStatement& question) {
  vault_.check(question, [this, sender = sender_number_, session = question.session](Status good) {
    if (sender != sender_number_ || sender_ == nullptr) return;
    sender_->statement_checked(session, std::move(good), now());
    apply_effects();
  });
}

void Shipper::note_went_back(const replication::ReplicaWentBack& lost) {
  std::fputs(("holdfast-keeper: the replica had acknowledged record " +
              std::to_string(lost.had.position.sequence.value) + " and now ends at " +
              std::to_string(lost.has.position.sequence.value) +
              ": its site lost what it had synced, or put an older copy back\n")
                 .c_str(),
             stderr);
}

// Gives the sender what it waits for, if it is there.
void Shipper::look_for_records() {
  if (sender_ == nullptr || reading_ != Reading::kNothing) return;
  if (wants_seed_) {
    const replication::Effect want = *std::exchange(wants_seed_, std::nullopt);
    if (const auto* bytes = std::get_if<replication::WantSeedBytes>(&want)) {
      reading_ = Reading::kSeedBytes;
      return source_.read_seed(bytes->base, bytes->offset, bytes->length, *this);
    }
    const Result<Bytes> seed = source_.describe_seed();
    if (!seed.ok()) return sender_->feed_failed(seed.error(), now());
    return sender_->feed_seed(*seed, now());
  }
  if (!wanted_) return;
  const Sequence reach = durable();
  // The first question of a stream goes to the journal whatever is durable: only that knows whether
  // the peer's position is on this line.
  if (!asked_ || reach > wanted_->after.sequence) {
    asked_ = true;
    const replication::WantRecords want = *std::exchange(wanted_, std::nullopt);
    reading_ = Reading::kRecords;
    return source_.read_sealed(want.after, want.bytes_max, *this);
  }
  // Nothing new: it is told once, then it waits.
  if (told_ == reach) return;
  told_ = reach;
  wanted_.reset();
  sender_->feed_records({.records = {}, .durable = reach, .oldest_unshipped = Micros(0)}, now());
}

void Shipper::on_sealed(Result<journal::SealedBatch> batch) {
  const Reading what = std::exchange(reading_, Reading::kNothing);
  if (std::exchange(reading_is_stale_, false) || sender_ == nullptr) return;
  if (what == Reading::kBacklog) {
    if (batch.ok()) sender_->note_backlog(batch->oldest_time);
  } else if (!batch.ok()) {
    sender_->feed_failed(batch.error(), now());
  } else if (what == Reading::kSeedBytes) {
    sender_->feed_seed_bytes(batch->records, now());
  } else {
    told_ = std::max(told_, batch->durable);
    sender_->feed_records({.records = batch->records,
                           .durable = batch->durable,
                           .oldest_unshipped = batch->oldest_time},
                          now());
  }
  apply_effects();
  // That the journal knows where the peer says it ends may be all that was missing.
  note_acknowledged();
}

// While nothing is shipped the RPO grows: how old is the oldest record that the peer lacks?
void Shipper::look_at_backlog() {
  if (backlog_known_ || reading_ != Reading::kNothing || socket_.open()) return;
  const auto& acknowledged = sender_->acknowledged();
  if (!acknowledged || durable() <= acknowledged->position.sequence) return;
  backlog_known_ = true;
  reading_ = Reading::kBacklog;
  source_.read_sealed(acknowledged->position, journal::kRecordSizeMax, *this);
}

void Shipper::note_acknowledged() {
  const auto& acknowledged = sender_->acknowledged();
  if (!acknowledged) return noted_.reset();
  if (noted_ == acknowledged->position.sequence) return;
  noted_ = acknowledged->position.sequence;
  if (options_.on_acknowledged) options_.on_acknowledged(*noted_);
  if (sender_->state() == State::kStreaming && sender_->caught_up()) let_go_ = false;
  answer_drains();
}

void Shipper::show_line(const std::optional<journal::LineEnd>& holds, ControlReply reply) {
  if (witness_.busy()) {
    return reply(Error{.code = ErrorCode::kConflict, .cause = "the line is being shown already"});
  }
  const journal::LineEnd end = source_.durable_end();
  vault::ShownLine line{.end = line_of(end), .whole = true};
  bool found = false;
  if (holds && holds->position.sequence <= end.position.sequence) {
    Result<journal::LineMatch> match = source_.locate(*holds);
    if (!match.ok()) return reply(std::move(match).error());
    found = *match == journal::LineMatch::kOnLine;
  }
  if (found) line.holds.push_back(line_of(*holds));
  witness_.show(std::move(line), [end, found, reply = std::move(reply)](Status shown) mutable {
    if (!shown.ok()) return reply(std::move(shown).error());
    reply(keeper_protocol::encode_reply(keeper_protocol::Shown{
        .end = keeper_protocol::End::of(end), .whole = true, .holds = found}));
  });
}

void Shipper::turn() {
  if (sender_ == nullptr || socket_.stopped()) return;
  if (now() >= sender_->deadline()) sender_->tick(now());
  look_for_records();
  look_at_backlog();
  apply_effects();
  note_acknowledged();
  if (!drains_.empty()) answer_drains();
}

void Shipper::drain(uint64_t limit_ms, ControlReply reply) {
  if (sender_ == nullptr) {
    return reply(Error{.code = ErrorCode::kConflict, .cause = "the VM is not protected"});
  }
  if (drains_.size() == kDrainsMax) {
    return reply(Error{.code = ErrorCode::kLimit, .cause = "too many wait for the peer"});
  }
  drains_.push_back({.target = options_.written ? options_.written() : durable(),
                     .until = Micros(now().value + limit_ms * 1000),
                     .reply = std::move(reply)});
  answer_drains();
  arm();
}

void Shipper::answer_drains() {
  const auto over = [this](Drain& drain) {
    const bool halted = sender_ == nullptr || sender_->state() == State::kHalted;
    const bool drained = noted_ && *noted_ >= drain.target;
    if (!drained && !halted && now() < drain.until) return false;
    drain.reply(keeper_protocol::encode_reply(keeper_protocol::Drained{.drained = drained}));
    return true;
  };
  std::erase_if(drains_, over);
}

void Shipper::arm() {
  Micros next = sender_ == nullptr ? Micros(UINT64_MAX) : sender_->deadline();
  for (const Drain& drain : drains_) next = std::min(next, drain.until);
  if (next == armed_for_ && armed()) return;
  armed_for_ = next;
  if (next.value == UINT64_MAX) return reactor_.disarm(*this);
  reactor_.arm(*this, next);
}

keeper_protocol::Shipping Shipper::status() const {
  HF_ASSERT(peer_ && sender_ != nullptr);
  const Sequence reach = durable();
  keeper_protocol::Shipping shown_now{.state = shown(sender_->state()),
                                      .peer_site = *peer_,
                                      .caught_up = sender_->caught_up() && told_ == reach,
                                      .home_durable = reach,
                                      .lag_bytes = sender_->unacknowledged_bytes(),
                                      .let_go = let_go_,
                                      .peer_epoch = peer_epoch_,
                                      .error = error_};
  if (const auto& acknowledged = sender_->acknowledged()) {
    shown_now.acknowledged = keeper_protocol::End::of(*acknowledged);
    shown_now.rpo_ms = (sender_->rpo_us(clock_.wall_time()) + 999) / 1000;
    const uint64_t has = acknowledged->position.sequence.value;
    shown_now.lag_records = reach.value > has ? reach.value - has : 0;
  }
  if (const auto seed = sender_->seeding()) {
    shown_now.seed_bytes_done = seed->done;
    shown_now.seed_bytes_total = seed->total;
  }
  if (const Error* halted = sender_->halt_reason(); halted != nullptr) shown_now.error = *halted;
  return shown_now;
}

}  // namespace hf::keeper
