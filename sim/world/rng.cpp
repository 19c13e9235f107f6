#include "sim/world/rng.h"

#include <bit>

namespace hf::sim {

SimRng::SimRng(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15u;
    uint64_t mixed = seed;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    word = mixed ^ (mixed >> 31);
  }
}

uint64_t SimRng::next() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

void SimRng::fill(MutableByteSpan out) {
  while (!out.empty()) {
    std::array<std::byte, 8> word{};
    store_le(word.data(), next());
    const size_t size = out.size() < word.size() ? out.size() : word.size();
    std::memcpy(out.data(), word.data(), size);
    out = out.subspan(size);
  }
}

uint64_t SimRng::below(uint64_t bound) {
  HF_ASSERT(bound > 0);
  return next() % bound;  // the bias is below 2^-32 for the small bounds used here
}

uint64_t SimRng::between(uint64_t least, uint64_t most) {
  HF_ASSERT(least <= most);
  return least + below(most - least + 1);
}

bool SimRng::chance(uint64_t numerator, uint64_t denominator) {
  return below(denominator) < numerator;
}

}  // namespace hf::sim
