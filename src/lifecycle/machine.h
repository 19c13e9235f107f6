// Machine: the life of a VM at one site, as a decision that is made anew after every effect.
//
//   observe (observed.h) ─▶ Machine::next() ─▶ one effect, carried out ─▶ Machine::ended() ─▶
//   observe …
//
// By level: what is to be done follows from what is there, so whoever was killed between two
// effects begins at what he finds, forward or back and never half. A machine remembers only what
// one act has asked and heard in this process; a new one without it does the same, asks again, and
// ends the same. It does no I/O: holdfastd (control/lifecycle) and the simulator carry the effects
// out, each with its own vault, catalog and processes; what may be signed, released and opened is
// the vault's to judge, not this machine's.
//
// One thread; copyable.
#pragma once

#include <array>

#include "lifecycle/effect.h"
#include "lifecycle/observed.h"
#include "title/words.h"

namespace hf::lifecycle {

// Together below what whoever asks for a hand-over waits.
inline constexpr uint64_t kTailLimit = 10 * title::kSecond;
// Of a vault that began to count silence just now, and a little.
inline constexpr uint64_t kSilenceLimit = 8 * title::kSecond;

// What an operator or another site wants.
struct Wish {
  Act act = Act::kFollow;
  SiteId peer = {};            // hand-over: to whom; protect, withdraw: with whom
  bool source_is_off = false;  // take-over: the operator's word says so
  bool without_peer = false;   // start, withdraw: likewise of who stands by
};

// Of the holder, asked to hand the VM over.
enum class SourceAnswer : uint8_t {
  kHandedOver,
  kNoAnswer,  // it was not reached, or knows nothing of the VM
  kSilent,    // it was asked and did not say what it did
  kRefused,   // it answers and did not
};

enum class Refusal : uint8_t {
  kNotMade,         // its creation is under way, or was cut off
  kNotHolder,       // another site holds it
  kNoStandby,       // the site does not stand by
  kPeerSilent,      // its vault does not answer
  kNotPrepared,     // it could not run the VM
  kTailLate,        // not all of the VM arrived within kTailLimit
  kNoReplica,       // there is nothing here to take over
  kEmptyReplica,    // nothing of it has arrived
  kVaultDenies,     // the source says that it handed over, its vault does not
  kSourceNoAnswer,  // and nobody's word says that it is off
  kSourceSilent,
  kSourceRefuses,
  kRival,
  kStandbySilent,
  kRunsAlready,
  kFailed,  // an effect did: its own error says why
};

enum class Done : uint8_t {
  kNothingLeft,  // follow, fence: until something changes
  kWaits,        // follow: something is under way; look again soon
  kHandedOver,
  kRuns,
  kStopped,
  kProtected,
  kWithdrawn,
  kStaysThere,  // the other site has not said that its replica is gone: asked again by itself
};

struct Step {
  enum class What : uint8_t { kEffect, kDone, kRefused };
  What what = What::kDone;
  Effect effect = Effect::kExchange;
  SiteId site = {};                           // of a message; of what is signed
  title::Kind kind = title::Kind::kHandOver;  // of what is signed
  Done done = Done::kNothingLeft;
  Refusal refusal = Refusal::kFailed;
};

// How an effect ended.
enum class Trouble : uint8_t {
  kNone,
  kTime,     // only time stands in the way: silence, an answer that is on its way
  kRefused,  // it will not be otherwise
};
struct Ended {
  Trouble trouble = Trouble::kNone;
  // kExchange
  bool whole = false;     // that site has the line whole, under this head
  bool prepared = false;  // and could run the VM
  // kAskHandOver
  SourceAnswer source = SourceAnswer::kNoAnswer;
  // kAskMembers
  std::vector<SiteId> silent = {};
  // kFindLine
  bool holds = false;
};

class Machine {
 public:
  explicit Machine(Wish wish) : wish_(wish) {}

  const Wish& wish() const { return wish_; }
  Step next(const Observed& now) const;
  void ended(const Step& step, const Ended& how, const Observed& now);
  SourceAnswer source() const { return source_; }

 private:
  struct Tried {
    uint16_t well = 0;
    uint16_t badly = 0;
    Trouble trouble = Trouble::kNone;  // of the last
    title::Instant first;
  };
  const Tried& tried(Effect effect) const { return tried_[static_cast<size_t>(effect)]; }
  bool did(Effect effect) const { return tried(effect).well > 0; }
  bool failed(Effect effect) const { return tried(effect).trouble == Trouble::kRefused; }
  bool late(Effect effect, uint64_t limit, const Observed& now) const {
    return tried(effect).badly > 0 && now.now.value >= tried(effect).first.value + limit;
  }

  std::optional<Step> fence(const Observed& now) const;
  Step follow(const Observed& now) const;
  std::optional<Step> follow_as_holder(const Observed& now) const;
  std::optional<Step> join(const Observed& now) const;
  Step hand_over(const Observed& now) const;
  Step give_back(const Observed& now, Refusal why) const;
  Step take_over(const Observed& now) const;
  Step take(const Observed& now) const;
  Step take_failed(const Observed& now, Refusal why) const;
  Step run(const Observed& now) const;
  Step run_failed(const Observed& now) const;
  Step start(const Observed& now) const;
  Step stop(const Observed& now) const;
  Step protect(const Observed& now) const;
  Step withdraw(const Observed& now) const;

  Wish wish_;
  std::array<Tried, kEffects> tried_{};
  std::optional<Effect> last_;    // that ended, well or badly
  std::optional<Effect> failed_;  // with Trouble::kRefused: the act ends, and undoes
  bool whole_ = false, prepared_ = false, holds_ = false;
  bool exchanged_after_tail_ = false;
  bool join_failed_ = false;
  bool undone_ = false;  // of a start that failed nothing is left
  SourceAnswer source_ = SourceAnswer::kNoAnswer;
  std::vector<SiteId> silent_;
};

}  // namespace hf::lifecycle
