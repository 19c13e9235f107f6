// Frames between two links (docs/formats/peer.md). This header is the specification of their
// bytes; every number is little-endian. They travel inside mutual TLS 1.3.
//
//   frame = header (16 bytes) ‖ body (length bytes)
//
//   0      1       2          4        8    16
//   ├ type ┼ flags ┼ reserved ┼ length ┼ id ┤
//
// `id` names a stream or a question; 0 where there is none. The side that dialled uses odd ids for
// what it begins, the other even ones; streams and questions are counted apart.
//
// Decoders take bytes from a stranger: each type has its own bounds, checked with the header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "sys/typed_json.h"

namespace hf::peer {

inline constexpr uint32_t kMuxVersion = 2;  // 1 had no clock
inline constexpr size_t kFrameHeaderSize = 16;
inline constexpr size_t kFrameSizeMax = 16384;  // one TLS record
inline constexpr size_t kFrameBodyMax = kFrameSizeMax - kFrameHeaderSize;
inline constexpr size_t kErrorBodyMax = 8192;
inline constexpr size_t kErrorTextMax = 800;  // of each of the three texts
// What a stream's receiver takes before it has said anything.
inline constexpr uint32_t kFirstWindow = 64 << 10;

enum class FrameType : uint8_t {
  kHello = 1,        // first of both sides; version u32, reserved u32
  kPing = 2,         // 8 bytes
  kPong = 3,         // the same bytes
  kGoodbye = 4,      // error; the connection ends
  kOpen = 5,         // a stream: VM id
  kAccept = 6,       // of the stream: bytes may come
  kRefuse = 7,       // error with detail: it is over
  kData = 8,         // at most as much as the receiver has granted
  kCredit = 9,       // u32: so many more bytes are granted
  kFin = 10,         // no more data will come
  kReset = 11,       // error; it is over, both ways
  kAsk = 12,         // total u32, limit in ms u32, then the first bytes
  kAskMore = 13,     // the next bytes
  kAnswer = 14,      // total u32, then the first bytes; with kFlagError an error
  kAnswerMore = 15,  // the next bytes
  kCancel = 16,      // whoever asked no longer waits
  kPair = 17,        // one message of a first contact; only under kAlpnPairing
  kClock = 18,       // u64: the sender's wall time in microseconds; after hello, and now and then
};
inline constexpr uint8_t kFlagError = 1;    // of kAnswer
inline constexpr uint8_t kFlagUnheard = 2;  // of an error: holdfastd was not given the question
// Flags that an answer may have.
bool are_answer_flags(uint8_t flags);

struct FrameHeaderLayout {
  uint8_t type;
  uint8_t flags;
  uint8_t reserved[2];  // zero
  uint8_t length[4];
  uint8_t id[8];
};
static_assert(sizeof(FrameHeaderLayout) == kFrameHeaderSize);
static_assert(offsetof(FrameHeaderLayout, length) == 4);
static_assert(offsetof(FrameHeaderLayout, id) == 8);

struct FrameHeader {
  FrameType type = FrameType::kPing;
  uint8_t flags = 0;
  uint32_t length = 0;
  uint64_t id = 0;
  bool operator==(const FrameHeader&) const = default;
};
void encode_frame_header(const FrameHeader& header, std::span<std::byte, kFrameHeaderSize> to);
// kCorrupt unless type, flags and length are ones that may be.
Result<FrameHeader> decode_frame_header(std::span<const std::byte, kFrameHeaderSize> from);

Bytes encode_frame(FrameType type, uint64_t id, ByteSpan body, uint8_t flags = 0);

struct Frame {
  FrameHeader header;
  ByteSpan body;  // into the bytes it was read from
};
// The frame at the start of `bytes`; nullopt: more is to come.
Result<std::optional<Frame>> first_frame(ByteSpan bytes);

// ---- Bodies ----

struct Ask {
  uint32_t total = 0;
  uint32_t limit_ms = 0;
  ByteSpan part;
};
inline constexpr size_t kAskHeadSize = 8;
// kCorrupt: a total beyond kRequestMax, or less than the part.
Result<Ask> decode_ask(ByteSpan body);
Bytes encode_ask(uint64_t id, const Ask& ask);

struct Answer {
  uint32_t total = 0;
  ByteSpan part;
};
inline constexpr size_t kAnswerHeadSize = 4;
Result<Answer> decode_answer(ByteSpan body);  // without kFlagError
Bytes encode_answer(uint64_t id, const Answer& answer);

Bytes encode_hello();
Status decode_hello(ByteSpan body);  // kUnsupported: another version
Bytes encode_clock(Micros wall);
Result<Micros> decode_clock(ByteSpan body);
Result<VmId> decode_open(ByteSpan body);
Result<uint32_t> decode_credit(ByteSpan body);

// An error on its way to another site, with what its reader may want beside it. Texts are cut to
// kErrorTextMax and cleaned when written and when read; a detail that is too long is left out.
struct ErrorBody {
  Error error;
  sys::JsonObject detail = {};
};
constexpr auto json_members(sys::JsonOf<ErrorBody>) {
  return std::tuple(sys::json_member("error", &ErrorBody::error),
                    sys::json_member_or_default("detail", &ErrorBody::detail));
}
Bytes encode_error_body(const ErrorBody& body);
// Never fails: what cannot be read is an error too.
ErrorBody decode_error_body(ByteSpan body);

// The bytes of a question or an answer that come in parts: what may still come.
class PartCounter {
 public:
  PartCounter() = default;
  explicit PartCounter(uint32_t total) : left_(total) {}
  // kCorrupt: more than was announced.
  Status take(size_t size);
  bool whole() const { return left_ == 0; }

 private:
  uint32_t left_ = 0;
};

}  // namespace hf::peer
