// Key bytes: in locked, non-dumpable pages, wiped when they go. Moves, never copies by accident.
#pragma once

#include <cstddef>

#include "base/bytes.h"

namespace hf::crypto {

// A fixed-length secret in pages that are mlocked, MADV_DONTDUMP and MADV_WIPEONFORK. If locking
// is refused (RLIMIT_MEMLOCK) construction asserts: a key in swappable memory is a broken promise.
class Secret {
 public:
  Secret() = default;
  explicit Secret(size_t size);           // zeroes
  static Secret copy_of(ByteSpan bytes);  // the caller still owns and wipes its own copy
  ~Secret();
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  Secret clone() const { return copy_of(span()); }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  ByteSpan span() const { return {data_, size_}; }
  MutableByteSpan mutable_span() { return {data_, size_}; }

 private:
  void wipe_and_free();
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

void wipe(MutableByteSpan bytes);  // not optimised away

}  // namespace hf::crypto
