#include "secure_boot/efi/image_digest.h"

#include <openssl/evp.h>

#include <algorithm>

namespace hf::secure_boot {
namespace {

const EVP_MD* method(DigestAlgorithm algorithm) {
  switch (algorithm) {
    case DigestAlgorithm::kSha1:
      return EVP_sha1();
    case DigestAlgorithm::kSha256:
      return EVP_sha256();
    case DigestAlgorithm::kSha384:
      return EVP_sha384();
    case DigestAlgorithm::kSha512:
      return EVP_sha512();
  }
  HF_ASSERT(false);
  return nullptr;
}

}  // namespace

size_t size_of(DigestAlgorithm algorithm) {
  return static_cast<size_t>(EVP_MD_get_size(method(algorithm)));
}

std::string_view name_of(DigestAlgorithm algorithm) {
  switch (algorithm) {
    case DigestAlgorithm::kSha1:
      return "sha1";
    case DigestAlgorithm::kSha256:
      return "sha256";
    case DigestAlgorithm::kSha384:
      return "sha384";
    case DigestAlgorithm::kSha512:
      return "sha512";
  }
  return "unknown";
}

struct DigestStream::Impl {
  DigestAlgorithm algorithm;
  EVP_MD_CTX* context;
  ~Impl() { EVP_MD_CTX_free(context); }
};

DigestStream::DigestStream(DigestAlgorithm algorithm)
    : impl_(new Impl{.algorithm = algorithm, .context = EVP_MD_CTX_new()}) {
  HF_ASSERT(EVP_DigestInit_ex(impl_->context, method(algorithm), nullptr) == 1);
}
DigestStream::~DigestStream() = default;
DigestStream::DigestStream(DigestStream&&) noexcept = default;
DigestStream& DigestStream::operator=(DigestStream&&) noexcept = default;

void DigestStream::update(ByteSpan bytes) {
  HF_ASSERT(EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()) == 1);
}

Bytes DigestStream::finish() {
  Bytes out(size_of(impl_->algorithm));
  HF_ASSERT(EVP_DigestFinal_ex(impl_->context, reinterpret_cast<unsigned char*>(out.data()),
                               nullptr) == 1);
  return out;
}

Bytes digest_of(DigestAlgorithm algorithm, ByteSpan bytes) {
  DigestStream stream(algorithm);
  stream.update(bytes);
  return stream.finish();
}

Status HashBudget::take(uint64_t bytes) {
  if (stop && stop()) return Error{.code = ErrorCode::kUnavailable, .cause = "it was stopped"};
  if (bytes > bytes_left) {
    bytes_left = 0;
    return Error{.code = ErrorCode::kLimit, .cause = "its boot files take too long to check"};
  }
  bytes_left -= bytes;
  return {};
}

Status update(DigestStream& stream, ByteSpan bytes, HashBudget& budget) {
  while (!bytes.empty()) {
    const ByteSpan piece = bytes.first(std::min(bytes.size(), kHashPiece));
    TRY(budget.take(piece.size()));
    stream.update(piece);
    bytes = bytes.subspan(piece.size());
  }
  return {};
}

Status update_with_zeros(DigestStream& stream, uint64_t count, HashBudget& budget) {
  const Bytes zeros(std::min<uint64_t>(count, kHashPiece));
  while (count != 0) {
    const uint64_t size = std::min<uint64_t>(count, zeros.size());
    TRY(update(stream, ByteSpan(zeros).first(size), budget));
    count -= size;
  }
  return {};
}

Result<Bytes> digest_of(DigestAlgorithm algorithm, ByteSpan bytes, HashBudget& budget) {
  DigestStream stream(algorithm);
  TRY(update(stream, bytes, budget));
  return stream.finish();
}

}  // namespace hf::secure_boot
