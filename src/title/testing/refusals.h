// Refusals by their names, for this library's tests.
#pragma once

#include <string>

#include "title/testing/world.h"

namespace hf::title::testing {

template <typename T>
std::string name_of(const Judged<T>& judged) {
  return judged.has_value() ? "allowed" : std::string(to_string(judged.error().cause));
}
template <typename T>
std::string leads_on(const Judged<T>& judged) {
  return judged.has_value() ? "allowed" : std::string(to_string(judged.error().action));
}
inline std::string name_of(const Learned& learned) {
  if (learned.last != Outcome::kRefused) return "taken";
  return learned.refused.empty() ? "" : std::string(to_string(learned.refused.back().cause));
}

// `other` is asked and says nothing.
inline void ask_in_vain(TestWorld& w, const SiteId& asker, const SiteId& other) {
  w.at(asker).asking.ask(w.at(asker).chain, other, next_nonce(), w.now);
}

// B has taken what A went on with: each knows of both.
inline void make_rivals(TestWorld& w) {
  w.protect(kB);
  w.take(kB, {kA});
  w.add(kA, *w.judge(kA).may_set_policy(60, true));
  w.share(kB, kA);
  w.share(kA, kB);
}

}  // namespace hf::title::testing
