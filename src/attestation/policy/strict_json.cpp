#include "attestation/policy/strict_json.h"

#include <fmt/format.h>

#include <algorithm>

namespace hf::attestation {

Error invalid(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

Error too_many(std::string_view name, size_t max) {
  return Error{.code = ErrorCode::kLimit,
               .cause = fmt::format("\"{}\" has more than {} entries", name, max)};
}

Status only_members(const sys::JsonObject& object, std::initializer_list<std::string_view> names) {
  for (const auto& [key, value] : object) {
    std::string_view name(key.data(), key.size());
    if (std::ranges::find(names, name) != names.end()) continue;
    std::string known;
    for (std::string_view each : names) {
      known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", each);
    }
    return invalid(
        fmt::format("member \"{}\" is not known here; known are {}", name.substr(0, 64), known));
  }
  return {};
}

std::optional<uint64_t> small_decimal(std::string_view text) {
  if (text.empty() || text.size() > 6 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  uint64_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = 10 * value + static_cast<uint64_t>(c - '0');
  }
  return value;
}

}  // namespace hf::attestation
