// Inside the vault's clients: one question, one answer, on a connection of its own.
#pragma once

#include "vault/protocol/client.h"

namespace hf::vault {

// The reply's body. Errors as client.h says.
Result<crypto::Secret> ask_vault(const ClientOptions& options, Op op, ByteSpan body);

// Asks, and hands the result part to `decode`; `decode` runs while the Secret lives.
template <typename Decode>
auto ask(const ClientOptions& options, Op op, const Writer& body, Decode decode)
    -> decltype(decode(ByteSpan{})) {
  const crypto::Secret reply = TRY(ask_vault(options, op, body.bytes()));
  const ByteSpan result = TRY(decode_reply(reply.span()));
  return decode(result);
}

inline Status expect_empty(ByteSpan result) { return Reader(result).finish("vault reply"); }

template <typename Id>
Writer body_of(const Id& id) {
  Writer body;
  body.id(id);
  return body;
}

inline Error too_long(std::string_view what) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::string(what) + " is too long"};
}

}  // namespace hf::vault
