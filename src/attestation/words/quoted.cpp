#include "attestation/words/quoted.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace hf::attestation {
namespace {

constexpr size_t kQuotedMax = 400;  // of guest text in a sentence

}  // namespace

std::string short_hex(ByteSpan digest) {
  return to_hex(digest.first(std::min<size_t>(8, digest.size()))) + "…";
}

std::string quoted(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0')) text.remove_suffix(1);
  return fmt::format("\"{}{}\"", clean_text(text, kQuotedMax), text.size() > kQuotedMax ? "…" : "");
}

std::string joined(const std::vector<std::string>& words, std::string_view separator) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += separator;
    out += word;
  }
  return out;
}

}  // namespace hf::attestation
