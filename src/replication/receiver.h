// Receiver: takes a source's records into a ReplicaJournal. Pure but for that journal, which is a
// state machine over Storage itself; events in, effects out.
//
//   state      event                            next        effects
//   idle       connected                        waiting     -
//   waiting    hello: VM, key, epoch agree      streaming   hello reply: our durable end
//   waiting    hello, epoch below ours          idle        error "stale epoch", disconnect
//   streaming  records that check               streaming   (taken, flushed) ack
//   streaming  records that do not              idle        error, disconnect; nothing overwritten
//   streaming  seed that checks                 seeding     seed ack: nothing taken yet
//   seeding    seed bytes                       seeding     (staged) seed ack
//   seeding    all bytes are there              idle        (replica switched) seed ack: installed,
//                                                           disconnect; the owner opens it anew
//   any        error frame, protocol breach     idle        disconnect
//
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
  Epoch epoch;                            // the highest this site knows: a source below it is stale
  crypto::PublicKey public_key{};         // pinned at protection
  uint32_t window_bytes = 16u << 20;      // taken over the wire and not yet acknowledged, at most
  uint64_t silence_us_max = 120'000'000;  // for a hello after connecting
};

class Receiver final {
 public:
  enum class State : uint8_t { kIdle, kWaiting, kStreaming, kSeeding };

  Receiver(ReceiverOptions options, journal::ReplicaJournal& journal);
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  // Events.
  void connected(Micros now);
  void disconnected();
  void received(const Frame& frame, Micros now);
  // Moves what is waiting into the journal; call when the journal had a turn, and at deadline().
  void tick(Micros now);

  Effects take_effects();

  State state() const { return state_; }
  Epoch epoch() const { return options_.epoch; }
  Micros deadline() const { return deadline_; }
  const Error* last_error() const { return last_error_ ? &*last_error_ : nullptr; }
  Sequence home_durable() const { return home_durable_; }  // as the source last said
  uint64_t waiting_bytes() const { return waiting_.size() - waiting_at_; }

 private:
  struct Flushed final : Completion {
    explicit Flushed(Receiver& owner) : owner(owner) {}
    void on_complete(Status status) override { owner.on_flushed(std::move(status)); }
    Receiver& owner;
  };

  void on_hello(const Frame& frame);
  void on_records(const Frame& frame);
  void on_seed(const Frame& frame);
  void on_seed_bytes(const Frame& frame);
  void finish_seed();
  void acknowledge_seed();
  void on_flushed(Status status);
  void reply();
  void acknowledge();
  void drain();
  void flush_if_due();
  void refuse(Refusal refusal, Error error);
  void forget_connection();

  ReceiverOptions options_;
  journal::ReplicaJournal& journal_;
  State state_ = State::kIdle;
  Effects effects_;
  std::optional<Error> last_error_;
  Micros deadline_{UINT64_MAX};
  Sequence home_durable_;

  Bytes waiting_;  // records received that the journal had no room for
  size_t waiting_at_ = 0;
  bool taken_since_flush_ = false;
  bool flushing_ = false;
  bool reply_due_ = false;  // the hello is answered once the journal is durable to its end
  Sequence acknowledged_;
  Flushed flushed_{*this};
};

}  // namespace hf::replication
