// Digests as UEFI and the TPM name them, over pieces of a file.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace hf::secure_boot {

// The numbers are TCG algorithm ids (TCG Algorithm Registry, TPM_ALG_*).
enum class DigestAlgorithm : uint16_t {
  kSha1 = 0x0004,
  kSha256 = 0x000B,
  kSha384 = 0x000C,
  kSha512 = 0x000D,
};
inline constexpr DigestAlgorithm kDigestAlgorithms[] = {
    DigestAlgorithm::kSha1, DigestAlgorithm::kSha256, DigestAlgorithm::kSha384,
    DigestAlgorithm::kSha512};

size_t size_of(DigestAlgorithm algorithm);            // bytes of a digest
std::string_view name_of(DigestAlgorithm algorithm);  // "sha256"

// Takes bytes piece by piece; finish() ends it.
class DigestStream {
 public:
  explicit DigestStream(DigestAlgorithm algorithm);
  ~DigestStream();
  DigestStream(DigestStream&&) noexcept;
  DigestStream& operator=(DigestStream&&) noexcept;
  void update(ByteSpan bytes);
  Bytes finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

Bytes digest_of(DigestAlgorithm algorithm, ByteSpan bytes);

// What hashing may cost in all: how often, and over how much, files are hashed is said by the files
// themselves, so that it is not bounded by what is read.
struct HashBudget {
  uint64_t bytes_left = UINT64_MAX;
  std::function<bool()> stop;  // asked at least each kHashPiece bytes; empty: never
  // kLimit: it is used up, and stays so. kUnavailable: stopped.
  Status take(uint64_t bytes);
};
inline constexpr size_t kHashPiece = size_t{1} << 20;

// Piece by piece; errors of HashBudget::take().
Status update(DigestStream& stream, ByteSpan bytes, HashBudget& budget);
Status update_with_zeros(DigestStream& stream, uint64_t count, HashBudget& budget);
Result<Bytes> digest_of(DigestAlgorithm algorithm, ByteSpan bytes, HashBudget& budget);

}  // namespace hf::secure_boot
