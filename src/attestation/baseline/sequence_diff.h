// Two rows of digests, aligned: what changed, came or went.
#pragma once

#include <optional>
#include <vector>

#include "base/bytes.h"

namespace hf::attestation {

struct Alignment {
  std::optional<size_t> was;  // index in the first row; absent: it came
  std::optional<size_t> is;   // index in the second row; absent: it went
};

// Only what differs, in order. Within a stretch that differs, the first that went is paired with
// the first that came, and so on. Long stretches are aligned by position.
std::vector<Alignment> differing(const std::vector<ByteSpan>& was, const std::vector<ByteSpan>& is);

}  // namespace hf::attestation
