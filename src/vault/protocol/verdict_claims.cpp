#include "vault/protocol/verdict_claims.h"

#include <algorithm>

namespace hf::vault {
namespace {

bool nonce_fits(const std::optional<Bytes>& nonce) {
  return !nonce || (nonce->size() >= kMinVerdictNonce && nonce->size() <= kMaxVerdictNonce);
}

void put_nonce(Writer& to, const std::optional<Bytes>& nonce) {
  to.blob(nonce ? ByteSpan(*nonce) : ByteSpan{}, kMaxVerdictNonce);
}

// Of no bytes: absent.
std::optional<Bytes> take_nonce(Reader& reader) {
  Bytes bytes = reader.bytes(kMaxVerdictNonce);
  if (bytes.empty()) return std::nullopt;
  if (bytes.size() < kMinVerdictNonce) reader.fail();
  return bytes;
}

template <typename Word>
Word take_word(Reader& reader, Word first, Word last) {
  const auto word = static_cast<Word>(reader.u8());
  if (word < first || word > last) reader.fail();
  return reader.failed() ? first : word;
}

}  // namespace

bool within_bounds(const VerdictClaims& claims) {
  return claims.policy_ids.size() <= kMaxVerdictPolicies &&
         std::ranges::all_of(claims.policy_ids,
                             [](const std::string& id) { return id.size() <= kMaxPolicyId; }) &&
         nonce_fits(claims.nonce) && nonce_fits(claims.evidence_nonce) &&
         claims.reasons.size() <= kMaxVerdictReasons &&
         std::ranges::all_of(claims.reasons,
                             [](const VerdictReason& reason) {
                               return reason.code.size() <= kMaxReasonCode &&
                                      reason.words.size() <= kMaxReasonWords;
                             }) &&
         claims.life_s > 0 && claims.life_s <= kMaxVerdictLife;
}

void encode(Writer& to, const VerdictClaims& claims) {
  HF_ASSERT(within_bounds(claims));
  to.u8(claims.vm ? 1 : 0);
  if (claims.vm) to.id(*claims.vm);
  to.u64(claims.epoch.value);
  to.id(claims.incarnation);
  to.u64(claims.sequence.value);
  to.u8(static_cast<uint8_t>(claims.role));
  to.u8(static_cast<uint8_t>(claims.age));
  to.u8(static_cast<uint8_t>(claims.verdict));
  for (const std::optional<int8_t>& value : claims.trust) {
    to.u8(value ? 1 : 0);
    to.u8(static_cast<uint8_t>(value.value_or(0)));
  }
  to.u8(static_cast<uint8_t>(claims.policy_ids.size()));
  for (const std::string& id : claims.policy_ids) to.text(id, kMaxPolicyId);
  put_nonce(to, claims.nonce);
  put_nonce(to, claims.evidence_nonce);
  to.u8(static_cast<uint8_t>(claims.reasons.size()));
  for (const VerdictReason& reason : claims.reasons) {
    to.text(reason.code, kMaxReasonCode);
    to.text(reason.words, kMaxReasonWords);
  }
  to.u32(claims.life_s);
}

VerdictClaims decode_verdict_claims(Reader& reader) {
  VerdictClaims claims;
  const uint8_t of_a_vm = reader.u8();
  if (of_a_vm > 1) reader.fail();
  if (of_a_vm == 1) claims.vm = reader.id<VmId>();
  claims.epoch = Epoch(reader.u64());
  claims.incarnation = reader.id<IncarnationId>();
  claims.sequence = Sequence(reader.u64());
  claims.role = take_word(reader, CopyRole::kNotSaid, CopyRole::kBranch);
  claims.age = take_word(reader, StateAge::kCurrent, StateAge::kUnknown);
  claims.verdict = take_word(reader, VerdictWord::kHealthy, VerdictWord::kUnknown);
  for (std::optional<int8_t>& value : claims.trust) {
    const uint8_t present = reader.u8();
    const auto number = static_cast<int8_t>(reader.u8());
    if (present > 1 || (present == 0 && number != 0)) reader.fail();
    if (present == 1) value = number;
  }
  const uint8_t policies = reader.u8();
  if (policies > kMaxVerdictPolicies) reader.fail();
  for (uint8_t i = 0; i < policies && !reader.failed(); ++i) {
    claims.policy_ids.push_back(reader.text(kMaxPolicyId));
  }
  claims.nonce = take_nonce(reader);
  claims.evidence_nonce = take_nonce(reader);
  const uint8_t reasons = reader.u8();
  if (reasons > kMaxVerdictReasons) reader.fail();
  for (uint8_t i = 0; i < reasons && !reader.failed(); ++i) {
    VerdictReason& reason = claims.reasons.emplace_back();
    reason.code = reader.text(kMaxReasonCode);
    reason.words = reader.text(kMaxReasonWords);
  }
  claims.life_s = reader.u32();
  if (claims.life_s == 0 || claims.life_s > kMaxVerdictLife) reader.fail();
  return claims;
}

}  // namespace hf::vault
