// SimRng: all chance in a simulated run comes from one seed (xoshiro256**, seeded by splitmix64;
// https://prng.di.unimi.it/, public domain). Fast, equal on every machine, and no secret.
#pragma once

#include "base/clock.h"

namespace hf::sim {

class SimRng final : public Rng {
 public:
  explicit SimRng(uint64_t seed);

  void fill(MutableByteSpan out) override;

  uint64_t next();
  uint64_t below(uint64_t bound);                   // [0, bound); bound > 0
  uint64_t between(uint64_t least, uint64_t most);  // both included
  bool chance(uint64_t numerator, uint64_t denominator);

  // A stream of its own, so that one part's draws do not shift another's.
  SimRng fork() { return SimRng(next()); }

 private:
  std::array<uint64_t, 4> state_{};
};

}  // namespace hf::sim
