// Variable-length numbers: seven bits a byte, least first, the top bit set on all but the last.
// Only the shortest form of a number is one.
#pragma once

#include "base/bytes.h"
#include "journal/format/wire.h"

namespace hf::journal {

class VarWriter {
 public:
  explicit VarWriter(Bytes& to) : to_(to) {}
  void byte(uint8_t value) { to_.push_back(std::byte{value}); }
  void number(uint64_t value) {
    while (value >= 0x80) {
      byte(static_cast<uint8_t>(value | 0x80));
      value >>= 7;
    }
    byte(static_cast<uint8_t>(value));
  }
  // Small in either direction: 0, -1, 1, -2, 2 … as 0, 1, 2, 3, 4 …
  void difference(uint64_t value, uint64_t from) {
    const uint64_t delta = value - from;
    number((delta << 1) ^ (0 - (delta >> 63)));
  }
  void bytes(ByteSpan from) { to_.insert(to_.end(), from.begin(), from.end()); }

 private:
  Bytes& to_;
};

// After the first thing that does not fit, failed() holds and everything reads as zero.
class VarReader {
 public:
  explicit VarReader(ByteSpan from) : from_(from) {}
  uint8_t byte() {
    if (at_ == from_.size()) failed_ = true;
    return failed_ ? uint8_t{0} : static_cast<uint8_t>(from_[at_++]);
  }
  uint64_t number() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const uint8_t next = byte();
      if (shift == 63 && next > 1) failed_ = true;
      if (shift > 0 && next == 0) failed_ = true;  // a longer form than needed, or the end
      if (failed_) return 0;
      value |= uint64_t{next & 0x7fu} << shift;
      if (next < 0x80) return value;
    }
    failed_ = true;
    return 0;
  }
  uint64_t difference(uint64_t from) {
    const uint64_t coded = number();
    return from + ((coded >> 1) ^ (0 - (coded & 1)));
  }
  ByteSpan bytes(size_t count) {
    if (count > from_.size() - at_) failed_ = true;
    if (failed_) return {};
    const ByteSpan part = from_.subspan(at_, count);
    at_ += count;
    return part;
  }
  bool failed() const { return failed_; }
  bool at_end() const { return at_ == from_.size(); }

 private:
  ByteSpan from_;
  size_t at_ = 0;
  bool failed_ = false;
};

}  // namespace hf::journal
