#include "attestation/token/trust_vector.h"

#include <algorithm>

namespace hf::attestation {
namespace {

constexpr std::array<std::string_view, 4> kTiers = {"none", "affirming", "warning",
                                                    "contraindicated"};
constexpr std::array<std::string_view, kTrustClaims> kClaims = {
    "instance-identity", "configuration",  "executables",    "file-system",
    "hardware",          "runtime-opaque", "storage-opaque", "sourced-data"};

}  // namespace

std::string_view to_string(TrustTier tier) { return kTiers[static_cast<size_t>(tier)]; }

std::optional<TrustTier> parse_trust_tier(std::string_view text) {
  const auto found = std::ranges::find(kTiers, text);
  if (found == kTiers.end()) return std::nullopt;
  return static_cast<TrustTier>(found - kTiers.begin());
}

std::string_view to_string(TrustClaim claim) { return kClaims[static_cast<size_t>(claim)]; }

TrustTier tier_of(int8_t value) {
  if (value >= -1 && value <= 1) return TrustTier::kNone;
  if (value >= -32 && value <= 31) return TrustTier::kAffirming;
  if (value >= -96 && value <= 95) return TrustTier::kWarning;
  return TrustTier::kContraindicated;
}

bool TrustVector::empty() const {
  return std::ranges::none_of(values_, [](const auto& value) { return value.has_value(); });
}

TrustTier TrustVector::worst() const {
  TrustTier worst = TrustTier::kNone;
  for (const std::optional<int8_t>& value : values_) {
    if (value) worst = std::max(worst, tier_of(*value));
  }
  return worst;
}

}  // namespace hf::attestation
