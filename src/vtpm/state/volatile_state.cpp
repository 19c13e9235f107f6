// How VolatileAll ends (libtpms 0.9, NVMarshal.c and Volatile.c; big-endian), from the back:
//
//   20   SHA-1 of all before
//    4   magic
//    3   "a block follows" (1), its length u16 (0)          what a version 5 would add
//   32   four times u64                                     version 4
//    3   "a block follows" (1), length of all that is in it and behind it, to the magic
//   3 *  TPM2B, a hierarchy's seed: 32 or 64 bytes          version 3
//    3   "a block follows" (1), length likewise
//    8   wall clock in ms
#include "vtpm/state/volatile_state.h"

#include <openssl/evp.h>

#include <algorithm>

#include "base/assert.h"

namespace hf::vtpm {
namespace {

constexpr size_t kHashSize = 20;
constexpr uint32_t kMagic = 0x45637889;
constexpr size_t kBlockHeader = 3;
constexpr size_t kVersion4Size = 32;
constexpr size_t kTimeSize = 8;
constexpr size_t kEndSize = kBlockHeader + kVersion4Size + kBlockHeader;

std::array<std::byte, kHashSize> sha1(ByteSpan bytes) {
  std::array<std::byte, kHashSize> out{};
  unsigned int size = 0;
  HF_ASSERT(EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(out.data()),
                       &size, EVP_sha1(), nullptr) == 1);
  HF_ASSERT(size == kHashSize);
  return out;
}

bool is_block(ByteSpan bytes, size_t at, size_t length) {
  return bytes[at] == std::byte{1} && load_be<uint16_t>(bytes.data() + at + 1) == length;
}

// Where the header of version 3's block would be, `seeds` being as long as they may be.
bool has_seeds(ByteSpan bytes, size_t at, size_t seeds) {
  if (!is_block(bytes, at, seeds + kEndSize)) return false;
  size_t next = at + kBlockHeader;
  const size_t end = next + seeds;
  for (int i = 0; i < 3; ++i) {
    if (next + 2 > end) return false;
    next += 2 + load_be<uint16_t>(bytes.data() + next);
  }
  return next == end;
}

}  // namespace

bool set_time_of_storing(MutableByteSpan volatile_state, uint64_t wall_clock_ms) {
  constexpr size_t kSeedsMax = size_t{3} * (2 + 64);
  constexpr size_t kBehind = kHashSize + sizeof kMagic;
  if (volatile_state.size() < kTimeSize + kBlockHeader + kSeedsMax + kEndSize + kBehind) {
    return false;
  }
  const size_t hashed = volatile_state.size() - kHashSize;
  const size_t end = volatile_state.size() - kBehind;
  const ByteSpan bytes = volatile_state;
  if (load_be<uint32_t>(bytes.data() + end) != kMagic || !is_block(bytes, end - kBlockHeader, 0) ||
      !is_block(bytes, end - kEndSize, kVersion4Size + kBlockHeader) ||
      !std::ranges::equal(sha1(bytes.first(hashed)), bytes.subspan(hashed))) {
    return false;
  }
  for (size_t long_ones = 0; long_ones <= 3; ++long_ones) {
    const size_t seeds = 3 * (2 + 32) + long_ones * 32;
    const size_t at = end - kEndSize - seeds - kBlockHeader;
    if (!has_seeds(bytes, at, seeds)) continue;
    store_be(volatile_state.data() + at - kTimeSize, wall_clock_ms);
    std::ranges::copy(sha1(bytes.first(hashed)),
                      volatile_state.begin() + static_cast<ptrdiff_t>(hashed));
    return true;
  }
  return false;
}

}  // namespace hf::vtpm
