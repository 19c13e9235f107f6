// Is this a build with a sanitizer that watches memory or threads? Its runtime makes system calls
// of its own, and leaves mlock() out.
#pragma once

namespace hf {

constexpr bool under_sanitizer() {
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
  return true;
#endif
#endif
  return false;
}

}  // namespace hf
