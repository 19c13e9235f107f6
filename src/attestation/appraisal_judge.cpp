#include <algorithm>

#include "attestation/appraisal_inner.h"

namespace hf::attestation {

Reason& Judge::add(Severity severity, std::string code, std::string words) {
  reasons_.push_back({.severity = severity, .code = std::move(code), .words = std::move(words)});
  return reasons_.back();
}

Reason& Judge::fail(TrustClaim claim, int8_t value, std::string code, std::string words) {
  std::optional<int8_t>& failed = claims_[claim].failed;
  failed = std::max(failed.value_or(value), value);
  return add(Severity::kFailure, std::move(code), std::move(words));
}

Reason& Judge::unknown(TrustClaim claim, std::string code, std::string words) {
  claims_[claim].unknown = true;
  return add(Severity::kUnknown, std::move(code), std::move(words));
}

Reason& Judge::note(std::string code, std::string words) {
  return add(Severity::kNote, std::move(code), std::move(words));
}

void Judge::affirm(TrustClaim claim, int8_t value) {
  std::optional<int8_t>& affirmed = claims_[claim].affirmed;
  affirmed = std::min(affirmed.value_or(value), value);
}

bool Judge::has(Severity severity) const {
  return std::ranges::any_of(reasons_,
                             [&](const Reason& reason) { return reason.severity == severity; });
}

size_t Judge::failures() const {
  return static_cast<size_t>(std::ranges::count(reasons_, Severity::kFailure, &Reason::severity));
}

Verdict Judge::verdict() const {
  if (failed()) return Verdict::kUnhealthy;
  return has(Severity::kUnknown) ? Verdict::kUnknown : Verdict::kHealthy;
}

TrustVector Judge::trust() const {
  TrustVector vector;
  for (const auto& [claim, state] : claims_) {
    if (state.failed) {
      vector.set(claim, *state.failed);
    } else if (state.affirmed && !state.unknown) {
      vector.set(claim, *state.affirmed);
    }
  }
  return vector;
}

std::vector<Reason> Judge::take_reasons() {
  std::vector<Reason> sorted;
  sorted.reserve(reasons_.size());
  for (Severity severity : {Severity::kFailure, Severity::kUnknown, Severity::kNote}) {
    for (Reason& reason : reasons_) {
      if (reason.severity == severity) sorted.push_back(std::move(reason));
    }
  }
  reasons_.clear();
  return sorted;
}

}  // namespace hf::attestation
