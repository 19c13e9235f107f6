// An act of a VM's life, carried out at this site: what src/lifecycle decides, one effect at a
// time, by the vault, the catalog, the launcher and the other sites. Nothing is decided here.
//
// Blocks for as long as its effects do. One act of a kind that changes the VM's record or its
// replica at a time: whoever begins one has the VM's turn (protection/turns.h), but for a fence,
// which waits for nobody.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "control/protection/turns.h"
#include "control/services.h"
#include "control/vm/vm_operations.h"
#include "journal/format/lineage.h"
#include "lifecycle/machine.h"
#include "peer/link_client.h"

namespace hf::control {

class Launching;

// What an act has besides its wish.
struct ActContext {
  std::string word = {};            // of an operator, hex
  std::string actor = "holdfastd";  // for the audit
  LaunchOptions launch = {};
  // How long a giver waits until all of the VM is at the taker; the order carries it there.
  std::chrono::milliseconds tail_limit{lifecycle::kTailLimit / 1000};
  Progress* progress = nullptr;                // null: nobody waits for it
  std::optional<Turns::Turn>* turn = nullptr;  // given back once the VM is this site's
};

// What came of it.
struct ActOutcome {
  lifecycle::Step last;          // done or refused
  lifecycle::Observed observed;  // at the end
  std::optional<Error> failed;   // of the last effect that failed
  // Of the effects that were carried out.
  lifecycle::SourceAnswer source = lifecycle::SourceAnswer::kNoAnswer;
  std::string source_says;
  std::chrono::milliseconds tail_limit{};
  std::optional<uint64_t> tail_lacks;  // records that did not reach the taker in time
  std::vector<SiteId> silent;
  bool ran = false;         // its guest, as the act began
  journal::LineEnd sealed;  // the replica's end
  Launched launched;
  int64_t asked_ms = 0;  // until the holder had answered
  int64_t taken_ms = 0;  // until the VM was this site's

  bool did(lifecycle::Done how) const {
    return last.what == lifecycle::Step::What::kDone && last.done == how;
  }
};

class ActRunner {
 public:
  ActRunner(Services& services, VmId vm, lifecycle::Wish wish, ActContext context = {});
  ~ActRunner();
  // Until it is done or refused. Errors: what is here cannot be observed; of the VM nothing was
  // begun, or what was begun stands (kNotFound: it was deleted).
  Result<ActOutcome> run();

 private:
  using Ended = lifecycle::Ended;
  using Step = lifecycle::Step;

  Result<lifecycle::Observed> observe();
  Ended carry_out(const Step& step);
  Status perform(const Step& step, Ended& ended);
  Status perform_message(const Step& step, Ended& ended);
  Status perform_store(const Step& step);
  Status perform_process(const Step& step, Ended& ended);

  Status store_superseded(const SiteId& holder);
  Status store_taken();
  Status store_standby(const SiteId& holder);
  Status store_protection(const SiteId& peer, ProtectionState state);
  Status ask_hand_over(const SiteId& site, Ended& ended);
  Status find_line(Ended& ended);
  Status kill_guest();
  Status end_keeper();
  Status ship_tail();
  Status seal();
  Status show_line();
  Launching& launching();

  Services& services_;
  const VmId vm_;
  lifecycle::Machine machine_;
  ActContext context_;
  VmRow row_;  // as last observed
  std::optional<ProtectionRow> protection_;
  title::SignedPtr head_;
  std::optional<title::Line> theirs_;  // the other site's, as it last answered
  std::unique_ptr<Launching> launching_;
  std::chrono::steady_clock::time_point begun_;
  ActOutcome outcome_;
};

// Act::kFence: the title may name another holder by now.
Status fence_by_title(Services& services, VmId vm);

// What came back as the VM's record, protection and processes, in the lifecycle's terms.
lifecycle::Role role_of(VmRole role);

}  // namespace hf::control
