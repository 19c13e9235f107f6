// Faults that the simulator plants in the production code, to show that it would find them.
//
// They exist for the simulator and for nothing else: no configuration, flag or environment reaches
// them, and every field is false unless a test sets it in Options.
#pragma once

namespace hf::journal {

struct Faults {
  bool sync_skipped = false;                  // a sync is reported done without being issued
  bool acknowledged_before_appended = false;  // a write is acknowledged while it is still in memory
  bool records_swapped = false;    // two neighbouring records reach the file in each other's place
  bool close_not_checked = false;  // a close's signature, root and table are believed
  bool shipped_before_durable = false;  // the feed gives records that are appended only
  bool epoch_not_raised = false;        // an incarnation of another site may reuse the epoch
  bool overwritten_left_out = false;    // of a merge: what younger records have overwritten since
};

}  // namespace hf::journal
