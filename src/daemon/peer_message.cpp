#include "daemon/peer_message.h"

namespace hf::daemon {

Status send_message(TlsStream& to, const sys::JsonObject& message, Millis limit) {
  std::string text = sys::to_text(message);
  if (text.size() > kPeerMessageMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "a message to the other site is too long"};
  }
  Bytes frame(4);
  store_le<uint32_t>(frame.data(), static_cast<uint32_t>(text.size()));
  ByteSpan body = as_bytes(text);
  frame.insert(frame.end(), body.begin(), body.end());
  return to.write_all(frame, limit);
}

Result<sys::JsonObject> receive_message(TlsStream& from, Millis limit) {
  std::byte head[4];
  TRY(from.read_exact(head, limit));
  uint32_t size = load_le<uint32_t>(head);
  if (size > kPeerMessageMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "a message of the other site is too long"};
  }
  Bytes body(size);
  TRY(from.read_exact(body, limit));
  sys::JsonObject message =
      TRY(sys::parse_json_object(as_text(body), {.bytes_max = kPeerMessageMax}));
  if (!sys::has_member(message, "error")) return message;
  return sys::error_from_json(*TRY(sys::get_object(message, "error")));
}

sys::JsonObject error_message(const Error& error) { return {{"error", sys::error_to_json(error)}}; }

}  // namespace hf::daemon
