// What this library's encoders and decoders share.
#pragma once

#include "base/fields.h"
#include "base/result.h"

namespace hf::journal {

inline constexpr const char* kOutOfRange = "a number in it is above the limit";

inline Error corrupt(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

}  // namespace hf::journal
