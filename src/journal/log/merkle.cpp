#include "journal/log/merkle.h"

#include <bit>

#include "crypto/crypto.h"

namespace hf::journal {

namespace {

Digest hash_leaf(const Digest& leaf) {
  std::array<std::byte, 33> input{};
  std::memcpy(input.data() + 1, leaf.bytes.data(), 32);
  return crypto::sha256(input);
}

Digest hash_node(const Digest& left, const Digest& right) {
  std::array<std::byte, 65> input{};
  input[0] = std::byte{1};
  std::memcpy(input.data() + 1, left.bytes.data(), 32);
  std::memcpy(input.data() + 33, right.bytes.data(), 32);
  return crypto::sha256(input);
}

}  // namespace

void MerkleTree::add(const Digest& leaf) {
  Digest subtree = hash_leaf(leaf);
  size_t depth = static_cast<size_t>(std::popcount(size_));
  // Each trailing one bit of the size is a complete subtree as large as the one in hand.
  for (uint64_t bits = size_; (bits & 1) != 0; bits >>= 1) {
    HF_ASSERT(depth > 0);
    subtree = hash_node(stack_[--depth], subtree);
  }
  HF_ASSERT(depth < kDepthMax);
  stack_[depth] = subtree;
  ++size_;
  HF_ASSERT(depth + 1 == static_cast<size_t>(std::popcount(size_)));
}

Digest MerkleTree::root() const {
  size_t depth = static_cast<size_t>(std::popcount(size_));
  if (depth == 0) return crypto::sha256({});
  Digest root = stack_[--depth];
  while (depth > 0) root = hash_node(stack_[--depth], root);
  return root;
}

}  // namespace hf::journal
