// Which files to collect next: the choice, and when there is need of one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hf::journal {

struct FileUse {
  uint64_t file = 0;
  uint64_t bytes = 0;       // on the device
  uint64_t live_bytes = 0;  // of them, what its live units would take as survivors
  uint64_t hidden_at = 0;   // a sequence: when what is dead in it died, on the whole
};

enum class VictimOrder : uint8_t {
  kGreedy,         // the emptiest first
  kDecliningCost,  // emptiness² × time since it went on emptying (Lomet and Luo)
};

struct CollectionLimits {
  uint64_t target_bytes = 0;  // what all files together should take
  uint64_t output_bytes = 0;  // of one collected file
  // Survivors of one batch fill so many: sorting them joins neighbours only if there are many.
  uint64_t outputs = 8;
  double live_share_max = 0.985;  // a fuller file isn't worth it
  VictimOrder order = VictimOrder::kDecliningCost;
};

// The next batch; empty if `bytes` is within the target, or nothing is worth it. `now`: a sequence.
std::vector<size_t> choose_victims(const std::vector<FileUse>& files, uint64_t bytes, uint64_t now,
                                   const CollectionLimits& limits);

}  // namespace hf::journal
