#include "sim/link.h"

#include "sim/world.h"

namespace hf::sim {

namespace {
template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
// Sites' vaults. A keyed digest is as good as a signature here: the attacker has no vault's key.
crypto::Signature sign(const SiteId& site, ByteSpan statement) {
  const Digest mac = crypto::hmac_sha256(crypto::sha256(site.span()).span(), statement);
  crypto::Signature signature{};
  std::ranges::copy(mac.bytes, signature.begin());
  return signature;
}
Status check(const SiteId& site, ByteSpan statement, const crypto::Signature& signature) {
  if (sign(site, statement) == signature) return {};
  return Error{.code = ErrorCode::kWrongKey, .cause = "another vault signed"};
}

}  // namespace

// ---- Source -------------------------------------------------------------------------------------

Source::Source(Site& home, Site& peer, replication::SenderOptions options)
    : home_(home),
      peer_(peer),
      session_rng_(home.world.rng.fork()),
      sender_(options, session_rng_) {}

Source::~Source() {
  hang_up();
  HF_ASSERT(!reading_);  // keeper_gone() first, or the answer would come to nobody
}

template <typename What>
void Source::later(uint64_t delay_us, What what) {
  home_.world.scheduler.after(delay_us,
                              [alive = std::weak_ptr<int>(alive_), what = std::move(what)] {
                                if (!alive.expired()) what();
                              });
}

void Source::hang_up() {
  if (connection_) home_.world.network.leave(*connection_, End::kCaller);
  connection_.reset();
}

void Source::poll() {
  World& world = home_.world;
  const Micros now = home_.clock.monotonic();
  sender_.tick(now);
  perform();
  if (connection_ || sender_.state() != replication::Sender::State::kIdle) return;
  if (now < sender_.reconnect_at() || !home_.running() || !world.network.link_up()) return;
  if (connected_before_) world.judge.reached(Probe::sender_reconnected);
  connected_before_ = true;
  reader_ = {};
  connection_ = world.network.connect(*this, peer_.target());
  sender_.connected(now);
  perform();
}

void Source::on_message(ConnectionId connection, ByteSpan message) {
  if (connection_ != connection) return;
  reader_.push(message);
  for (;;) {
    const auto frame = reader_.next();
    HF_ASSERT(frame.ok());
    if (!frame->has_value()) break;
    received(**frame);
    if (connection_ != connection) return;
  }
  if (home_.journal() != nullptr && sender_.acknowledged() && !home_.world.peer_forgotten) {
    home_.journal()->pin(sender_.acknowledged()->position.sequence);
  }
}

void Source::received(const replication::Frame& frame) {
  sender_.received(frame, home_.clock.monotonic());
  judge_belief();
  perform();
}

// Home believes what the replica said in this very session, and nothing else.
void Source::judge_belief() {
  if (sender_.acknowledged() == believed_) return;
  believed_ = sender_.acknowledged();
  if (!believed_ || believed_->position.sequence.value == 0) return;
  const Sequence said = connection_ ? home_.world.said_on(*connection_) : Sequence(0);
  if (believed_->position.sequence <= said) return;
  home_.world.judge.violated("{}: believes that the replica has {}, which said no more than {}",
                             home_.name, believed_->position.sequence.value, said.value);
}

void Source::on_closed(ConnectionId connection) {
  if (connection_ != connection) return;
  connection_.reset();
  sender_.disconnected(home_.clock.monotonic());
  perform();
}

void Source::perform() {
  for (replication::Effect& effect : sender_.take_effects()) {
    std::visit(
        Overloaded{[this](replication::SendFrame& send) {
                     if (!connection_) return;
                     Bytes bytes = home_.world.attack.to_replica(std::move(send.frame));
                     if (!bytes.empty()) {
                       home_.world.network.send(*connection_, End::kCaller, std::move(bytes));
                     }
                     if (auto forged = home_.world.attack.forged()) {
                       later(home_.world.rng.between(100, 2'000),
                             [this, connection = *connection_, forged = *forged] {
                               on_message(connection, forged);
                             });
                     }
                   },
                   [this](replication::SignStatement& ask) {
                     later(home_.world.rng.between(10, 150), [this, ask] {
                       sender_.statement_signed(ask.session, sign(home_.id, ask.statement),
                                                home_.clock.monotonic());
                       perform();
                     });
                   },
                   [this](replication::CheckStatement& ask) {
                     later(home_.world.rng.between(10, 150), [this, ask] {
                       sender_.statement_checked(ask.session,
                                                 check(ask.peer, ask.statement, ask.signature),
                                                 home_.clock.monotonic());
                       perform();
                     });
                   },
                   [this](replication::ReplicaWentBack& back) {
                     home_.world.judge.note("{}: the replica went back from {} to {}", home_.name,
                                            back.had.position.sequence.value,
                                            back.has.position.sequence.value);
                     home_.world.judge.reached(Probe::replica_went_back);
                   },
                   [this](replication::WantRecords& want) {
                     later(home_.world.rng.between(10, 150), [this, want] { ask(want); });
                   },
                   [this](replication::WantSeed& want) {
                     home_.world.judge.note("{}: the replica has to be seeded", home_.name);
                     home_.world.judge.reached(Probe::seed_begun);
                     later(home_.world.rng.between(10, 150), [this, want] { ask(want); });
                   },
                   [this](replication::WantSeedBytes& want) {
                     later(home_.world.rng.between(10, 150), [this, want] { ask(want); });
                   },
                   [this](replication::PeerEpoch& peer) {
                     home_.world.judge.note("{}: learns epoch {}", home_.name, peer.epoch.value);
                     // It may end this very object: from the event loop.
                     home_.world.scheduler.after(
                         0, [&site = home_, epoch = peer.epoch] { site.learn_epoch(epoch); });
                   },
                   [this](replication::Disconnect& disconnect) {
                     home_.world.judge.note("{}: sender hangs up: {}", home_.name,
                                            disconnect.reason.cause);
                     if (disconnect.reason.cause.contains("was altered")) {
                       home_.world.judge.reached(Probe::attack_found_at_home);
                       home_.world.attack.noticed();
                     }
                     hang_up();
                   }},
        effect);
  }
}

template <typename Question>
void Source::ask(const Question& asked) {
  journal::Journal* journal = home_.journal();
  if (journal == nullptr || journal->failed() != nullptr) {
    home_.world.judge.reached(Probe::feed_failed_under_sender);
    sender_.feed_failed({.code = ErrorCode::kUnavailable, .cause = "the keeper is not there"},
                        home_.clock.monotonic());
    return perform();
  }
  question(*journal, asked);
}

void Source::question(journal::Journal& journal, const replication::WantRecords& want) {
  reading_ = true;
  seed_bytes_asked_ = false;
  journal.read_sealed(want.after, want.bytes_max, *this);
}

void Source::question(journal::Journal& journal, const replication::WantSeed&) {
  const Micros now = home_.clock.monotonic();
  const Result<Bytes> seed = journal.describe_seed();
  seed.ok() ? sender_.feed_seed(*seed, now) : sender_.feed_failed(seed.error(), now);
  perform();
}

void Source::question(journal::Journal& journal, const replication::WantSeedBytes& want) {
  reading_ = true;
  seed_bytes_asked_ = true;
  // As small as a run's disk: a seed takes many turns, so that what happens happens inside it.
  journal.read_seed(want.base, want.offset, want.length, *this);
}

void Source::on_sealed(Result<journal::SealedBatch> batch) {
  HF_ASSERT(reading_);
  reading_ = false;
  if (!batch.ok()) {
    sender_.feed_failed(batch.error(), home_.clock.monotonic());
    judge_belief();
    return perform();
  }
  if (seed_bytes_asked_) {
    sender_.feed_seed_bytes(batch->records, home_.clock.monotonic());
    return perform();
  }
  if (!batch->records.empty()) return answer(*batch);
  later(home_.world.rng.between(200, 3'000), [this, batch = *batch] { answer(batch); });
}

void Source::answer(const journal::SealedBatch& batch) {
  Micros oldest = batch.oldest_time;
  if (batch.records.empty() && home_.journal() != nullptr) {
    oldest = home_.journal()->status().oldest_unsynced_time;
  }
  sender_.feed_records(
      {.records = batch.records, .durable = batch.durable, .oldest_unshipped = oldest},
      home_.clock.monotonic());
  judge_belief();
  perform();
}

void Source::keeper_gone() {
  if (!reading_) return;
  reading_ = false;
  home_.world.judge.reached(Probe::feed_failed_under_sender);
  sender_.feed_failed({.code = ErrorCode::kUnavailable, .cause = "the keeper is gone"},
                      home_.clock.monotonic());
  perform();
}

// ---- Target -------------------------------------------------------------------------------------

Target::~Target() { hang_up(); }

void Target::serve(journal::ReplicaJournal& replica, replication::ReceiverOptions options) {
  HF_ASSERT(receiver_ == nullptr);
  receiver_ = std::make_unique<replication::Receiver>(options, replica, session_rng_);
}

void Target::stop_serving() {
  receiver_.reset();
  hang_up();
}

void Target::hang_up() {
  if (connection_) site_.world.network.leave(*connection_, End::kListener);
  connection_.reset();
}

void Target::take_connection(ConnectionId connection) {
  if (connection_ == connection) return;
  hang_up();
  if (receiver_ && receiver_->state() != replication::Receiver::State::kIdle)
    receiver_->disconnected();
  connection_ = connection;
  reader_ = {};
  if (receiver_) {
    receiver_->take_effects();
    receiver_->connected(site_.clock.monotonic());
  }
}

void Target::on_message(ConnectionId connection, ByteSpan message) {
  if (!site_.up()) return;
  if (connection_ && connection < *connection_) return;  // an older one, given up
  take_connection(connection);
  if (!receiver_) {
    // As the daemon answers for a VM it holds no replica of.
    const Epoch epoch = site_.state().epoch;
    const bool not_yet = site_.state().role == recovery::Role::kReplica;  // its journal is not open
    site_.world.network.send(
        connection, End::kListener,
        replication::encode(
            site_.world.vm,
            replication::ErrorFrame{.refusal = not_yet ? replication::Refusal::kStorage
                                                       : replication::Refusal::kNotReplica,
                                    .epoch = epoch,
                                    .cause = "the VM's replica is not open here",
                                    .effect = {},
                                    .mend = {},
                                    .mac = {}}));
    return hang_up();
  }
  reader_.push(message);
  for (;;) {
    const auto frame = reader_.next();
    HF_ASSERT(frame.ok());
    if (!frame->has_value()) break;
    receiver_->received(**frame, site_.clock.monotonic());
    perform();
    if (connection_ != connection) return;
  }
}

void Target::on_closed(ConnectionId connection) {
  if (connection_ != connection) return;
  connection_.reset();
  if (receiver_) receiver_->disconnected();
}

void Target::poll() {
  if (!receiver_) return;
  receiver_->tick(site_.clock.monotonic());
  perform();
}

template <typename Question, typename Answer>
void Target::ask_vault(const Question& question, Answer answer) {
  site_.world.scheduler.after(site_.world.rng.between(10, 150), [this, question, answer] {
    if (!receiver_) return;
    answer(*receiver_, question);
    perform();
  });
}

void Target::perform() {
  for (replication::Effect& effect : receiver_->take_effects()) {
    if (auto* send = std::get_if<replication::SendFrame>(&effect); send && connection_) {
      judge_outgoing(send->frame);
      site_.world.network.send(*connection_, End::kListener,
                               site_.world.attack.to_home(*connection_, std::move(send->frame)));
    } else if (auto* to_sign = std::get_if<replication::SignStatement>(&effect)) {
      ask_vault(*to_sign, [this](replication::Receiver& receiver, const auto& ask) {
        receiver.statement_signed(ask.session, sign(site_.id, ask.statement),
                                  site_.clock.monotonic());
      });
    } else if (auto* to_check = std::get_if<replication::CheckStatement>(&effect)) {
      ask_vault(*to_check, [this](replication::Receiver& receiver, const auto& ask) {
        receiver.statement_checked(ask.session, check(ask.peer, ask.statement, ask.signature),
                                   site_.clock.monotonic());
      });
    } else if (auto* peer = std::get_if<replication::PeerEpoch>(&effect)) {
      site_.learn_epoch(peer->epoch);
    } else if (auto* disconnect = std::get_if<replication::Disconnect>(&effect)) {
      site_.world.judge.note("{}: receiver hangs up: {}", site_.name, disconnect->reason.cause);
      if (disconnect->reason.cause.contains("was altered")) {
        site_.world.judge.reached(Probe::attack_found_at_replica);
        site_.world.attack.noticed();
      }
      hang_up();
    }
  }
}

void Target::judge_outgoing(const Bytes& bytes) {
  World& world = site_.world;
  const replication::Frame frame = *replication::decode_frame(bytes);
  if (frame.type == replication::FrameType::kBegin) {
    const auto begin = *replication::decode_begin(frame.body);
    if (begin.durable.position.sequence.value > 0)
      world.judge.reached(Probe::replica_resumed_mid_line);
    world.note_said(*connection_, begin.durable.position.sequence);
  }
  if (frame.type == replication::FrameType::kSeedAck) {
    if (!replication::decode_seed_ack(frame.body)->installed) return;
    world.judge.reached(Probe::replica_seeded_from_bases);
    world.judge.note("{}: seeded", site_.name);
    world.attack.end();  // what it had altered here is gone
  }
  if (frame.type != replication::FrameType::kAck) return;
  const journal::LineEnd durable = replication::decode_ack(frame.body)->durable;
  const Sequence to = durable.position.sequence;
  world.note_said(*connection_, to);
  if (world.fault != Fault::kCloseNotChecked && world.attack.is_lie(durable)) {
    world.judge.violated("{}: the replica took record {}, which was altered on its way", site_.name,
                         to.value);
  }
  world.replica_acknowledged = std::max(world.replica_acknowledged, to);
  if (world.attack.false_close() && to >= *world.attack.false_close()) {
    world.judge.violated("{}: the replica took close {}, which does not cover its records",
                         site_.name, world.attack.false_close()->value);
  }
}

}  // namespace hf::sim
