// Batch: the order of what destroys, as a state machine. Only the next step can be taken.
//
//   deaths decided ─▶ survivors written ─▶ synced ─▶ read back ─▶ switched (one durable edit) ─▶
//   removed
//
// The decision counts only positions whose withdrawal is durable. A survivor that differs from its
// digest leaves its file out of the switch: it stays, and is named damaged. Nothing may offer a
// point between the decision and the switch. A file goes only when no lease is older than the
// switch.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

namespace hf::journal {

// Who else reads the directory, and since when: MANIFEST's generation as of its opening.
class Leases {
 public:
  uint64_t take(uint64_t generation);  // a number to give it back by
  void end(uint64_t lease);
  // Does somebody read who may not know of `generation` yet?
  bool older_than(uint64_t generation) const;

 private:
  struct Lease {
    uint64_t number = 0;
    uint64_t generation = 0;
  };
  std::vector<Lease> leases_;
  uint64_t next_ = 1;
};

enum class BatchStep : uint8_t { kDecided, kWritten, kSynced, kReadBack, kSwitched, kRemoved };

class Batch {
 public:
  // withdrawn_by: MANIFEST's edit that withdrew the last position which the decision doesn't count;
  // durable_generation: the last edit that is durable. The first may not be after the second.
  Batch(std::set<uint64_t> victims, uint64_t withdrawn_by, uint64_t durable_generation);

  void damaged(uint64_t file);  // found before kReadBack
  void written();
  void synced();
  void read_back();
  void switched(uint64_t generation);  // the edit that has it is durable
  // After kSwitched: victims that no lease holds; each is given once. The rest count until later.
  std::vector<uint64_t> removable(const Leases& leases);

  BatchStep step() const { return step_; }
  const std::set<uint64_t>& victims() const { return victims_; }  // that the switch takes away
  const std::set<uint64_t>& damaged_files() const { return damaged_; }

 private:
  void advance(BatchStep from, BatchStep to);

  std::set<uint64_t> victims_;
  std::set<uint64_t> damaged_;
  BatchStep step_ = BatchStep::kDecided;
  uint64_t switched_by_ = 0;
};

}  // namespace hf::journal
