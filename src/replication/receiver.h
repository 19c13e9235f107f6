// Receiver: takes a source's records into a ReplicaJournal. Pure but for that journal, which is a
// state machine over Storage itself; events in, effects out.
//
//   state      event                                next        effects
//   idle       connected                            waiting     -
//   waiting    hello: VM, sites, key agree          waiting     sign statement
//   waiting    signed                               waiting     answer; nothing follows it where
//                                                               the hello's epoch is below ours
//   waiting    auth                                 waiting     check statement
//   waiting    checked                              streaming   begin: our durable end
//   streaming  records that check                   streaming   (taken, flushed) ack
//   streaming  records that do not                  idle        error, disconnect; nothing is
//                                                               overwritten
//   streaming  seed that checks                     seeding     seed ack: nothing taken yet
//   seeding    seed bytes                           seeding     (staged) seed ack
//   seeding    all bytes are there                  idle        (replica switched) seed ack:
//                                                               installed, disconnect; the owner
//                                                               opens it anew
//   any        error frame, protocol breach         idle        disconnect
//
// Who carries the frames is believed nothing (session.h): until the source's vault is found to have
// signed nothing is taken, and a batch is followed to its end and its MAC checked before the first
// record of it is.
// Records are acknowledged when the journal says they are durable, and a close's signature, root
// and table are checked before the close is taken. One flush is in flight at a time; what arrives
// meanwhile is covered by the next.
//
// The journal holds a completion of the receiver while a flush is under way: once the receiver is
// gone the journal may not be driven any more. Drive the journal's tick() and then this one's, and
// take effects after each. `now` is monotonic time.
#pragma once

#include <optional>

#include "journal/replica.h"
#include "replication/effect.h"

namespace hf::replication {

struct ReceiverOptions {
  VmId vm;
  SiteId site;                            // this one
  SiteId peer_site;                       // the source's: no other is listened to
  Epoch epoch;                            // the highest this site knows: a source below it is stale
  crypto::PublicKey public_key{};         // pinned at protection
  uint32_t window_bytes = 16u << 20;      // taken over the wire and not yet acknowledged, at most
  uint64_t silence_us_max = 120'000'000;  // for the source to prove itself, after connecting
  Faults faults = {};
};

class Receiver final {
 public:
  enum class State : uint8_t { kIdle, kWaiting, kStreaming, kSeeding };

  // `rng` makes each session's secrets; both outlive the receiver.
  Receiver(ReceiverOptions options, journal::ReplicaJournal& journal, Rng& rng);
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  // Events.
  void connected(Micros now);
  void disconnected();
  void received(const Frame& frame, Micros now);
  // Answers to SignStatement and CheckStatement, by the number that came with the question.
  void statement_signed(uint64_t session, Result<crypto::Signature> signature, Micros now);
  void statement_checked(uint64_t session, Status good, Micros now);
  // Moves what is waiting into the journal; call when the journal had a turn, and at deadline().
  void tick(Micros now);

  Effects take_effects();

  State state() const { return state_; }
  // What this session's sender was told last that the replica has.
  const journal::LineEnd& acknowledged() const { return acknowledged_; }
  Epoch epoch() const { return options_.epoch; }
  Micros deadline() const { return deadline_; }
  const Error* last_error() const { return last_error_ ? &*last_error_ : nullptr; }
  Sequence home_durable() const { return home_durable_; }  // as the source last said
  // Gives memory back that only a busy connection needs.
  void trim() {
    if (waiting_bytes() > 0) return;
    waiting_ = Bytes();
    waiting_at_ = 0;
  }
  uint64_t waiting_bytes() const { return waiting_.size() - waiting_at_; }

 private:
  struct Flushed final : Completion {
    explicit Flushed(Receiver& owner) : owner(owner) {}
    void on_complete(Status status) override { owner.on_flushed(std::move(status)); }
    Receiver& owner;
  };

  // What a waiting receiver waits for. kLastWord: for the end of a source that was told to stop.
  enum class Step : uint8_t { kHello, kSigned, kAuth, kChecked, kLastWord };

  bool waiting_for(Step step) const { return state_ == State::kWaiting && step_ == step; }
  Error stale() const;
  Status check_hello(const Hello& hello) const;
  void on_hello(const Frame& frame);
  void on_auth(const Frame& frame);
  void begin();
  std::optional<journal::LineEnd> follow(ByteSpan records) const;
  bool proven() const { return session_ && session_->confirmed(); }
  template <typename Body>
  void send_sealed(const Body& body);
  void on_records(const Frame& frame);
  void on_seed(const Frame& frame);
  void on_seed_bytes(const Frame& frame);
  void finish_seed();
  void acknowledge_seed();
  void on_flushed(Status status);
  void acknowledge();
  void drain();
  void flush_if_due();
  void refuse(Refusal refusal, Error error);
  void forget_connection();

  ReceiverOptions options_;
  journal::ReplicaJournal& journal_;
  Rng& rng_;
  State state_ = State::kIdle;
  Step step_ = Step::kHello;
  std::optional<Session> session_;
  Hello hello_;
  Answer answer_;
  journal::LineEnd received_;  // end of what came in this session, what waits included
  Effects effects_;
  std::optional<Error> last_error_;
  Micros deadline_{UINT64_MAX};
  Sequence home_durable_;

  Bytes waiting_;  // records received that the journal had no room for
  size_t waiting_at_ = 0;
  bool taken_since_flush_ = false;
  bool flushing_ = false;
  bool begin_due_ = false;  // the session begins once the journal is durable to its end
  journal::LineEnd acknowledged_;
  Flushed flushed_{*this};
};

}  // namespace hf::replication
