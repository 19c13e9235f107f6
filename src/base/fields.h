// A cursor over little-endian fields, for encoders and decoders of fixed layouts. The bounds are
// asserted: callers check sizes before they start.
#pragma once

#include <algorithm>

#include "base/bytes.h"
#include "base/ids.h"

namespace hf {

inline bool all_zero(ByteSpan bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

class FieldWriter {
 public:
  explicit FieldWriter(MutableByteSpan to) : to_(to) {}
  template <std::unsigned_integral T>
  void number(T value) {
    HF_ASSERT(at_ + sizeof value <= to_.size());
    store_le(to_.data() + at_, value);
    at_ += sizeof value;
  }
  void bytes(ByteSpan from) {
    HF_ASSERT(at_ + from.size() <= to_.size());
    std::ranges::copy(from, to_.begin() + static_cast<ptrdiff_t>(at_));
    at_ += from.size();
  }
  void zeroes(size_t count) {
    HF_ASSERT(at_ + count <= to_.size());
    std::fill_n(to_.begin() + static_cast<ptrdiff_t>(at_), count, std::byte{0});
    at_ += count;
  }
  void zeroes_to(size_t end) {
    HF_ASSERT(end >= at_);
    zeroes(end - at_);
  }
  size_t at() const { return at_; }

 private:
  MutableByteSpan to_;
  size_t at_ = 0;
};

class FieldReader {
 public:
  explicit FieldReader(ByteSpan from) : from_(from) {}
  template <std::unsigned_integral T>
  T number() {
    HF_ASSERT(at_ + sizeof(T) <= from_.size());
    T value = load_le<T>(from_.data() + at_);
    at_ += sizeof(T);
    return value;
  }
  // A number that is counted on from: in_range() is false from the first above kNumberMax on.
  template <typename Number = uint64_t>
  Number counted() {
    const auto value = number<uint64_t>();
    if (value > kNumberMax) in_range_ = false;
    return Number(value);
  }
  bool in_range() const { return in_range_; }
  template <typename Id>
  Id id() {
    Id value;
    HF_ASSERT(at_ + value.bytes.size() <= from_.size());
    std::memcpy(value.bytes.data(), from_.data() + at_, value.bytes.size());
    at_ += value.bytes.size();
    return value;
  }
  ByteSpan bytes(size_t count) {
    HF_ASSERT(at_ + count <= from_.size());
    ByteSpan part = from_.subspan(at_, count);
    at_ += count;
    return part;
  }
  // True if the next `count` bytes are zero; passes them.
  bool zeroes(size_t count) { return all_zero(bytes(count)); }
  bool zeroes_to(size_t end) {
    HF_ASSERT(end >= at_);
    return zeroes(end - at_);
  }
  size_t at() const { return at_; }
  size_t left() const { return from_.size() - at_; }

 private:
  ByteSpan from_;
  size_t at_ = 0;
  bool in_range_ = true;
};

}  // namespace hf
