// Strong types for what must not be mixed up.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <limits>
#include <string>

#include "base/bytes.h"

namespace hf {

// The largest number that bytes from elsewhere may bring: epoch, sequence, time, file number, place
// in a file or volume. Decoders refuse what is above it, so that whoever counts on from such a
// number, or adds two, stays far from where they wrap. At a million a second it is 146,000 years.
inline constexpr uint64_t kNumberMax = uint64_t{1} << 62;

// A number of its own kind: compared and copied, never added to another kind by accident.
template <typename Tag, typename T>
struct StrongNumber {
  T value = 0;
  constexpr StrongNumber() = default;
  constexpr explicit StrongNumber(T number) : value(number) {}
  constexpr auto operator<=>(const StrongNumber&) const = default;
  // Never wraps: what comes from elsewhere is at most kNumberMax, and a journal stops there.
  constexpr StrongNumber next() const {
    HF_ASSERT(value < std::numeric_limits<T>::max());
    return StrongNumber(static_cast<T>(value + 1));
  }
};

using Epoch = StrongNumber<struct EpochTag, uint64_t>;        // raised by every promotion
using Sequence = StrongNumber<struct SequenceTag, uint64_t>;  // of a record, within a lineage
using VolumeId = StrongNumber<struct VolumeTag, uint32_t>;    // 0 is guest state; disks from 1
using KeyVersion = StrongNumber<struct KeyVersionTag, uint32_t>;

// Microseconds since the Unix epoch.
using Micros = StrongNumber<struct MicrosTag, uint64_t>;

template <typename Tag, size_t N>
struct StrongBytes {
  std::array<std::byte, N> bytes{};
  auto operator<=>(const StrongBytes&) const = default;
  ByteSpan span() const { return bytes; }
  bool is_zero() const { return *this == StrongBytes{}; }
  std::string hex() const { return to_hex(bytes); }
  static Result<StrongBytes> parse_hex(std::string_view text) {
    Bytes raw = TRY(from_hex(text));
    if (raw.size() != N) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "an id of the wrong length"};
    }
    StrongBytes id;
    std::memcpy(id.bytes.data(), raw.data(), N);
    return id;
  }
};

using VmId = StrongBytes<struct VmIdTag, 16>;
using SiteId = StrongBytes<struct SiteIdTag, 16>;
using IncarnationId = StrongBytes<struct IncarnationTag, 32>;
using Digest = StrongBytes<struct DigestTag, 32>;  // SHA-256

// Where in a VM's history: a record's number is only meaningful with its incarnation.
struct Position {
  IncarnationId incarnation;
  Sequence sequence;
  auto operator<=>(const Position&) const = default;
};

}  // namespace hf
