#include "vtpm/tpm_command.h"

#include <fmt/format.h>

namespace hf::vtpm {
namespace {

Error short_response() {
  return Error{.code = ErrorCode::kCorrupt,
               .cause = "a TPM response ends in the middle of a field"};
}

}  // namespace

CommandBuilder::CommandBuilder(uint16_t tag, uint32_t code) {
  bytes_.reserve(256);
  u16(tag).u32(0).u32(code);
}

CommandBuilder& CommandBuilder::u8(uint8_t value) {
  return raw({reinterpret_cast<std::byte*>(&value), 1});
}

CommandBuilder& CommandBuilder::u16(uint16_t value) {
  std::array<std::byte, 2> out;
  store_be(out.data(), value);
  return raw(out);
}

CommandBuilder& CommandBuilder::u32(uint32_t value) {
  std::array<std::byte, 4> out;
  store_be(out.data(), value);
  return raw(out);
}

CommandBuilder& CommandBuilder::raw(ByteSpan bytes) {
  HF_ASSERT(bytes_.size() + bytes.size() <= kTpmBufferMax);
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

CommandBuilder& CommandBuilder::sized(ByteSpan bytes) {
  HF_ASSERT(bytes.size() <= kTpmBufferMax);
  return u16(static_cast<uint16_t>(bytes.size())).raw(bytes);
}

CommandBuilder& CommandBuilder::password(ByteSpan authorization) {
  // authorizationSize; then handle, empty nonce, attributes, the password itself.
  return u32(static_cast<uint32_t>(9 + authorization.size()))
      .u32(kHandlePassword)
      .u16(0)
      .u8(0)
      .sized(authorization);
}

Bytes CommandBuilder::finish() {
  store_be(bytes_.data() + 2, static_cast<uint32_t>(bytes_.size()));
  return std::move(bytes_);
}

Result<ByteSpan> ResponseReader::raw(size_t size) {
  if (rest_.size() < size) return short_response();
  const ByteSpan out = rest_.first(size);
  rest_ = rest_.subspan(size);
  return out;
}

Result<uint8_t> ResponseReader::u8() { return static_cast<uint8_t>(TRY(raw(1))[0]); }
Result<uint16_t> ResponseReader::u16() { return load_be<uint16_t>(TRY(raw(2)).data()); }
Result<uint32_t> ResponseReader::u32() { return load_be<uint32_t>(TRY(raw(4)).data()); }
Result<ByteSpan> ResponseReader::sized() { return raw(TRY(u16())); }

Result<ResponseHeader> parse_response_header(ByteSpan response) {
  if (response.size() < kTpmHeaderSize) return short_response();
  const ResponseHeader header{.tag = load_be<uint16_t>(response.data()),
                              .size = load_be<uint32_t>(response.data() + 2),
                              .code = load_be<uint32_t>(response.data() + 6)};
  if (header.size != response.size()) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "a TPM response of the wrong length"};
  }
  return header;
}

Result<ByteSpan> expect_success(ByteSpan response, std::string_view doing) {
  const ResponseHeader header = TRY_CONTEXT(parse_response_header(response), doing);
  if (header.code != kRcSuccess) {
    return Error{.code = ErrorCode::kInternal,
                 .cause = fmt::format("{}: the TPM answered 0x{:03x}", doing, header.code)};
  }
  return response.subspan(kTpmHeaderSize);
}

uint32_t command_code(ByteSpan command) {
  return command.size() < kTpmHeaderSize ? 0 : load_be<uint32_t>(command.data() + 6);
}

Bytes startup_command(StartupType type) {
  return CommandBuilder(kTagNoSessions, kCcStartup).u16(static_cast<uint16_t>(type)).finish();
}

Bytes shutdown_command(StartupType type) {
  return CommandBuilder(kTagNoSessions, kCcShutdown).u16(static_cast<uint16_t>(type)).finish();
}

Bytes status_response(uint32_t code) {
  // A response without parameters has the layout of a command without any.
  return CommandBuilder(kTagNoSessions, code).finish();
}

}  // namespace hf::vtpm
