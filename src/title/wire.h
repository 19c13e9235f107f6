// A cursor over little-endian fields, for this library's encoders and decoders. Bounds are
// asserted: callers check sizes before they start.
#pragma once

#include <algorithm>

#include "title/statement.h"

namespace hf::title {

inline constexpr size_t kLineSize = 72;  // incarnation, sequence, chain

class Writer {
 public:
  explicit Writer(MutableByteSpan to) : to_(to) {}
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
  void line(const Line& line) {
    bytes(line.position.incarnation.span());
    number(line.position.sequence.value);
    bytes(line.chain.span());
  }
  size_t at() const { return at_; }

 private:
  MutableByteSpan to_;
  size_t at_ = 0;
};

class Reader {
 public:
  explicit Reader(ByteSpan from) : from_(from) {}
  template <std::unsigned_integral T>
  T number() {
    HF_ASSERT(sizeof(T) <= left());
    const T value = load_le<T>(from_.data() + at_);
    at_ += sizeof(T);
    return value;
  }
  template <typename Id>
  Id id() {
    Id value;
    HF_ASSERT(value.bytes.size() <= left());
    std::memcpy(value.bytes.data(), from_.data() + at_, value.bytes.size());
    at_ += value.bytes.size();
    return value;
  }
  ByteSpan bytes(size_t count) {
    HF_ASSERT(count <= left());
    at_ += count;
    return from_.subspan(at_ - count, count);
  }
  // True if the next `count` bytes are zero; passes them.
  bool zeroes(size_t count) {
    return std::ranges::all_of(bytes(count), [](std::byte b) { return b == std::byte{0}; });
  }
  Line line() {
    Line line;
    line.position.incarnation = id<IncarnationId>();
    line.position.sequence = Sequence(number<uint64_t>());
    line.chain = id<Digest>();
    return line;
  }
  size_t left() const { return from_.size() - at_; }

 private:
  ByteSpan from_;
  size_t at_ = 0;
};

}  // namespace hf::title
