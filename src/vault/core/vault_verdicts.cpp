// The key that signs this site's verdicts, and the tokens that are made with it.

#include <fmt/format.h>

#include <algorithm>

#include "attestation/token/ear.h"
#include "attestation/token/jws.h"
#include "base/text.h"
#include "base/version.h"
#include "vault/core/names.h"
#include "vault/core/vault.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

constexpr uint64_t kMicrosPerSecond = 1'000'000;
constexpr size_t kPolicyDigits = 16;

static_assert(kTrustClaimCount == attestation::kTrustClaims);
static_assert(kMaxVerdictReasons == attestation::kEarReasonsMax &&
              kMaxReasonWords == attestation::kEarReasonWordsMax);

bool is_word(std::string_view text, std::string_view more) {
  return !text.empty() && std::ranges::all_of(text, [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || more.find(c) != more.npos;
  });
}

bool is_one_line(std::string_view text) { return clean_text(text, text.size()) == text; }

// "NAME:16 hex digits"
bool is_policy_id(std::string_view id) {
  const size_t colon = id.rfind(':');
  return colon != id.npos && colon > 0 && is_one_line(id) &&
         id.size() - colon - 1 == kPolicyDigits &&
         id.substr(colon + 1).find_first_not_of("0123456789abcdef") == id.npos;
}

// Beyond what decoding bounds: the words are such as a verdict has.
Status check_words(const VerdictClaims& claims) {
  const auto refused = [](std::string_view what) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "a verdict with " + std::string(what),
                 .effect = "nothing was signed",
                 .mend = "have the VM's boot judged again: holdfast attest show VM"};
  };
  if (!std::ranges::all_of(claims.policy_ids, is_policy_id)) return refused("no policy's name");
  for (const VerdictReason& reason : claims.reasons) {
    if (!is_word(reason.code, "_-")) return refused("a reason that has no code");
    if (!is_one_line(reason.words)) return refused("a reason that is not a line of text");
  }
  return {};
}

std::optional<attestation::VmRole> role_of(CopyRole role) {
  switch (role) {
    case CopyRole::kNotSaid:
      return std::nullopt;
    case CopyRole::kProduction:
      return attestation::VmRole::kProduction;
    case CopyRole::kDrill:
      return attestation::VmRole::kDrill;
    case CopyRole::kBranch:
      return attestation::VmRole::kBranch;
  }
  return std::nullopt;
}

std::string_view words_of(StateAge age) {
  switch (age) {
    case StateAge::kCurrent:
      return "current";
    case StateAge::kOlderDeclared:
      return "older-declared";
    case StateAge::kOlder:
      return "older";
    case StateAge::kUnknown:
      return "unknown";
  }
  return "unknown";
}

// The verdict's word, and the tier that follows from it and the vector.
std::pair<std::string_view, attestation::TrustTier> judged(VerdictWord verdict,
                                                           attestation::TrustTier worst) {
  using attestation::TrustTier;
  switch (verdict) {
    case VerdictWord::kHealthy:
      return {"Healthy", worst};
    case VerdictWord::kUnhealthy:
      return {"Unhealthy", TrustTier::kContraindicated};
    case VerdictWord::kUnknown:
      break;
  }
  return {"Unknown", worst > TrustTier::kAffirming ? worst : TrustTier::kNone};
}

attestation::Ear ear_of(const VerdictClaims& claims, const SiteId& site, Micros now) {
  attestation::Ear ear;
  ear.issued_at = now;
  ear.expires_at = Micros(now.value + claims.life_s * kMicrosPerSecond);
  ear.verifier_build = "holdfast " HOLDFAST_VERSION;
  for (size_t i = 0; i < claims.trust.size(); ++i) {
    if (claims.trust[i]) ear.vector.set(static_cast<attestation::TrustClaim>(i), *claims.trust[i]);
  }
  const auto [word, status] = judged(claims.verdict, ear.vector.worst());
  ear.status = status;
  ear.policy_ids = claims.policy_ids;
  ear.nonce = claims.nonce;
  ear.evidence_nonce = claims.evidence_nonce;
  ear.vm = {.vm = claims.vm,
            .site = site,
            .epoch = claims.epoch,
            .incarnation = claims.incarnation,
            .sequence = claims.sequence,
            .role = role_of(claims.role),
            .freshness = std::string(words_of(claims.age)),
            .verdict = std::string(word),
            .reasons = {},
            .ak_name = {}};
  for (const VerdictReason& reason : claims.reasons) {
    ear.vm.reasons.push_back({.code = reason.code, .words = reason.words});
  }
  return ear;
}

}  // namespace

Result<Vault::AttestationKey> Vault::load_attestation_key() const {
  const std::string name(kAttestationKeyFileName);
  const Bytes bytes = TRY(directory_.read(name, kSealedFileMax));
  const std::string path = directory_.path() + "/" + name;
  const ParsedFile file = TRY(parse_file(FileKind::kAttestationKey, bytes, path));
  const crypto::Secret pkcs8 = TRY(open_file(file, site_.kek, path));
  Reader reader(file.clear);
  reader.u64();  // made
  const std::string certificate = reader.text(kMaxPem);
  TRY(reader.finish(path));
  return AttestationKey{.key = TRY(crypto::KeyPair::from_pkcs8(pkcs8.span())),
                        .certificate = TRY(crypto::Certificate::from_pem(certificate))};
}

Result<Vault::AttestationKey> Vault::make_attestation_key(const Caller& caller) {
  crypto::KeyPair key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
  crypto::Certificate certificate = crypto::issue_signer(
      site_.ca, site_.ca_key, key.public_key(),
      {.common_name = "Holdfast attestation " + site_.identity.name.substr(0, 32),
       .uris = {"holdfast:site:" + site_.identity.site.hex()},
       .now = clock_.wall_time()});
  TRY(audit_.append({.event = "create_attestation_key", .uid = caller.uid, .pid = caller.pid}));
  Writer clear;
  clear.u64(clock_.wall_time().value);
  clear.text(certificate.to_pem(), kMaxPem);
  TRY(directory_.create(
      std::string(kAttestationKeyFileName),
      seal_file(FileKind::kAttestationKey, site_.kek, clear.bytes(), key.to_pkcs8().span(), rng_)));
  return AttestationKey{.key = std::move(key), .certificate = std::move(certificate)};
}

Result<const Vault::AttestationKey*> Vault::attestation_key(const Caller& caller) {
  if (attestation_key_.has_value()) return &*attestation_key_;
  const bool there = directory_.exists(std::string(kAttestationKeyFileName));
  return &attestation_key_.emplace(
      TRY(there ? load_attestation_key() : make_attestation_key(caller)));
}

Result<std::string> Vault::attestation_sign(const VerdictClaims& claims, const Caller& caller) {
  TRY(check_words(claims));
  const AttestationKey* key = TRY(attestation_key(caller));
  const attestation::Ear ear = ear_of(claims, site_.identity.site, clock_.wall_time());
  std::string token = TRY(attestation::issue_ear(
      ear, TRY(attestation::thumbprint(key->key.public_key())),
      [&](ByteSpan input) -> Result<Bytes> { return attestation::es256_sign(key->key, input); }));
  if (token.size() > kMaxToken) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = "a verdict with more words than a token takes",
                 .effect = "nothing was signed"};
  }
  return token;
}

Result<std::string> Vault::attestation_keys(const Caller& caller) {
  const AttestationKey* key = TRY(attestation_key(caller));
  std::vector<crypto::Certificate> chain;
  chain.push_back(TRY(crypto::Certificate::from_der(key->certificate.to_der())));
  chain.push_back(TRY(crypto::Certificate::from_der(site_.ca.to_der())));
  sys::JsonArray keys;
  keys.push_back(TRY(attestation::to_jwk(key->key.public_key(), chain)));
  return sys::to_text(sys::JsonObject{{"keys", std::move(keys)}});
}

}  // namespace hf::vault
