// Time and entropy as the core sees them. The simulator supplies its own.
#pragma once

#include "base/bytes.h"
#include "base/ids.h"

namespace hf {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Micros wall_time() = 0;  // may jump, both ways
  virtual Micros monotonic() = 0;  // never goes back
};

class Rng {
 public:
  virtual ~Rng() = default;
  virtual void fill(MutableByteSpan out) = 0;
};

}  // namespace hf
