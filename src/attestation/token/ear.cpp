#include "attestation/token/ear.h"

#include <algorithm>

#include "attestation/tpm/quote.h"
#include "base/base64.h"
#include "base/text.h"
#include "crypto/crypto.h"

namespace hf::attestation {
namespace {

constexpr std::string_view kType = "JWT";
constexpr uint64_t kMicrosPerSecond = 1'000'000;
constexpr uint64_t kSecondsMax = uint64_t{1} << 40;  // some 35,000 years: no overflow in µs
constexpr size_t kTextMax = kEarReasonWordsMax;
constexpr size_t kPoliciesMax = 16;
constexpr std::array<std::string_view, 3> kRoles = {"production", "drill", "branch"};

Error invalid(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}
Error conflict(std::string cause) {
  return Error{.code = ErrorCode::kConflict, .cause = std::move(cause)};
}

uint64_t seconds(Micros time) { return time.value / kMicrosPerSecond; }

// From the best: affirming, warning, none, contraindicated.
int rank(TrustTier tier) {
  switch (tier) {
    case TrustTier::kAffirming:
      return 0;
    case TrustTier::kWarning:
      return 1;
    case TrustTier::kNone:
      return 2;
    case TrustTier::kContraindicated:
      return 3;
  }
  return 3;
}

// The draft: no higher trust than the vector's worst claim.
bool fits(TrustTier status, const TrustVector& vector) {
  const TrustTier worst = vector.worst();
  if (status == TrustTier::kNone || status == TrustTier::kContraindicated) return true;
  return worst != TrustTier::kNone && status >= worst;
}

// The first `size_max` bytes, no UTF-8 sequence cut in two.
std::string cut(const std::string& words, size_t size_max) {
  size_t size = std::min(words.size(), size_max);
  while (size > 0 && size < words.size() && (words[size] & 0xC0) == 0x80) --size;
  return words.substr(0, size);
}

sys::JsonObject submodule(const Ear& ear) {
  sys::JsonObject out;
  out["ear_status"] = std::string(to_string(ear.status));
  sys::JsonObject& vector = out["ear_trustworthiness_vector"].emplace_object();
  for (size_t i = 0; i < kTrustClaims; ++i) {
    const auto claim = static_cast<TrustClaim>(i);
    if (const auto value = ear.vector.get(claim)) vector[std::string(to_string(claim))] = *value;
  }
  if (!ear.policy_ids.empty()) {
    sys::JsonArray& ids = out["ear_appraisal_policy_ids"].emplace_array();
    for (const std::string& id : ear.policy_ids) ids.emplace_back(id);
  }
  if (ear.evidence_nonce) out["eat_nonce"] = base64url_encode(*ear.evidence_nonce);
  return out;
}

sys::JsonObject vm_claims(const EarVm& vm) {
  sys::JsonObject out;
  if (vm.vm) out["vm"] = vm.vm->hex();
  if (vm.site) out["site"] = vm.site->hex();
  out["epoch"] = vm.epoch.value;
  out["incarnation"] = vm.incarnation.hex();
  out["sequence"] = vm.sequence.value;
  if (vm.role) out["role"] = std::string(to_string(*vm.role));
  out["freshness"] = vm.freshness;
  out["verdict"] = vm.verdict;
  sys::JsonArray& reasons = out["reasons"].emplace_array();
  for (const EarReason& reason : vm.reasons) {
    if (reasons.size() == kEarReasonsMax) break;
    reasons.emplace_back(
        sys::JsonObject{{"code", reason.code}, {"words", cut(reason.words, kEarReasonWordsMax)}});
  }
  if (vm.ak_name) out["ak_name"] = to_hex(*vm.ak_name);
  return out;
}

Result<std::string> get_text(const sys::JsonObject& object, std::string_view name) {
  std::string text = TRY(sys::get_string(object, name));
  if (text.size() > kTextMax) return invalid("member \"" + std::string(name) + "\" is too long");
  return text;
}

// A time in whole seconds; the draft forbids the floating form.
Result<Micros> get_time(const sys::JsonObject& object, std::string_view name) {
  const uint64_t value = TRY(sys::get_u64(object, name));
  if (value > kSecondsMax) return invalid("member \"" + std::string(name) + "\" is no date");
  return Micros(value * kMicrosPerSecond);
}

Result<TrustTier> get_tier(const sys::JsonObject& object) {
  const std::optional<TrustTier> tier =
      parse_trust_tier(TRY(sys::get_string(object, "ear_status")));
  if (!tier) return invalid("\"ear_status\" is none of the four tiers");
  return *tier;
}

Result<std::optional<Bytes>> get_nonce(const sys::JsonObject& object) {
  if (!sys::has_member(object, "eat_nonce")) return std::optional<Bytes>();
  Bytes nonce = TRY(base64url_decode(TRY(sys::get_string(object, "eat_nonce"))));
  if (nonce.size() < kNonceMin || nonce.size() > kNonceMax) {
    return invalid("\"eat_nonce\" is not 8 to 64 bytes long");
  }
  return std::optional<Bytes>(std::move(nonce));
}

template <typename Id>
Result<std::optional<Id>> get_id(const sys::JsonObject& object, std::string_view name) {
  if (!sys::has_member(object, name)) return std::optional<Id>();
  return std::optional<Id>(TRY_CONTEXT(Id::parse_hex(TRY(sys::get_string(object, name))), name));
}

Result<TrustVector> get_vector(const sys::JsonObject& object) {
  TrustVector vector;
  if (!sys::has_member(object, "ear_trustworthiness_vector")) return vector;
  const sys::JsonObject* claims = TRY(sys::get_object(object, "ear_trustworthiness_vector"));
  for (size_t i = 0; i < kTrustClaims; ++i) {
    const auto claim = static_cast<TrustClaim>(i);
    const std::string_view name = to_string(claim);
    if (!sys::has_member(*claims, name)) continue;
    const int64_t value = TRY(sys::get_i64(*claims, name));
    if (value < INT8_MIN || value > INT8_MAX) return invalid("a trust claim out of range");
    vector.set(claim, static_cast<int8_t>(value));
  }
  return vector;
}

Status parse_submodule(const sys::JsonObject& object, Ear& ear) {
  ear.status = TRY(get_tier(object));
  ear.vector = TRY(get_vector(object));
  ear.policy_ids = TRY(sys::get_strings_or_empty(object, "ear_appraisal_policy_ids"));
  if (ear.policy_ids.size() > kPoliciesMax) return invalid("too many policy ids");
  ear.evidence_nonce = TRY(get_nonce(object));
  if (!fits(ear.status, ear.vector)) {
    return invalid("\"ear_status\" is better than the trustworthiness vector allows");
  }
  return {};
}

Result<std::vector<EarReason>> get_reasons(const sys::JsonObject& object) {
  std::vector<EarReason> reasons;
  if (!sys::has_member(object, "reasons")) return reasons;
  const sys::JsonArray* items = TRY(sys::get_array(object, "reasons"));
  if (items->size() > kEarReasonsMax) return invalid("too many reasons");
  for (const sys::JsonValue& item : *items) {
    if (!item.is_object()) return invalid("a reason that is not an object");
    EarReason& reason = reasons.emplace_back();
    reason.code = TRY(get_text(item.get_object(), "code"));
    reason.words = TRY(get_text(item.get_object(), "words"));
  }
  return reasons;
}

Result<EarVm> parse_vm(const sys::JsonObject& object) {
  EarVm vm;
  vm.vm = TRY(get_id<VmId>(object, "vm"));
  vm.site = TRY(get_id<SiteId>(object, "site"));
  vm.epoch = Epoch(TRY(sys::get_u64_or(object, "epoch", 0)));
  vm.incarnation = TRY(get_id<IncarnationId>(object, "incarnation")).value_or(IncarnationId{});
  vm.sequence = Sequence(TRY(sys::get_u64_or(object, "sequence", 0)));
  vm.role.reset();
  if (sys::has_member(object, "role")) {
    vm.role = parse_vm_role(TRY(sys::get_string(object, "role")));
    if (!vm.role) return invalid("\"role\" is none of production, drill and branch");
  }
  vm.freshness = TRY(get_text(object, "freshness"));
  vm.verdict = TRY(get_text(object, "verdict"));
  vm.reasons = TRY(get_reasons(object));
  if (sys::has_member(object, "ak_name")) {
    vm.ak_name = TRY(from_hex(TRY(get_text(object, "ak_name"))));
  }
  return vm;
}

Status check_time(const sys::JsonObject& payload, const Ear& ear, const EarExpectation& expected) {
  const uint64_t now = seconds(expected.now);
  const uint64_t issued = seconds(ear.issued_at);
  const auto words = [](uint64_t seconds) { return duration_words(seconds * 1'000'000); };
  if (issued > now + expected.clock_skew_s) {
    return conflict("the token was issued in the future: " + words(issued - now) +
                    " from now by this clock, so this clock or its site's is wrong (timedatectl)");
  }
  if (sys::has_member(payload, "nbf") &&
      seconds(TRY(get_time(payload, "nbf"))) > now + expected.clock_skew_s) {
    return conflict("the token is not valid yet");
  }
  if (issued + expected.age_max_s + expected.clock_skew_s < now) {
    return conflict("the token is " + std::to_string(now - issued) + " s old; at most " +
                    std::to_string(expected.age_max_s) + " s are taken");
  }
  if (ear.expires_at && seconds(*ear.expires_at) + expected.clock_skew_s <= now) {
    return conflict("the token has expired, " + words(now - seconds(*ear.expires_at)) +
                    " ago by this clock");
  }
  return {};
}

Status check_expected(const Ear& ear, const EarExpectation& expected) {
  if (expected.nonce && (!ear.nonce || !crypto::constant_time_equal(*ear.nonce, *expected.nonce))) {
    return conflict("the token does not answer the nonce");
  }
  if (expected.vm && ear.vm.vm != expected.vm) {
    return conflict("the token is about " +
                    (ear.vm.vm ? "VM " + ear.vm.vm->hex() : std::string("no VM of a site")));
  }
  if (expected.role && ear.vm.role != *expected.role) {
    return conflict((ear.vm.role ? "the token is about a " + std::string(to_string(*ear.vm.role)) +
                                       " copy, not "
                                 : std::string("the token says of no copy what it is, not of ")) +
                    std::string(to_string(*expected.role)));
  }
  if (expected.policy_id &&
      std::ranges::find(ear.policy_ids, *expected.policy_id) == ear.policy_ids.end()) {
    return conflict("the token is by another policy" +
                    (ear.policy_ids.empty() ? "" : " (" + ear.policy_ids.front() + ")") + " than " +
                    *expected.policy_id);
  }
  if (rank(ear.status) > rank(expected.status_worst)) {
    return conflict("the verifier's result is " + std::string(to_string(ear.status)) +
                    (ear.vm.reasons.empty() ? "" : ": " + ear.vm.reasons.front().words));
  }
  return {};
}

}  // namespace

std::string_view to_string(VmRole role) { return kRoles[static_cast<size_t>(role)]; }

std::optional<VmRole> parse_vm_role(std::string_view text) {
  const auto found = std::ranges::find(kRoles, text);
  if (found == kRoles.end()) return std::nullopt;
  return static_cast<VmRole>(found - kRoles.begin());
}

sys::JsonObject to_json(const Ear& ear) {
  HF_ASSERT(fits(ear.status, ear.vector));
  sys::JsonObject out;
  out["eat_profile"] = kEarProfile;
  out["iat"] = seconds(ear.issued_at);
  if (ear.expires_at) out["exp"] = seconds(*ear.expires_at);
  out["ear_status"] = std::string(to_string(ear.status));
  out["ear_verifier_id"] =
      sys::JsonObject{{"developer", ear.verifier_developer}, {"build", ear.verifier_build}};
  out["submods"].emplace_object()[std::string(kEarSubmodule)] = submodule(ear);
  if (ear.nonce) out["eat_nonce"] = base64url_encode(*ear.nonce);
  out["holdfast"] = vm_claims(ear.vm);
  return out;
}

Result<Ear> parse_ear(const sys::JsonObject& payload) {
  if (TRY(sys::get_string(payload, "eat_profile")) != kEarProfile) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "not an attestation result of draft-ietf-rats-ear-04"};
  }
  Ear ear;
  ear.issued_at = TRY(get_time(payload, "iat"));
  if (payload.if_contains("exp") != nullptr) ear.expires_at = TRY(get_time(payload, "exp"));
  const sys::JsonObject* verifier = TRY(sys::get_object(payload, "ear_verifier_id"));
  ear.verifier_developer = TRY(get_text(*verifier, "developer"));
  ear.verifier_build = TRY(get_text(*verifier, "build"));
  const sys::JsonObject* submodules = TRY(sys::get_object(payload, "submods"));
  TRY(parse_submodule(*TRY(sys::get_object(*submodules, kEarSubmodule)), ear));
  if (sys::has_member(payload, "ear_status") && rank(TRY(get_tier(payload))) < rank(ear.status)) {
    return invalid("\"ear_status\" is better than that of the submodule");
  }
  ear.nonce = TRY(get_nonce(payload));
  ear.vm = TRY(parse_vm(*TRY(sys::get_object(payload, "holdfast"))));
  return ear;
}

Result<std::string> issue_ear(const Ear& ear, std::string_view kid, const Es256Signer& sign) {
  return sign_token(sys::to_text(to_json(ear)), kid, kType, sign);
}

Result<Ear> verify_ear(std::string_view token, const KeySet& keys, const EarExpectation& expected) {
  const VerifiedToken verified = TRY(verify_token(token, keys));
  Ear ear = TRY_CONTEXT(parse_ear(verified.payload), "attestation result");
  TRY(check_time(verified.payload, ear, expected));
  TRY(check_expected(ear, expected));
  return ear;
}

}  // namespace hf::attestation
