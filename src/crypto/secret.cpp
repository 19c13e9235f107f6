#include "crypto/secret.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

namespace hf::crypto {
namespace {

// Whole pages, one secret each: mlock and the madvise flags work by page, and a neighbour's free
// would undo them. Keys are few.
size_t rounded(size_t size) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (size + page - 1) / page * page;
}

}  // namespace

Secret::Secret(size_t size) : size_(size) {
  if (size == 0) return;
  const size_t bytes = rounded(size);
  void* pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  HF_ASSERT(pages != MAP_FAILED);
  HF_ASSERT(::mlock(pages, bytes) == 0);
  HF_ASSERT(::madvise(pages, bytes, MADV_DONTDUMP) == 0);
  HF_ASSERT(::madvise(pages, bytes, MADV_WIPEONFORK) == 0);
  data_ = static_cast<std::byte*>(pages);
}

Secret Secret::copy_of(ByteSpan bytes) {
  Secret secret(bytes.size());
  if (!bytes.empty()) std::memcpy(secret.data_, bytes.data(), bytes.size());
  return secret;
}

Secret::~Secret() { wipe_and_free(); }

Secret::Secret(Secret&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    wipe_and_free();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void Secret::wipe_and_free() {
  if (data_ == nullptr) return;
  wipe(mutable_span());
  ::munmap(data_, rounded(size_));
  data_ = nullptr;
  size_ = 0;
}

void wipe(MutableByteSpan bytes) { OPENSSL_cleanse(bytes.data(), bytes.size()); }

}  // namespace hf::crypto
