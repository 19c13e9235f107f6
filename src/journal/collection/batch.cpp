#include "journal/collection/batch.h"

#include <algorithm>

#include "base/assert.h"

namespace hf::journal {

uint64_t Leases::take(uint64_t generation) {
  leases_.push_back({.number = next_, .generation = generation});
  return next_++;
}

void Leases::end(uint64_t lease) {
  const auto removed =
      std::erase_if(leases_, [&](const Lease& each) { return each.number == lease; });
  HF_ASSERT(removed == 1);
}

bool Leases::older_than(uint64_t generation) const {
  return std::ranges::any_of(leases_,
                             [&](const Lease& each) { return each.generation < generation; });
}

Batch::Batch(std::set<uint64_t> victims, uint64_t withdrawn_by, uint64_t durable_generation)
    : victims_(std::move(victims)) {
  HF_ASSERT(!victims_.empty());
  HF_ASSERT(withdrawn_by <= durable_generation);
}

void Batch::advance(BatchStep from, BatchStep to) {
  HF_ASSERT(step_ == from);
  step_ = to;
}

void Batch::damaged(uint64_t file) {
  HF_ASSERT(step_ < BatchStep::kReadBack);
  HF_ASSERT(victims_.erase(file) == 1);
  damaged_.insert(file);
}

void Batch::written() { advance(BatchStep::kDecided, BatchStep::kWritten); }
void Batch::synced() { advance(BatchStep::kWritten, BatchStep::kSynced); }
void Batch::read_back() { advance(BatchStep::kSynced, BatchStep::kReadBack); }

void Batch::switched(uint64_t generation) {
  advance(BatchStep::kReadBack, BatchStep::kSwitched);
  switched_by_ = generation;
}

std::vector<uint64_t> Batch::removable(const Leases& leases) {
  HF_ASSERT(step_ >= BatchStep::kSwitched);
  if (leases.older_than(switched_by_)) return {};
  std::vector<uint64_t> files(victims_.begin(), victims_.end());
  victims_.clear();
  step_ = BatchStep::kRemoved;
  return files;
}

}  // namespace hf::journal
