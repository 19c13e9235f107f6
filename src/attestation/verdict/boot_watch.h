// What the monitor of a VM's boots does next: a state machine without I/O.
//
//   waiting ──boot id──▶ booting ──ExitBootServices──▶ started ──(agent's log appraised)──▶ settled
//      ▲                    │ kStuckAfter                 │
//      └── the TPM is powered on anew (another boot id) ──┴── from every state
//
// The keeper tells of each TPM power-on (a start or a reset of the guest) under a new boot id, and
// of the moment the firmware handed over to the operating system. The verdict that needs no guest
// software is due then; if an agent answers later, one that has the event log follows.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "sys/json.h"

namespace hf::attestation {

// The head of the keeper's answer to {"op":"measurements"}.
struct BootHead {
  std::string boot;             // hex; another one at each TPM power-on; empty: not powered on yet
  uint64_t total = 0;           // extends so far
  bool handed_over = false;     // ExitBootServices was measured
  uint64_t handed_over_us = 0;  // when
};
Result<BootHead> parse_boot_head(const sys::JsonObject& answer);

class BootWatch {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Millis = std::chrono::milliseconds;

  static constexpr Millis kPollBooting{200};
  static constexpr Millis kPollRunning{1000};
  static constexpr Millis kQuietMax{3'600'000};
  // Firmware that has found nothing to boot waits for ever, and so does a boot menu: by then the
  // verdict is that none can be given yet.
  static constexpr Millis kStuckAfter{60'000};
  // What is due and cannot be had is tried again: this often at once, then ever more slowly, for as
  // long as the boot lasts.
  static constexpr int kQuickTries = 5;
  // The quick tries are not all made if they take long, as those of a vault that hangs do.
  static constexpr Millis kMoment{5'000};
  static constexpr Millis kAgainMax{60'000};
  // For this long after the hand-over a guest agent is looked for.
  static constexpr Millis kAgentWithin{300'000};

  enum class Act {
    kNothing,
    kAppraiseBoot,   // the firmware has handed over
    kAppraiseStuck,  // it has not, for long
    kAskAgent,       // the boot's log may be had now
  };
  // `has_agent`: the VM has a port for one.
  explicit BootWatch(bool has_agent) : has_agent_(has_agent) {}

  // What to do after this answer; kAppraise… once a boot each, kAskAgent until agent_done().
  Act take(const BootHead& head, Time now);
  // For a boot that was appraised before this process began: nothing is due for it.
  void adopt(const std::string& boot) { appraised_boot_ = boot; }
  void agent_done() { agent_done_ = true; }
  // The appraisal that was due could not be made (the keeper was away), or not of all that belongs
  // to it: it is due again.
  void again(Time now);
  // For what cannot be had: it is time to say what there is to say without.
  bool waited_enough(Time now) const {
    return tries_ >= kQuickTries || (tries_ > 0 && now - since_ >= kMoment);
  }
  const std::string& boot() const { return boot_; }  // the newest one, also once the TPM is off
  // What the last answer said: the keeper is asked for what is other than this. No boot while the
  // TPM is off, as a keeper's that came back under a running guest is until the VM's reset.
  const std::string& heard_boot() const { return heard_boot_; }
  bool heard_hand_over() const { return heard_hand_over_; }
  // How long nothing has to be done if the boot stays as it is: until then the keeper need not be
  // asked. At least kPollBooting.
  Millis quiet_for(Time now) const;

 private:
  enum class State { kWaiting, kBooting, kStarted };
  const bool has_agent_;
  State state_ = State::kWaiting;
  std::string boot_;
  std::string heard_boot_;
  bool heard_hand_over_ = false;
  std::string appraised_boot_;
  Time since_{};  // of the state
  bool stuck_told_ = false;
  bool due_ = false;  // the verdict of a boot that has handed over
  int tries_ = 0;
  Time not_before_{};
  bool agent_done_ = false;
};

}  // namespace hf::attestation
