// The TPM 2.0 structures an outside verifier reads: public areas, quotes, signatures and names
// (TCG TPM 2.0 Library, part 2, "Structures"; big-endian). All come from the guest: bounded, exact
// (bytes left over are an error) and without a claim before quote.h has verified them.
#pragma once

#include <optional>
#include <vector>

#include "attestation/log/pcr.h"
#include "base/bytes.h"
#include "base/result.h"
#include "crypto/key_pair.h"

namespace hf::attestation {

inline constexpr size_t kPublicAreaMax = 1024;
inline constexpr size_t kAttestMax = 1024;
inline constexpr size_t kSignatureMax = 1024;
inline constexpr size_t kSelectionBanksMax = 16;  // TPM 2.0's HASH_COUNT

// TPM_ALG_ID, those of keys and schemes. Hashes are HashAlg, with the same numbers.
inline constexpr uint16_t kAlgRsa = 0x0001;
inline constexpr uint16_t kAlgAes = 0x0006;
inline constexpr uint16_t kAlgNull = 0x0010;
inline constexpr uint16_t kAlgRsassa = 0x0014;
inline constexpr uint16_t kAlgRsapss = 0x0016;
inline constexpr uint16_t kAlgEcdsa = 0x0018;
inline constexpr uint16_t kAlgEcc = 0x0023;
inline constexpr uint16_t kAlgCfb = 0x0043;
// TPM_ECC_CURVE.
inline constexpr uint16_t kCurveP256 = 0x0003;
inline constexpr uint16_t kCurveP384 = 0x0004;

// TPMA_OBJECT.
inline constexpr uint32_t kAttributeFixedTpm = 1u << 1;
inline constexpr uint32_t kAttributeFixedParent = 1u << 4;
inline constexpr uint32_t kAttributeSensitiveDataOrigin = 1u << 5;
inline constexpr uint32_t kAttributeRestricted = 1u << 16;
inline constexpr uint32_t kAttributeDecrypt = 1u << 17;
inline constexpr uint32_t kAttributeSign = 1u << 18;

// TPMT_PUBLIC of an RSA or ECC key. Immutable once parsed: `name` belongs to `area`.
struct TpmPublic {
  uint16_t type = 0;  // kAlgRsa, kAlgEcc
  HashAlg name_algorithm{};
  uint32_t attributes = 0;
  Bytes policy;
  uint16_t symmetric = kAlgNull;  // what a restricted decryption key protects its children with
  uint16_t symmetric_bits = 0;
  uint16_t symmetric_mode = 0;
  uint16_t scheme = kAlgNull;
  std::optional<HashAlg> scheme_hash;
  uint16_t rsa_bits = 0;
  uint32_t rsa_exponent = 0;  // 0 was read as 65537
  Bytes rsa_modulus;
  uint16_t curve = 0;
  Bytes x, y;

  Bytes area;  // the TPMT_PUBLIC as it came
  Bytes name;  // nameAlg ‖ H_nameAlg(area): part 1, "Names"
};
// Takes a TPMT_PUBLIC or a TPM2B_PUBLIC around it. kCorrupt, kUnsupported (another kind of key).
Result<TpmPublic> parse_public(ByteSpan bytes);
// The key for OpenSSL. kUnsupported: curve, size or exponent that we do not take; kCorrupt: not a
// point of the curve.
Result<crypto::EvpHandle> openssl_key(const TpmPublic& key);
// The qualified name of a key (part 1, "Qualified names"): of its parent's qualified name, or of
// the hierarchy's handle for a primary key (kHandleEndorsement).
inline constexpr uint32_t kHandleOwner = 0x40000001;
inline constexpr uint32_t kHandleEndorsement = 0x4000000B;
Bytes primary_qualified_name(uint32_t hierarchy, const TpmPublic& key);
Bytes child_qualified_name(ByteSpan parent_qualified_name, const TpmPublic& key);

// One bank of a TPML_PCR_SELECTION; bit n of `mask` is PCR n.
struct PcrSelection {
  HashAlg bank{};
  uint32_t mask = 0;
  bool operator==(const PcrSelection&) const = default;
};

struct ClockInfo {
  uint64_t clock_ms = 0;  // time the TPM was powered, over its life
  uint32_t reset_count = 0;
  uint32_t restart_count = 0;
  bool safe = false;
};

// TPMS_ATTEST that holds a TPMS_QUOTE_INFO.
struct QuoteInfo {
  Bytes qualified_signer;
  Bytes extra_data;  // the nonce
  ClockInfo clock;
  uint64_t firmware_version = 0;
  std::vector<PcrSelection> selection;  // in the order that `pcr_digest` was made in
  Bytes pcr_digest;
};
// kCorrupt: not TPM_GENERATED, not a quote, not exact. Banks of unknown algorithm that select
// nothing are left out; kUnsupported if they select something.
Result<QuoteInfo> parse_quote(ByteSpan attest);

// TPMT_SIGNATURE.
struct TpmSignature {
  uint16_t scheme = kAlgNull;  // kAlgRsassa, kAlgRsapss, kAlgEcdsa
  HashAlg hash{};
  Bytes rsa;   // of the two RSA schemes
  Bytes r, s;  // of ECDSA
};
Result<TpmSignature> parse_signature(ByteSpan bytes);

}  // namespace hf::attestation
