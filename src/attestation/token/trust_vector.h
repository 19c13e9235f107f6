// AR4SI trustworthiness claims and tiers (draft-ietf-rats-ar4si, sections 2.3 and 3): one number a
// claim, the tier follows from the number.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace hf::attestation {

// In falling trust, but for kNone: no claim.
enum class TrustTier { kNone, kAffirming, kWarning, kContraindicated };
std::string_view to_string(TrustTier tier);  // "none", "affirming", …
std::optional<TrustTier> parse_trust_tier(std::string_view text);

enum class TrustClaim {
  kInstanceIdentity,
  kConfiguration,
  kExecutables,
  kFileSystem,
  kHardware,
  kRuntimeOpaque,
  kStorageOpaque,
  kSourcedData,
};
inline constexpr size_t kTrustClaims = 8;
std::string_view to_string(TrustClaim claim);  // "instance-identity", …

// Values for any claim.
inline constexpr int8_t kTrustNoAssertion = 0;
inline constexpr int8_t kTrustUnknownElements = 1;
inline constexpr int8_t kTrustVerifierMalfunction = -1;
inline constexpr int8_t kTrustCryptographyFailed = 99;
// Instance identity.
inline constexpr int8_t kIdentityRecognised = 2;
inline constexpr int8_t kIdentityUntrustworthy = 96;
inline constexpr int8_t kIdentityNotRecognised = 97;
// Configuration.
inline constexpr int8_t kConfigurationApproved = 2;
inline constexpr int8_t kConfigurationVulnerable = 32;
inline constexpr int8_t kConfigurationPartlyUnavailable = 36;
inline constexpr int8_t kConfigurationUnsupportable = 96;
// Executables.
inline constexpr int8_t kExecutablesApproved = 2;      // during and after boot
inline constexpr int8_t kExecutablesApprovedBoot = 3;  // during boot only
inline constexpr int8_t kExecutablesVulnerable = 32;
inline constexpr int8_t kExecutablesUnrecognised = 33;
inline constexpr int8_t kExecutablesContraindicated = 96;
// Hardware (here: the machine's firmware and vTPM).
inline constexpr int8_t kHardwareGenuine = 2;
inline constexpr int8_t kHardwareVulnerable = 32;
inline constexpr int8_t kHardwareContraindicated = 96;
inline constexpr int8_t kHardwareNotRecognised = 97;

class TrustVector {
 public:
  // Absent claims are "no claim being made".
  std::optional<int8_t> get(TrustClaim claim) const { return values_[static_cast<size_t>(claim)]; }
  void set(TrustClaim claim, int8_t value) { values_[static_cast<size_t>(claim)] = value; }
  bool empty() const;
  // The worst tier among the claims; kNone claims do not count unless there is nothing else.
  TrustTier worst() const;
  bool operator==(const TrustVector&) const = default;

 private:
  std::array<std::optional<int8_t>, kTrustClaims> values_{};
};

TrustTier tier_of(int8_t value);

}  // namespace hf::attestation
