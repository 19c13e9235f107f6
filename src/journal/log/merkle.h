// Merkle root over a growing list, in the tree shape of RFC 6962 section 2.1, without keeping the
// leaves: a stack of the roots of its complete subtrees (at most 64).
//
//   leaf = SHA-256(0x00 ‖ header digest)      node = SHA-256(0x01 ‖ left ‖ right)
#pragma once

#include "base/ids.h"

namespace hf::journal {

class MerkleTree {
 public:
  void add(const Digest& leaf);
  Digest root() const;  // of nothing: SHA-256 of no bytes, as in the RFC
  uint64_t size() const { return size_; }
  void clear() { size_ = 0; }

 private:
  static constexpr size_t kDepthMax = 64;
  std::array<Digest, kDepthMax> stack_{};  // as many as size_ has one bits, largest subtree first
  uint64_t size_ = 0;
};

}  // namespace hf::journal
