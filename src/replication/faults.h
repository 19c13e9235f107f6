// Faults that the simulator plants in replication, to show that it would find them. As
// journal/faults.h: nothing but a test sets them.
#pragma once

namespace hf::replication {

struct Faults {
  bool shipped_before_durable = false;  // records leave while home could still lose them
  bool batch_mac_not_checked = false;   // a batch's MAC is not looked at
  bool ack_mac_not_checked = false;     // nor that of an acknowledgement or a session's beginning
  bool session_not_bound = false;       // every session has the same keys and name
};

}  // namespace hf::replication
