// Sender: ships a VM's durable records to one replica. Pure: events in, effects out; no I/O, no
// clock: `now` is monotonic time, but for rpo_us(), whose `wall_now` is wall time as record times
// are.
//
//   state      event                                     next        effects
//   idle       connected                                 greeting    hello
//   greeting   answer                                    greeting    check statement
//   greeting   checked, epoch not above ours             greeting    sign statement
//   greeting   checked, epoch above ours                 halted      peer epoch, disconnect
//   greeting   signed                                    greeting    auth
//   greeting   begin                                     streaming   want records
//   streaming  feed records                              streaming   records frame; want more while
//                                                                    the window has room
//   streaming  ack                                       streaming   want more
//   streaming  feed failed: merged away                  seeding     want seed
//   seeding    feed seed, feed seed bytes                seeding     seed, seed bytes; want more
//                                                                    while the window has room
//   seeding    seed ack: installed                       idle        disconnect; the next session
//                                                                    says where the tail begins
//   any        proven error that is final                halted      disconnect
//   any        other error, breach, no answer            idle        disconnect
//   any        disconnected                              idle (halted stays)
//
// Halted: trying again cannot help (diverged, stale epoch, records that do not check); reset()
// after someone acted. From idle the driver reconnects, not before reconnect_at().
//
// Who carries the frames is believed nothing (session.h): a position counts when its MAC is the
// replica's in this session, and a session's first position besides only when home's feed found it
// on home's line. An error without a MAC is a reason to try again later, whatever it says.
//
// It ships only what is durable at home (a replica must never hold what home could lose), from the
// receiver's durable position on. That position is checked to be on our line twice: the feed knows
// the position or refuses it, and the first record after it must carry the receiver's chain value.
#pragma once

#include <deque>
#include <optional>

#include "replication/effect.h"
#include "replication/faults.h"

namespace hf::replication {

struct SenderOptions {
  VmId vm;
  SiteId site;       // this one
  SiteId peer_site;  // the replica's
  Epoch epoch;       // under which the VM runs here; at most kNumberMax
  crypto::PublicKey public_key{};
  uint64_t window_bytes_max =
      16u << 20;                        // sent and not acknowledged; the receiver's may be smaller
  size_t batch_bytes_max = 2u << 20;    // in one frame; at least journal::kRecordSizeMax
  uint64_t answer_us_max = 30'000'000;  // to wait for each step of a session, or an acknowledgement
  uint64_t retry_us_min = 100'000;
  uint64_t retry_us_max = 10'000'000;
  Faults faults = {};
};

// What the feed gives.
struct FeedBatch {
  ByteSpan records;  // whole, in order, after the position asked for; may be empty
  Sequence durable;  // of home, now
  // Record time of the oldest record after the position asked for that home has acknowledged,
  // durable or not; 0 if there is none.
  Micros oldest_unshipped;
};

class Sender {
 public:
  enum class State : uint8_t { kIdle, kGreeting, kStreaming, kSeeding, kHalted };

  // `rng` makes each session's secrets; it outlives the sender.
  Sender(SenderOptions options, Rng& rng);

  // Events.
  void connected(Micros now);
  void disconnected(Micros now);
  void received(const Frame& frame, Micros now);
  // Answers to SignStatement and CheckStatement, by the number that came with the question.
  void statement_signed(uint64_t session, Result<crypto::Signature> signature, Micros now);
  void statement_checked(uint64_t session, Status good, Micros now);
  void feed_records(const FeedBatch& batch, Micros now);
  void feed_seed(ByteSpan description, Micros now);
  void feed_seed_bytes(ByteSpan bytes, Micros now);
  // kConflict: the position is not on home's line; kNotFound: merged away (of records: seed the
  // replica; of a seed's bytes: begin anew); else a passing failure.
  void feed_failed(const Error& error, Micros now);
  // A WantRecords, WantSeed or WantSeedBytes is out and unanswered. It stays so over a connection's
  // end: whoever drops the question with the connection says so with feed_failed(), or none is ever
  // asked again.
  bool awaits_feed() const { return feed_asked_; }
  // Of home, learned some other way while not streaming: keeps the RPO honest. 0: nothing newer
  // than what the replica acknowledged.
  void note_backlog(Micros oldest_unshipped) { oldest_unshipped_ = oldest_unshipped; }
  void tick(Micros now);  // at the latest at deadline()
  void reset();           // out of halted

  // What is to be done, in order; call after every event.
  Effects take_effects();

  State state() const { return state_; }
  const Error* halt_reason() const { return halted_for_ ? &*halted_for_ : nullptr; }
  std::optional<Refusal> halted_as() const { return halted_as_; }
  const Error* last_error() const { return last_error_ ? &*last_error_ : nullptr; }
  Micros deadline() const { return deadline_; }          // UINT64_MAX: none
  Micros reconnect_at() const { return reconnect_at_; }  // while idle

  // The replica's durable end, as it last said and home's feed confirmed; nullopt before that, and
  // from when a replica is found to be on another line or to hold less.
  const std::optional<journal::LineEnd>& acknowledged() const { return acknowledged_; }
  // Age in microseconds of the oldest acknowledged record that the replica does not have durably.
  uint64_t rpo_us(Micros wall_now) const;
  uint64_t lag_records() const;  // durable at home and not at the replica
  uint64_t unacknowledged_bytes() const { return in_flight_bytes_; }
  bool caught_up() const;
  // While seeding: bytes of base files, acknowledged and in all.
  struct SeedProgress {
    uint64_t done = 0;
    uint64_t total = 0;
  };
  std::optional<SeedProgress> seeding() const;

 private:
  // What the greeting waits for.
  enum class Step : uint8_t { kAnswer, kChecked, kSigned, kBegin };
  struct Shipped {
    journal::LineEnd end;  // with this record
    Micros time;
    uint64_t bytes;
  };

  bool greeting(Step step) const { return state_ == State::kGreeting && step_ == step; }
  void on_answer(const Frame& frame, Micros now);
  void on_begin(const Frame& frame, Micros now);
  void take_begin(const Begin& begin);
  void found_on_line();
  bool proven() const { return session_ && session_->confirmed(); }
  template <typename Body, typename... More>
  void send_sealed(const Body& body, const More&... more);
  void on_ack(const Frame& frame, Micros now);
  void on_error(const Frame& frame, Micros now);
  void on_seed_ack(const Frame& frame, Micros now);
  void begin_seed();
  void want_seed_bytes();
  bool feed_answer_counts(State state);
  Status check_batch(const FeedBatch& batch);  // and counts it as shipped
  void want_more();
  void refuse(Refusal refusal, Error error, Micros now);
  void drop(Error error, Micros now);
  void halt(Refusal refusal, Error error);
  void forget_connection();

  SenderOptions options_;
  Rng& rng_;
  State state_ = State::kIdle;
  Step step_ = Step::kAnswer;
  std::optional<Session> session_;
  Hello hello_;
  Epoch peer_epoch_;
  Effects effects_;
  std::optional<Error> halted_for_;
  std::optional<Refusal> halted_as_;
  std::optional<Error> last_error_;
  Micros deadline_{UINT64_MAX};
  Micros reconnect_at_{0};
  uint64_t retry_us_;

  std::optional<journal::LineEnd> acknowledged_;
  std::optional<journal::LineEnd> begun_at_;  // this session; not yet found on home's line
  journal::LineEnd shipped_;                  // end of what was sent on this connection
  std::deque<Shipped> in_flight_;
  uint64_t in_flight_bytes_ = 0;
  uint64_t window_bytes_ = 0;
  struct Seeding {
    journal::SeedDescription seed;
    uint64_t total = 0;
    uint64_t sent = 0;
    uint64_t taken = 0;
    size_t base = 0;  // that the next byte is of
    uint64_t at = 0;  // in it
    size_t asked = 0;
  };
  std::optional<Seeding> seed_;
  bool feed_asked_ = false;
  size_t asked_bytes_max_ = 0;
  bool feed_answer_is_stale_ = false;  // asked on an earlier connection
  Sequence home_durable_;
  Micros oldest_unshipped_{0};
};

}  // namespace hf::replication
