// Faults that the simulator plants in replication, to show that it would find them. As
// journal/format/faults.h: nothing but a test sets them.
#pragma once

namespace hf::replication {

struct Faults {
  bool shipped_before_durable = false;  // records leave while home could still lose them
};

}  // namespace hf::replication
