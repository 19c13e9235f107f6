// Assertions stay on in production: a broken invariant stops the process before it can damage
// state that outlives it. The journal makes a stop harmless; a wrong write is not.
#pragma once

namespace hf {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);
}  // namespace hf

#define HF_ASSERT(expression)              \
  (static_cast<bool>(expression) ? void(0) \
                                 : ::hf::assertion_failed(#expression, __FILE__, __LINE__))
