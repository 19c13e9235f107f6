#include "journal/collection/victims.h"

#include <algorithm>

#include "base/assert.h"

namespace hf::journal {

namespace {
double live_share(const FileUse& use) {
  return static_cast<double>(use.live_bytes) / static_cast<double>(use.bytes);
}

// The higher, the sooner.
double worth(const FileUse& use, uint64_t now, VictimOrder order) {
  const double empty = 1.0 - live_share(use);
  if (order == VictimOrder::kGreedy) return empty;
  return empty * empty * static_cast<double>(now - std::min(now, use.hidden_at) + 1);
}
}  // namespace

std::vector<size_t> choose_victims(const std::vector<FileUse>& files, uint64_t bytes, uint64_t now,
                                   const CollectionLimits& limits) {
  HF_ASSERT(limits.output_bytes > 0);
  if (bytes <= limits.target_bytes) return {};
  std::vector<size_t> order;
  for (size_t i = 0; i < files.size(); ++i) {
    if (files[i].bytes > 0 && live_share(files[i]) <= limits.live_share_max) order.push_back(i);
  }
  std::ranges::sort(order, [&](size_t a, size_t b) {
    const double worth_a = worth(files[a], now, limits.order);
    const double worth_b = worth(files[b], now, limits.order);
    return worth_a != worth_b ? worth_a > worth_b : files[a].file < files[b].file;
  });
  std::vector<size_t> victims;
  uint64_t survive = 0;
  uint64_t freed = 0;
  for (size_t i : order) {
    if (bytes - freed <= limits.target_bytes && !victims.empty()) break;
    if (survive + files[i].live_bytes > limits.outputs * limits.output_bytes) break;
    victims.push_back(i);
    survive += files[i].live_bytes;
    freed += files[i].bytes - std::min(files[i].bytes, files[i].live_bytes);
  }
  return victims;
}

}  // namespace hf::journal
