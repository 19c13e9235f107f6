#include "vtpm/control_protocol.h"

#include <algorithm>
#include <initializer_list>

namespace hf::vtpm {
namespace {

constexpr size_t kCommandSize = 4;
constexpr size_t kLocalityPadding = 3;
constexpr size_t kHashDataHeader = kCommandSize + 4;
constexpr size_t kSetStateBlobHeader = kCommandSize + 12;

// Body of a command of fixed size; SIZE_MAX: unknown command or a size of its own.
size_t fixed_body_size(ControlCommand command) {
  switch (command) {
    case ControlCommand::kGetCapability:
    case ControlCommand::kShutdown:
    case ControlCommand::kGetTpmEstablished:
    case ControlCommand::kHashStart:
    case ControlCommand::kHashEnd:
    case ControlCommand::kCancelTpmCommand:
    case ControlCommand::kStoreVolatile:
    case ControlCommand::kStop:
    case ControlCommand::kGetConfig:
    case ControlCommand::kSetDataFd:
      return 0;
    case ControlCommand::kInit:
    case ControlCommand::kSetBufferSize:
    case ControlCommand::kLockStorage:
      return 4;
    case ControlCommand::kGetStateBlob:
      return 12;
    case ControlCommand::kGetInfo:
      return 16;
    case ControlCommand::kSetLocality:
    case ControlCommand::kResetTpmEstablished:
    case ControlCommand::kHashData:
    case ControlCommand::kSetStateBlob:
      break;
  }
  return SIZE_MAX;
}

FrameSize fixed(ByteSpan buffered, size_t size) {
  return {.state = buffered.size() < size ? FrameState::kIncomplete : FrameState::kComplete,
          .size = size};
}

FrameSize with_length(ByteSpan buffered, size_t header, size_t data_max) {
  if (buffered.size() < header) return {.state = FrameState::kIncomplete};
  const uint32_t length = load_be<uint32_t>(buffered.data() + header - 4);
  if (length > data_max) return {.state = FrameState::kInvalid};
  return fixed(buffered, header + length);
}

FrameSize with_padding(ByteSpan buffered) {
  constexpr size_t kShort = kCommandSize + 1;
  constexpr size_t kLong = kShort + kLocalityPadding;
  if (buffered.size() < kShort) return {.state = FrameState::kIncomplete};
  if (buffered.size() >= kLong) return {.state = FrameState::kComplete, .size = kLong};
  return {.state = FrameState::kPaddingMayFollow, .size = buffered.size()};
}

Bytes words(std::initializer_list<uint32_t> values) {
  Bytes out(4 * values.size());
  std::byte* at = out.data();
  for (const uint32_t value : values) {
    store_be(at, value);
    at += 4;
  }
  return out;
}

}  // namespace

FrameSize measure_frame(ByteSpan buffered) {
  if (buffered.size() < kCommandSize) return {.state = FrameState::kIncomplete};
  const auto command = static_cast<ControlCommand>(load_be<uint32_t>(buffered.data()));
  const size_t body = fixed_body_size(command);
  if (body != SIZE_MAX) return fixed(buffered, kCommandSize + body);
  switch (command) {
    case ControlCommand::kSetLocality:
    case ControlCommand::kResetTpmEstablished:
      return with_padding(buffered);
    case ControlCommand::kHashData: {
      const FrameSize whole = with_length(buffered, kHashDataHeader, kHashDataWhole);
      if (whole.state != FrameState::kInvalid) return whole;
      return {.state = FrameState::kLongHashData,
              .size = kHashDataHeader,
              .data_size = load_be<uint32_t>(buffered.data() + kCommandSize)};
    }
    case ControlCommand::kSetStateBlob:
      return with_length(buffered, kSetStateBlobHeader, kControlBlobMax);
    default:
      return {.state = FrameState::kComplete, .size = buffered.size()};
  }
}

WhatFollows what_follows(ControlCommand command) {
  switch (command) {
    case ControlCommand::kGetCapability:
    case ControlCommand::kSetLocality:
    case ControlCommand::kResetTpmEstablished:
    case ControlCommand::kGetStateBlob:
    case ControlCommand::kSetDataFd:
    case ControlCommand::kSetBufferSize:
    case ControlCommand::kGetInfo:
    case ControlCommand::kLockStorage:
      return WhatFollows::kIgnored;
    default:
      return WhatFollows::kRefused;
  }
}

Result<ControlRequest> parse_frame(ByteSpan frame) {
  HF_ASSERT(frame.size() >= kCommandSize);
  const auto word = [&](size_t at) { return load_be<uint32_t>(frame.data() + kCommandSize + at); };
  ControlRequest request{.command = static_cast<ControlCommand>(load_be<uint32_t>(frame.data()))};
  const size_t body = fixed_body_size(request.command);
  HF_ASSERT(body == SIZE_MAX || frame.size() == kCommandSize + body);
  switch (request.command) {
    case ControlCommand::kInit:
      request.flags = word(0);
      return request;
    case ControlCommand::kSetBufferSize:
    case ControlCommand::kLockStorage:
      request.number = word(0);
      return request;
    case ControlCommand::kGetInfo:
      request.flags = load_be<uint64_t>(frame.data() + kCommandSize);
      request.offset = word(8);
      return request;
    case ControlCommand::kGetStateBlob:
      request.flags = word(0);
      request.blob_type = word(4);
      request.offset = word(8);
      return request;
    case ControlCommand::kSetLocality:
    case ControlCommand::kResetTpmEstablished:
      HF_ASSERT(frame.size() > kCommandSize);
      request.locality = static_cast<uint8_t>(frame[kCommandSize]);
      return request;
    case ControlCommand::kHashData:
      HF_ASSERT(frame.size() >= kHashDataHeader);
      request.data = frame.subspan(kHashDataHeader);
      return request;
    case ControlCommand::kSetStateBlob:
      HF_ASSERT(frame.size() >= kSetStateBlobHeader);
      request.flags = word(0);
      request.blob_type = word(4);
      request.data = frame.subspan(kSetStateBlobHeader);
      return request;
    default:
      break;
  }
  if (body == 0) return request;
  return Error{.code = ErrorCode::kUnsupported, .cause = "unknown vTPM control command"};
}

Bytes capability_answer(uint64_t capabilities) {
  return words({static_cast<uint32_t>(capabilities >> 32), static_cast<uint32_t>(capabilities)});
}

Bytes result_answer(TpmResult result) { return words({result}); }

Bytes established_answer(bool bit) { return words({kTpmSuccess, bit ? 1U << 24 : 0U}); }

Bytes config_answer(uint32_t flags) { return words({kTpmSuccess, flags}); }

Bytes buffer_size_answer(const BufferSizes& sizes) {
  return words({kTpmSuccess, sizes.current, sizes.min, sizes.max});
}

Bytes state_blob_answer(TpmResult result, ByteSpan blob, uint32_t offset) {
  HF_ASSERT(blob.size() <= kControlBlobMax);
  const ByteSpan rest = offset < blob.size() ? blob.subspan(offset) : ByteSpan();
  const auto length = static_cast<uint32_t>(rest.size());
  Bytes out = words({result, blob.empty() ? 0U : kStateFlagEncrypted, length, length});
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

Bytes info_answer(std::string_view text, uint32_t offset) {
  if (offset >= text.size()) return result_answer(kTpmBadParameter);
  Bytes whole(text.size() + 1);
  std::memcpy(whole.data(), text.data(), text.size());
  const ByteSpan rest = ByteSpan(whole).subspan(offset);
  const ByteSpan chunk = rest.first(std::min(rest.size(), kInfoChunkMax));
  Bytes out = words(
      {kTpmSuccess, static_cast<uint32_t>(whole.size()), static_cast<uint32_t>(chunk.size())});
  out.insert(out.end(), chunk.begin(), chunk.end());
  return out;
}

}  // namespace hf::vtpm
