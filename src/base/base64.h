// Base64 (RFC 4648): §4 with padding ("base64") and §5 without ("base64url", as in JOSE).
//
// Decoding is strict, so that a text has one meaning and bytes have one text: no white space, no
// missing or superfluous padding, and the unused bits of the last character are zero.
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.h"

namespace hf {

std::string base64_encode(ByteSpan bytes);
std::string base64url_encode(ByteSpan bytes);
// kInvalidArgument.
Result<Bytes> base64_decode(std::string_view text);
Result<Bytes> base64url_decode(std::string_view text);

}  // namespace hf
