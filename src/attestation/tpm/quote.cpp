#include "attestation/tpm/quote.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <memory>

#include "crypto/crypto.h"

namespace hf::attestation {
namespace {

Error refuse(ErrorCode code, std::string cause) {
  return Error{.code = code, .cause = std::move(cause)};
}

struct ContextFree {
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using ContextHandle = std::unique_ptr<EVP_PKEY_CTX, ContextFree>;

const EVP_MD* method_of(HashAlg alg) {
  switch (alg) {
    case HashAlg::kSha256:
      return EVP_sha256();
    case HashAlg::kSha384:
      return EVP_sha384();
    case HashAlg::kSha512:
      return EVP_sha512();
    case HashAlg::kSha1:
      break;
  }
  return nullptr;
}

const unsigned char* u8(ByteSpan bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

// DER of SEQUENCE { r, s }, as OpenSSL takes ECDSA signatures.
Bytes ecdsa_der(const TpmSignature& signature) {
  ECDSA_SIG* pair = ECDSA_SIG_new();
  BIGNUM* r = BN_bin2bn(u8(signature.r), static_cast<int>(signature.r.size()), nullptr);
  BIGNUM* s = BN_bin2bn(u8(signature.s), static_cast<int>(signature.s.size()), nullptr);
  HF_ASSERT(pair != nullptr && r != nullptr && s != nullptr);
  HF_ASSERT(ECDSA_SIG_set0(pair, r, s) == 1);
  const int length = i2d_ECDSA_SIG(pair, nullptr);
  HF_ASSERT(length > 0);
  Bytes der(static_cast<size_t>(length));
  auto* at = reinterpret_cast<unsigned char*>(der.data());
  HF_ASSERT(i2d_ECDSA_SIG(pair, &at) == length);
  ECDSA_SIG_free(pair);
  return der;
}

Status verify_signature(const TpmPublic& ak, const TpmSignature& signature, ByteSpan attest) {
  if (signature.scheme != ak.scheme || signature.hash != ak.scheme_hash) {
    return refuse(ErrorCode::kWrongKey, "the signature is of another scheme than the key's");
  }
  const crypto::EvpHandle key = TRY(openssl_key(ak));
  const ContextHandle context(EVP_PKEY_CTX_new(key.get(), nullptr));
  const EVP_MD* method = method_of(signature.hash);
  HF_ASSERT(context != nullptr && method != nullptr);
  HF_ASSERT(EVP_PKEY_verify_init(context.get()) == 1);
  HF_ASSERT(EVP_PKEY_CTX_set_signature_md(context.get(), method) == 1);
  if (signature.scheme == kAlgRsassa) {
    HF_ASSERT(EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_PADDING) == 1);
  } else if (signature.scheme == kAlgRsapss) {
    // TPMs differ in the length of the salt: the longest that fits, or the hash's (part 1, B.7).
    HF_ASSERT(EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_PSS_PADDING) == 1);
    HF_ASSERT(EVP_PKEY_CTX_set_rsa_pss_saltlen(context.get(), RSA_PSS_SALTLEN_AUTO) == 1);
    HF_ASSERT(EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), method) == 1);
  }
  const bool ecdsa = signature.scheme == kAlgEcdsa;
  const Bytes bytes = ecdsa ? ecdsa_der(signature) : signature.rsa;
  const HashValue digest = hash(signature.hash, attest);
  const int verdict = EVP_PKEY_verify(context.get(), u8(bytes), bytes.size(), u8(digest.bytes()),
                                      digest.bytes().size());
  if (verdict != 1) {
    ERR_clear_error();
    return refuse(ErrorCode::kWrongKey, "the quote's signature is not by the attestation key");
  }
  return {};
}

Status check_nonce(const QuoteInfo& quote, ByteSpan nonce) {
  if (nonce.size() < kNonceMin || nonce.size() > kNonceMax) {
    return refuse(ErrorCode::kInvalidArgument,
                  "a nonce of " + std::to_string(nonce.size()) + " bytes; 8 to 64 are taken");
  }
  if (!crypto::constant_time_equal(quote.extra_data, nonce)) {
    return refuse(ErrorCode::kWrongKey,
                  "the quote answers another nonce: it is an old one, or was asked for by another");
  }
  return {};
}

const PcrValues* find_bank(const std::vector<PcrValues>& banks, HashAlg bank) {
  const auto found = std::ranges::find(banks, bank, &PcrValues::bank);
  return found == banks.end() ? nullptr : &*found;
}

std::string pcr_name(HashAlg bank, uint32_t pcr) {
  return "PCR " + std::to_string(pcr) + " of bank " + std::string(name_of(bank));
}

// The values that the quote covers, once their digest is the quoted one.
Result<std::vector<PcrValues>> covered_values(const QuoteInfo& quote, HashAlg digest_alg,
                                              const std::vector<PcrValues>& given) {
  std::vector<PcrValues> covered;
  Bytes all;
  for (const PcrSelection& selection : quote.selection) {
    if (selection.mask == 0) continue;
    if (find_bank(covered, selection.bank) != nullptr) {
      return refuse(ErrorCode::kCorrupt, "the quote selects a PCR bank twice");
    }
    const PcrValues* bank = find_bank(given, selection.bank);
    PcrValues& out = covered.emplace_back();
    out.bank = selection.bank;
    for (uint32_t pcr = 0; pcr < kPcrCount; ++pcr) {
      if ((selection.mask >> pcr & 1) == 0) continue;
      if (bank == nullptr || !bank->values[pcr]) {
        return refuse(
            ErrorCode::kInvalidArgument,
            "the quote covers " + pcr_name(selection.bank, pcr) + ", whose value was not given");
      }
      const Bytes& value = *bank->values[pcr];
      if (value.size() != size_of(selection.bank)) {
        return refuse(ErrorCode::kInvalidArgument,
                      "the value of " + pcr_name(selection.bank, pcr) + " has another length");
      }
      all.insert(all.end(), value.begin(), value.end());
      out.values[pcr] = value;
    }
  }
  if (covered.empty()) {
    return refuse(ErrorCode::kInvalidArgument, "the quote covers no PCR at all");
  }
  const HashValue digest = hash(digest_alg, all);
  if (!equal(digest.bytes(), quote.pcr_digest)) {
    return refuse(ErrorCode::kWrongKey, "the PCR values given are not those that were quoted");
  }
  return covered;
}

}  // namespace

const Bytes* QuotedPcrs::find(HashAlg bank, uint32_t pcr) const {
  const PcrValues* values = find_bank(banks, bank);
  if (values == nullptr || pcr >= kPcrCount || !values->values[pcr]) return nullptr;
  return &*values->values[pcr];
}

Status check_attestation_key(const TpmPublic& ak) {
  const auto bad = [](std::string cause) {
    return refuse(ErrorCode::kInvalidArgument, "the attestation key " + std::move(cause));
  };
  const auto has = [&](uint32_t attribute) { return (ak.attributes & attribute) != 0; };
  // Restricted: it signs only what the TPM made itself, so a signed TPM_GENERATED structure is one.
  if (!has(kAttributeSign) || !has(kAttributeRestricted) || has(kAttributeDecrypt)) {
    return bad("is not a restricted signing key: what it signs need not come from the TPM");
  }
  if (!has(kAttributeFixedTpm) || !has(kAttributeSensitiveDataOrigin)) {
    return bad("was not made inside this TPM, or can leave it");
  }
  if (ak.scheme == kAlgNull || !ak.scheme_hash) return bad("has no signing scheme");
  if (method_of(*ak.scheme_hash) == nullptr) return bad("signs with SHA-1");
  return {};
}

Result<QuotedPcrs> verify_quote(const TpmPublic& ak, ByteSpan attest, ByteSpan signature,
                                const std::vector<PcrValues>& given,
                                const QuoteExpectation& expectation) {
  TRY(check_attestation_key(ak));
  if (expectation.ak_name && !crypto::constant_time_equal(ak.name, *expectation.ak_name)) {
    return refuse(ErrorCode::kWrongKey, "the attestation key is not the one that was enrolled");
  }
  QuoteInfo quote = TRY(parse_quote(attest));
  TRY(check_nonce(quote, expectation.nonce));
  if (expectation.qualified_signer &&
      !crypto::constant_time_equal(quote.qualified_signer, *expectation.qualified_signer)) {
    return refuse(ErrorCode::kWrongKey, "the quote was signed in another TPM or hierarchy");
  }
  const TpmSignature parsed = TRY(parse_signature(signature));
  TRY(verify_signature(ak, parsed, attest));
  QuotedPcrs quoted;
  quoted.banks = TRY(covered_values(quote, parsed.hash, given));
  quoted.ak_name = ak.name;
  quoted.qualified_signer = std::move(quote.qualified_signer);
  quoted.clock = quote.clock;
  quoted.firmware_version = quote.firmware_version;
  return quoted;
}

}  // namespace hf::attestation
