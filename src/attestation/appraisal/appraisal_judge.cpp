#include <fmt/format.h>

#include <algorithm>

#include "attestation/appraisal/appraisal_inner.h"

namespace hf::attestation {

Reason& Judge::add(Severity severity, std::string code, std::string words) {
  if (counts_[static_cast<size_t>(severity)]++ >= kReasonsMax) return untold_ = {};
  reasons_.push_back({.severity = severity, .code = std::move(code), .words = std::move(words)});
  return reasons_.back();
}

void Judge::lower(TrustClaim claim, int8_t value) {
  std::optional<int8_t>& failed = claims_[claim].failed;
  failed = std::max(failed.value_or(value), value);
}

Reason& Judge::fail(TrustClaim claim, int8_t value, std::string code, std::string words) {
  lower(claim, value);
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

size_t Judge::failures() const { return counts_[static_cast<size_t>(Severity::kFailure)]; }

Verdict Judge::verdict() const {
  if (failed()) return Verdict::kUnhealthy;
  bool unknown = counts_[static_cast<size_t>(Severity::kUnknown)] > 0;
  return unknown ? Verdict::kUnknown : Verdict::kHealthy;
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
  size_t untold = 0;
  for (size_t count : counts_) untold += count > kReasonsMax ? count - kReasonsMax : 0;
  if (untold > 0) {
    sorted.push_back({.severity = Severity::kNote,
                      .code = "more_reasons",
                      .words = fmt::format("{} more reasons are not listed", untold)});
  }
  return sorted;
}

}  // namespace hf::attestation
