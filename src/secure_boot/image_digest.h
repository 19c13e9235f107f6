// Digests as UEFI and the TPM name them, over pieces of a file.
#pragma once

#include <memory>
#include <string_view>

#include "base/bytes.h"

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

}  // namespace hf::secure_boot
