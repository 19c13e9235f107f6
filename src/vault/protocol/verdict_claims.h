// What a verdict says, as the daemon hands it to the vault to be signed: fields, each with its
// bound and its few words, never a text that is signed as it stands. The vault makes the token
// itself (docs/formats/ear.md): who issues it, when, and the status that follows from verdict and
// vector are its own.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {

inline constexpr size_t kMaxVerdictReasons = 64;
inline constexpr size_t kMaxReasonCode = 64;
inline constexpr size_t kMaxReasonWords = 1024;
inline constexpr size_t kMaxVerdictPolicies = 4;
inline constexpr size_t kMaxPolicyId = 128;
inline constexpr size_t kMinVerdictNonce = 8;
inline constexpr size_t kMaxVerdictNonce = 64;
inline constexpr uint32_t kMaxVerdictLife = 24 * 3600;  // seconds
inline constexpr size_t kTrustClaimCount = 8;           // of AR4SI
// A token of the longest claims may be longer: it is refused.
inline constexpr size_t kMaxToken = 120 * 1024;

enum class VerdictWord : uint8_t { kHealthy = 1, kUnhealthy = 2, kUnknown = 3 };
enum class CopyRole : uint8_t { kNotSaid = 0, kProduction = 1, kDrill = 2, kBranch = 3 };
enum class StateAge : uint8_t { kCurrent = 1, kOlderDeclared = 2, kOlder = 3, kUnknown = 4 };

struct VerdictReason {
  std::string code;   // [a-z0-9_-]
  std::string words;  // one line of UTF-8
  bool operator==(const VerdictReason&) const = default;
};

struct VerdictClaims {
  std::optional<VmId> vm;
  Epoch epoch;
  IncarnationId incarnation;
  Sequence sequence;
  CopyRole role = CopyRole::kNotSaid;
  StateAge age = StateAge::kUnknown;
  VerdictWord verdict = VerdictWord::kUnknown;
  std::array<std::optional<int8_t>, kTrustClaimCount> trust{};  // in AR4SI's order
  std::vector<std::string> policy_ids;                          // "NAME:16 hex digits"
  std::optional<Bytes> nonce;                                   // of whoever asked
  std::optional<Bytes> evidence_nonce;                          // that the quote carried
  std::vector<VerdictReason> reasons;
  uint32_t life_s = 0;  // 1 to kMaxVerdictLife
  bool operator==(const VerdictClaims&) const = default;
};

// Whether all of it is within its bounds: encode() asserts that.
bool within_bounds(const VerdictClaims& claims);
void encode(Writer& to, const VerdictClaims& claims);
VerdictClaims decode_verdict_claims(Reader& reader);

}  // namespace hf::vault
