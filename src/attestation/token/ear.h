// Attestation results as tokens: EAR (draft-ietf-rats-ear-04) in a JWT signed with ES256.
//
// Claim names are those of draft 04 (ear_status and so on: earlier drafts wrote them with dots and
// dashes). One submodule, "boot", for the VM's boot; ours beside it under "holdfast". Format:
// docs/formats/ear.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/token/jws.h"
#include "attestation/token/trust_vector.h"
#include "base/ids.h"
#include "base/result.h"

namespace hf::attestation {

inline constexpr std::string_view kEarProfile = "tag:ietf.org,2026:rats/ear#04";
inline constexpr std::string_view kEarSubmodule = "boot";
inline constexpr std::string_view kEarDeveloper = "Holdfast";
inline constexpr size_t kEarReasonsMax = 64;
inline constexpr size_t kEarReasonWordsMax = 1024;

enum class VmRole { kProduction, kDrill, kBranch };
std::string_view to_string(VmRole role);  // "production", "drill", "branch"
std::optional<VmRole> parse_vm_role(std::string_view text);

struct EarReason {
  std::string code;
  std::string words;
  bool operator==(const EarReason&) const = default;
};

// The private claim "holdfast": which VM, and which of its states.
struct EarVm {
  std::optional<VmId> vm;      // absent: foreign evidence
  std::optional<SiteId> site;  // that issues
  Epoch epoch;
  IncarnationId incarnation;
  Sequence sequence;  // durable position at the time of the quote: the point, with `incarnation`
  std::optional<VmRole> role = VmRole::kProduction;  // absent with `vm`: nobody vouches for it
  std::string freshness;  // what is known of it: "current", "older-point", "unknown" …
  std::string verdict;    // "Healthy", "Unhealthy", "Unknown"
  std::vector<EarReason> reasons;
  std::optional<Bytes> ak_name;
};

struct Ear {
  Micros issued_at;  // whole seconds in the token
  std::optional<Micros> expires_at;
  std::string verifier_developer{kEarDeveloper};
  std::string verifier_build;
  TrustTier status = TrustTier::kNone;  // never better than the vector's worst claim
  TrustVector vector;
  std::vector<std::string> policy_ids;
  std::optional<Bytes> nonce;           // of whoever asked for the result, 8 to 64 bytes
  std::optional<Bytes> evidence_nonce;  // that the quote carried
  EarVm vm;
};

sys::JsonObject to_json(const Ear& ear);
// kInvalidArgument names what is missing, mistyped or contradicts itself (a status better than the
// vector). Unknown claims are ignored, as the draft asks.
Result<Ear> parse_ear(const sys::JsonObject& payload);

Result<std::string> issue_ear(const Ear& ear, std::string_view kid, const Es256Signer& sign);

struct EarExpectation {
  Micros now;
  uint64_t age_max_s = 300;    // of the token; one without "exp" lives as long
  uint64_t clock_skew_s = 60;  // between verifier and relying party
  std::optional<Bytes> nonce = {};
  std::optional<VmId> vm = {};
  std::optional<VmRole> role = VmRole::kProduction;  // nullopt: any, or none
  std::optional<std::string> policy_id = {};         // appraised by it: "linux:0123456789abcdef"
  // What is still taken, from the best: affirming, warning, none (no claim), contraindicated.
  TrustTier status_worst = TrustTier::kAffirming;
};
// A relying party's whole check: signature, profile, age, and what it expects. kWrongKey,
// kInvalidArgument, kConflict (an authentic token that says something else than expected).
Result<Ear> verify_ear(std::string_view token, const KeySet& keys,
                       const EarExpectation& expectation);

}  // namespace hf::attestation
