#include "vtpm/state/state_blob.h"

#include <fmt/format.h>

namespace hf::vtpm {
namespace {

Error corrupt(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = "vTPM state: " + std::move(cause)};
}

StateBlobHeader load_header(ByteSpan bytes) {
  const std::byte* at = bytes.data();
  return {.magic = load_le<uint32_t>(at),
          .version = load_le<uint16_t>(at + 4),
          .header_size = load_le<uint16_t>(at + 6),
          .libtpms_version = load_le<uint32_t>(at + 8),
          .state_level = load_le<uint32_t>(at + 12),
          .permanent_length = load_le<uint32_t>(at + 16),
          .volatile_length = load_le<uint32_t>(at + 20),
          .reserved = load_le<uint64_t>(at + 24)};
}

}  // namespace

std::string libtpms_version_text(uint32_t version) {
  return fmt::format("{}.{}.{}", version >> 16, (version >> 8) & 0xFF, version & 0xFF);
}

Result<Bytes> encode_state_blob(const StateBlob& state) {
  HF_ASSERT(!state.permanent.empty());
  const size_t size = kStateBlobHeaderSize + state.permanent.size() + state.volatile_state.size();
  if (size > kStateBlobSizeMax) {
    return Error{
        .code = ErrorCode::kLimit,
        .cause = fmt::format("vTPM state of {} bytes, the limit is {}", size, kStateBlobSizeMax)};
  }
  Bytes out(size);
  std::byte* at = out.data();
  store_le(at, kStateBlobMagic);
  store_le(at + 4, kStateBlobVersion);
  store_le(at + 6, static_cast<uint16_t>(kStateBlobHeaderSize));
  store_le(at + 8, state.libtpms_version);
  store_le(at + 12, state.state_level);
  store_le(at + 16, static_cast<uint32_t>(state.permanent.size()));
  store_le(at + 20, static_cast<uint32_t>(state.volatile_state.size()));
  store_le(at + 24, uint64_t{0});
  at += kStateBlobHeaderSize;
  std::memcpy(at, state.permanent.data(), state.permanent.size());
  if (!state.volatile_state.empty()) {
    std::memcpy(at + state.permanent.size(), state.volatile_state.data(),
                state.volatile_state.size());
  }
  return out;
}

Result<StateBlob> decode_state_blob(ByteSpan bytes) {
  if (bytes.size() < kStateBlobHeaderSize) return corrupt("shorter than its header");
  if (bytes.size() > kStateBlobSizeMax) return corrupt("longer than any state can be");
  const StateBlobHeader header = load_header(bytes);
  if (header.magic != kStateBlobMagic) return corrupt("wrong magic number");
  if (header.version != kStateBlobVersion) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = fmt::format("vTPM state: format version {}, this build reads {}",
                                      header.version, kStateBlobVersion),
                 .mend = "upgrade Holdfast on this host"};
  }
  if (header.state_level == 0 || header.state_level > kStateLevelSupported) {
    return Error{
        .code = ErrorCode::kUnsupported,
        .cause = fmt::format("vTPM state: written by libtpms {} at state level {}, this host's "
                             "libtpms reads up to level {}",
                             libtpms_version_text(header.libtpms_version), header.state_level,
                             kStateLevelSupported),
        .mend = "upgrade libtpms and Holdfast on this host"};
  }
  if (header.header_size < kStateBlobHeaderSize) return corrupt("header size too small");
  const uint64_t expected =
      uint64_t{header.header_size} + header.permanent_length + header.volatile_length;
  if (expected != bytes.size()) return corrupt("lengths do not add up to its size");
  if (header.permanent_length == 0) return corrupt("no permanent state");
  if (header.reserved != 0) return corrupt("reserved field is not zero");

  const ByteSpan permanent = bytes.subspan(header.header_size, header.permanent_length);
  const ByteSpan rest = bytes.subspan(header.header_size + header.permanent_length);
  return StateBlob{.libtpms_version = header.libtpms_version,
                   .state_level = header.state_level,
                   .permanent = Bytes(permanent.begin(), permanent.end()),
                   .volatile_state = Bytes(rest.begin(), rest.end())};
}

}  // namespace hf::vtpm
