// Text and digests for a sentence that an operator reads.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace hf::attestation {

// Digests are told apart by their first bytes.
std::string short_hex(ByteSpan digest);
// Text of the guest's, cleaned, cut and in quotes.
std::string quoted(std::string_view text);
std::string joined(const std::vector<std::string>& words, std::string_view separator);

}  // namespace hf::attestation
