// Platform configuration registers: their hash algorithms, values, and how an extend changes them
// (TPM 2.0 Library Specification part 1, §17; PC Client Platform TPM Profile §4.6 for start
// values).
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "base/bytes.h"

namespace hf::attestation {

// TPM_ALG_ID (TCG Algorithm Registry). Other values may occur in a log; size_of() is 0 for them.
enum class HashAlg : uint16_t { kSha1 = 0x4, kSha256 = 0xB, kSha384 = 0xC, kSha512 = 0xD };

inline constexpr std::array kHashAlgs = {HashAlg::kSha1, HashAlg::kSha256, HashAlg::kSha384,
                                         HashAlg::kSha512};
inline constexpr size_t kHashSizeMax = 64;
inline constexpr uint32_t kPcrCount = 24;
inline constexpr uint32_t kDynamicPcrFirst = 17;  // reset by a dynamic launch, else all ones
inline constexpr uint32_t kDynamicPcrLast = 22;

size_t size_of(HashAlg alg);            // bytes; 0 if unknown
std::string_view name_of(HashAlg alg);  // "sha256"; "" if unknown
std::optional<HashAlg> parse_hash_alg(std::string_view name);
std::optional<HashAlg> known_hash_alg(uint16_t id);

// A digest that owns its bytes.
struct PcrDigest {
  HashAlg alg = HashAlg::kSha256;
  Bytes bytes;
  bool operator==(const PcrDigest&) const = default;
};

// A hash value of any known algorithm, without allocation.
class HashValue {
 public:
  HashValue() = default;
  explicit HashValue(size_t size) : size_(size) { HF_ASSERT(size <= kHashSizeMax); }
  ByteSpan bytes() const { return ByteSpan(bytes_).first(size_); }
  MutableByteSpan bytes() { return MutableByteSpan(bytes_).first(size_); }
  bool operator==(const HashValue& other) const = default;

 private:
  std::array<std::byte, kHashSizeMax> bytes_{};
  size_t size_ = 0;
};

bool equal(ByteSpan a, ByteSpan b);

// A known algorithm; asserts otherwise. The two-part form hashes the concatenation.
HashValue hash(HashAlg alg, ByteSpan bytes);
HashValue hash(HashAlg alg, ByteSpan first, ByteSpan second);

// The 24 registers of one bank.
class PcrBank {
 public:
  // As after TPM2_Startup at this locality (PCR 0 ends with it): 0, 3, or 4 after an H-CRTM.
  explicit PcrBank(HashAlg alg, uint8_t startup_locality = 0);

  HashAlg alg() const { return alg_; }
  ByteSpan value(uint32_t pcr) const;
  void set(uint32_t pcr, ByteSpan value);      // of the bank's size
  void extend(uint32_t pcr, ByteSpan digest);  // of the bank's size
  void dynamic_launch();                       // PCR 17–22 become zero
  bool operator==(const PcrBank&) const = default;

 private:
  HashAlg alg_;
  size_t size_;
  std::array<std::array<std::byte, kHashSizeMax>, kPcrCount> values_{};
};

}  // namespace hf::attestation
