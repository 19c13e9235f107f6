#include "peer/link_protocol.h"

#include <algorithm>

namespace hf::peer {
namespace {

Error corrupt(std::string cause) {
  return {.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

}  // namespace

std::string_view to_string(Reach reach) { return sys::json_word(reach); }

Bytes encode_link_message(LinkType type, uint64_t id, ByteSpan body, uint8_t flags) {
  HF_ASSERT(body.size() <= kLinkBodyMax);
  Bytes message(kFrameHeaderSize);
  encode_frame_header({.type = static_cast<FrameType>(type),
                       .flags = flags,
                       .length = static_cast<uint32_t>(body.size()),
                       .id = id},
                      std::span<std::byte, kFrameHeaderSize>(message.data(), kFrameHeaderSize));
  message.insert(message.end(), body.begin(), body.end());
  return message;
}

Result<LinkMessage> decode_link_message(ByteSpan bytes) {
  if (bytes.size() < kFrameHeaderSize || bytes.size() > kLinkMessageMax)
    return corrupt("a message of a length that none has");
  const auto type = std::to_integer<uint8_t>(bytes[0]);
  const bool known =
      (type >= 32 && type <= 44) || (type >= 50 && type <= 52) || (type >= 60 && type <= 65);
  if (!known) return corrupt("a message of an unknown type");
  const LinkMessage message{.type = static_cast<LinkType>(type),
                            .flags = std::to_integer<uint8_t>(bytes[1]),
                            .id = load_le<uint64_t>(bytes.data() + 8),
                            .body = bytes.subspan(kFrameHeaderSize)};
  const bool flags_known =
      message.type == LinkType::kAnswer ? are_answer_flags(message.flags) : message.flags == 0;
  if (load_le<uint16_t>(bytes.data() + 2) != 0 || !flags_known ||
      load_le<uint32_t>(bytes.data() + 4) != message.body.size())
    return corrupt("a message whose header is not true");
  return message;
}

Status json_check(const PairUp& up) {
  if (!up.chain.empty()) return {};
  return corrupt("a first contact without a certificate");
}

Bytes encode_site(SiteId site) { return {site.bytes.begin(), site.bytes.end()}; }

Result<SiteId> decode_site(ByteSpan body) {
  SiteId site;
  if (body.size() < site.bytes.size()) return corrupt("a message without its site");
  std::ranges::copy(body.first(site.bytes.size()), site.bytes.begin());
  return site;
}

Bytes encode_open_body(const OpenBody& open) {
  Bytes body = encode_site(open.site);
  body.insert(body.end(), open.vm.bytes.begin(), open.vm.bytes.end());
  return body;
}

Result<OpenBody> decode_open_body(ByteSpan body) {
  if (body.size() != 32) return corrupt("a stream without its VM");
  return OpenBody{.site = TRY(decode_site(body)), .vm = TRY(decode_open(body.subspan(16)))};
}

}  // namespace hf::peer
