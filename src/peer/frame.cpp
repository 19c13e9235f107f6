#include "peer/frame.h"

#include "base/text.h"
#include "peer/link_client.h"

namespace hf::peer {
namespace {

struct Bounds {
  size_t length_min;
  size_t length_max;
  bool has_id;
};

// Indexed by type.
constexpr Bounds kBounds[] = {
    {1, 0, false},                        // none
    {8, 8, false},                        // hello
    {8, 8, false},                        // ping
    {8, 8, false},                        // pong
    {0, kErrorBodyMax, false},            // goodbye
    {16, 16, true},                       // open
    {0, 0, true},                         // accept
    {0, kErrorBodyMax, true},             // refuse
    {1, kFrameBodyMax, true},             // data
    {4, 4, true},                         // credit
    {0, 0, true},                         // fin
    {0, kErrorBodyMax, true},             // reset
    {kAskHeadSize, kFrameBodyMax, true},  // ask
    {1, kFrameBodyMax, true},             // ask more
    {0, kFrameBodyMax, true},             // answer; may be an error
    {1, kFrameBodyMax, true},             // answer more
    {0, 0, true},                         // cancel
    {1, kPairMessageMax, false},          // pair
    {8, 8, false},                        // clock
};
static_assert(std::size(kBounds) == static_cast<size_t>(FrameType::kClock) + 1);
static_assert(kPairMessageMax <= kFrameBodyMax && kErrorBodyMax <= kFrameBodyMax);

Error corrupt(std::string cause) {
  return {.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

Error cleaned(const Error& error) {
  return {.code = error.code,
          .cause = clean_text(error.cause, kErrorTextMax),
          .effect = clean_text(error.effect, kErrorTextMax),
          .mend = clean_text(error.mend, kErrorTextMax)};
}

}  // namespace

bool are_answer_flags(uint8_t flags) {
  return flags == 0 || flags == kFlagError || flags == (kFlagError | kFlagUnheard);
}

void encode_frame_header(const FrameHeader& header, std::span<std::byte, kFrameHeaderSize> to) {
  to[0] = static_cast<std::byte>(header.type);
  to[1] = static_cast<std::byte>(header.flags);
  store_le<uint16_t>(to.data() + 2, 0);
  store_le<uint32_t>(to.data() + 4, header.length);
  store_le<uint64_t>(to.data() + 8, header.id);
}

Result<FrameHeader> decode_frame_header(std::span<const std::byte, kFrameHeaderSize> from) {
  const auto type = std::to_integer<uint8_t>(from[0]);
  if (type == 0 || type >= std::size(kBounds)) return corrupt("a frame of an unknown type");
  const FrameHeader header{.type = static_cast<FrameType>(type),
                           .flags = std::to_integer<uint8_t>(from[1]),
                           .length = load_le<uint32_t>(from.data() + 4),
                           .id = load_le<uint64_t>(from.data() + 8)};
  const Bounds& bounds = kBounds[type];
  const bool flags_known =
      header.type == FrameType::kAnswer ? are_answer_flags(header.flags) : header.flags == 0;
  if (load_le<uint16_t>(from.data() + 2) != 0 || !flags_known)
    return corrupt("a frame with bits that mean nothing");
  if (header.length < bounds.length_min || header.length > bounds.length_max)
    return corrupt("a frame of a length that its type does not have");
  if (bounds.has_id != (header.id != 0)) return corrupt("a frame with an id that it cannot have");
  return header;
}

Bytes encode_frame(FrameType type, uint64_t id, ByteSpan body, uint8_t flags) {
  HF_ASSERT(body.size() <= kFrameBodyMax);
  Bytes frame(kFrameHeaderSize + body.size());
  encode_frame_header(
      {.type = type, .flags = flags, .length = static_cast<uint32_t>(body.size()), .id = id},
      std::span<std::byte, kFrameHeaderSize>(frame.data(), kFrameHeaderSize));
  std::ranges::copy(body, frame.begin() + kFrameHeaderSize);
  return frame;
}

Result<std::optional<Frame>> first_frame(ByteSpan bytes) {
  if (bytes.size() < kFrameHeaderSize) return std::optional<Frame>();
  const FrameHeader header = TRY(decode_frame_header(bytes.first<kFrameHeaderSize>()));
  if (bytes.size() - kFrameHeaderSize < header.length) return std::optional<Frame>();
  return std::optional(
      Frame{.header = header, .body = bytes.subspan(kFrameHeaderSize, header.length)});
}

Result<Ask> decode_ask(ByteSpan body) {
  if (body.size() < kAskHeadSize) return corrupt("a question without its head");
  const Ask ask{.total = load_le<uint32_t>(body.data()),
                .limit_ms = load_le<uint32_t>(body.data() + 4),
                .part = body.subspan(kAskHeadSize)};
  if (ask.total > kRequestMax || ask.part.size() > ask.total)
    return corrupt("a question longer than allowed");
  if (ask.limit_ms == 0 || ask.limit_ms > static_cast<uint64_t>(kQuestionLimitMax.count()))
    return corrupt("a question with a time limit that is not allowed");
  if (ask.part.empty() && ask.total != 0) return corrupt("a question that begins with nothing");
  return ask;
}

Bytes encode_ask(uint64_t id, const Ask& ask) {
  Bytes body(kAskHeadSize);
  store_le<uint32_t>(body.data(), ask.total);
  store_le<uint32_t>(body.data() + 4, ask.limit_ms);
  body.insert(body.end(), ask.part.begin(), ask.part.end());
  return encode_frame(FrameType::kAsk, id, body);
}

Result<Answer> decode_answer(ByteSpan body) {
  if (body.size() < kAnswerHeadSize) return corrupt("an answer without its head");
  const Answer answer{.total = load_le<uint32_t>(body.data()),
                      .part = body.subspan(kAnswerHeadSize)};
  if (answer.total > kAnswerMax || answer.part.size() > answer.total)
    return corrupt("an answer longer than allowed");
  if (answer.part.empty() && answer.total != 0)
    return corrupt("an answer that begins with nothing");
  return answer;
}

Bytes encode_answer(uint64_t id, const Answer& answer) {
  Bytes body(kAnswerHeadSize);
  store_le<uint32_t>(body.data(), answer.total);
  body.insert(body.end(), answer.part.begin(), answer.part.end());
  return encode_frame(FrameType::kAnswer, id, body);
}

Bytes encode_hello() {
  std::byte body[8] = {};
  store_le<uint32_t>(body, kMuxVersion);
  return encode_frame(FrameType::kHello, 0, body);
}

Status decode_hello(ByteSpan body) {
  if (body.size() != 8 || load_le<uint32_t>(body.data() + 4) != 0)
    return corrupt("a hello that is none");
  const uint32_t version = load_le<uint32_t>(body.data());
  if (version == kMuxVersion) return {};
  return Error{.code = ErrorCode::kUnsupported,
               .cause = "the other site speaks version " + std::to_string(version) +
                        " of the protocol between sites, this one version " +
                        std::to_string(kMuxVersion),
               .effect = "nothing is exchanged with it",
               .mend = "upgrade Holdfast at both sites"};
}

Bytes encode_clock(Micros wall) {
  std::byte body[8] = {};
  store_le<uint64_t>(body, wall.value);
  return encode_frame(FrameType::kClock, 0, body);
}

Result<Micros> decode_clock(ByteSpan body) {
  if (body.size() != 8) return corrupt("a time that is none");
  return Micros(load_le<uint64_t>(body.data()));
}

Result<VmId> decode_open(ByteSpan body) {
  VmId vm;
  if (body.size() != vm.bytes.size()) return corrupt("a stream for no VM");
  std::ranges::copy(body, vm.bytes.begin());
  return vm;
}

Result<uint32_t> decode_credit(ByteSpan body) {
  if (body.size() != 4) return corrupt("a credit that is none");
  const uint32_t bytes = load_le<uint32_t>(body.data());
  if (bytes == 0) return corrupt("a credit of nothing");
  return bytes;
}

Bytes encode_error_body(const ErrorBody& body) {
  ErrorBody written{.error = cleaned(body.error)};
  if (sys::to_text(body.detail).size() <= kRefusalDetailMax) written.detail = body.detail;
  const std::string text = sys::encode_json_text(written);
  HF_ASSERT(text.size() <= kErrorBodyMax);
  const ByteSpan bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

ErrorBody decode_error_body(ByteSpan body) {
  Result<ErrorBody> read =
      sys::decode_json<ErrorBody>(as_text(body), {.bytes_max = kErrorBodyMax, .depth_max = 8});
  if (!read.ok()) {
    return {.error = {.code = ErrorCode::kUnavailable,
                      .cause = "the other site gave no reason that can be read"}};
  }
  read->error = cleaned(read->error);
  if (sys::to_text(read->detail).size() > kRefusalDetailMax) read->detail.clear();
  return *std::move(read);
}

Status PartCounter::take(size_t size) {
  if (size > left_) return corrupt("more bytes than were announced");
  left_ -= static_cast<uint32_t>(size);
  return {};
}

}  // namespace hf::peer
