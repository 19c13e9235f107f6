// HF_JUDGED(x): returns the refusal of a Judged<>, or goes on. For this library's own sources.
#pragma once

#define HF_JUDGED(expression)                                        \
  if (const auto hf_judged = (expression); !hf_judged.has_value()) { \
    return std::unexpected(hf_judged.error());                       \
  }                                                                  \
  static_assert(true)
