// Faults that simulator and explorer plant in the title's rules, to show that they would find them.
// Nothing but a test sets them.
#pragma once

namespace hf::title {

struct Faults {
  bool number_instead_of_ancestry = false;  // a higher epoch counts as what follows
  bool not_asked_before_start = false;      // starts and takes go without anyone's answer
  bool empty_replica_taken = false;    // a site takes, or is handed, a VM that it has no line of
  bool no_branch_kept = false;         // a line is switched before its end stands as a branch
  bool no_return = false;              // a member that is no standby may never take
  bool permission_remembered = false;  // what is in memory only outlives a restart
  bool dropped_unasked = false;        // a site is expelled on nobody's word
  bool hearsay = false;            // a hand-over counts as the giver's answer, whoever passed it on
  bool hand_over_unasked = false;  // a VM that does not run is handed over without asking
  bool answer_used_late = false;   // an answer counts however long ago its question was sent
  bool entitlement_not_checked = false;  // whatever a known site signs may follow
};

}  // namespace hf::title
