// What the files that people write here have in common: members that are not known are refused.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/json.h"

namespace hf::attestation {

Error invalid(std::string cause);
Error too_many(std::string_view name, size_t max);
// kInvalidArgument names the first member that is not among `names`, and those that are.
Status only_members(const sys::JsonObject& object, std::initializer_list<std::string_view> names);
// Up to six decimal digits without leading zeroes.
std::optional<uint64_t> small_decimal(std::string_view text);

}  // namespace hf::attestation
