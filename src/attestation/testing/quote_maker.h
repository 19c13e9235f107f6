// Quotes without a TPM, for tests, fuzzers and benches: ordinary keys sign what a TPM would
// marshal. That real TPMs marshal the same is what quote_test.cpp (libtpms) and e2e.attest_quotes
// (swtpm, tpm2-tools) show.
#pragma once

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "attestation/tpm/quote.h"
#include "crypto/key_pair.h"

namespace hf::attestation {

// Big-endian fields, one after the other.
class TpmWriter {
 public:
  TpmWriter& put(std::unsigned_integral auto value) {
    std::array<std::byte, sizeof value> raw;
    store_be(raw.data(), value);
    return put(ByteSpan(raw));
  }
  TpmWriter& put(HashAlg alg) { return put(static_cast<uint16_t>(alg)); }
  TpmWriter& put(ByteSpan bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  TpmWriter& sized(ByteSpan bytes) {  // TPM2B
    return put(static_cast<uint16_t>(bytes.size())).put(bytes);
  }
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

inline constexpr uint32_t kAkAttributes = kAttributeFixedTpm | kAttributeFixedParent |
                                          kAttributeSensitiveDataOrigin | kAttributeRestricted |
                                          kAttributeSign | 1u << 6;  // userWithAuth

enum class AkKind { kRsassa, kRsapss, kEcdsaP256, kEcdsaP384 };

class SoftwareAk {
 public:
  explicit SoftwareAk(AkKind kind, uint32_t attributes = kAkAttributes)
      : kind_(kind), key_(make_key(kind)), area_(make_area(attributes)) {}

  const Bytes& area() const { return area_; }  // TPMT_PUBLIC
  const crypto::KeyPair& key() const { return key_; }
  HashAlg hash_alg() const {
    return kind_ == AkKind::kEcdsaP384 ? HashAlg::kSha384 : HashAlg::kSha256;
  }

  // TPMS_ATTEST over the PCRs that `values` holds, with a clock and names of no meaning.
  Bytes attest(ByteSpan nonce, const std::vector<PcrValues>& values) const {
    Bytes all;
    TpmWriter selection;
    selection.put(static_cast<uint32_t>(values.size()));
    for (const PcrValues& bank : values) {
      uint32_t mask = 0;
      for (uint32_t pcr = 0; pcr < kPcrCount; ++pcr) {
        if (!bank.values[pcr]) continue;
        mask |= 1u << pcr;
        all.insert(all.end(), bank.values[pcr]->begin(), bank.values[pcr]->end());
      }
      selection.put(bank.bank).put(uint8_t{3});
      for (int octet = 0; octet < 3; ++octet) {
        selection.put(static_cast<uint8_t>(mask >> (8 * octet) & 0xFF));
      }
    }
    const HashValue digest = hash(hash_alg(), all);
    return TpmWriter()
        .put(uint32_t{0xFF544347})
        .put(uint16_t{0x8018})
        .sized(Bytes(34, std::byte{0x11}))  // qualified signer
        .sized(nonce)
        .put(uint64_t{123456})
        .put(uint32_t{7})
        .put(uint32_t{1})
        .put(uint8_t{1})
        .put(uint64_t{0x2019121200})
        .put(selection.take())
        .sized(digest.bytes())
        .take();
  }

  // TPMT_SIGNATURE.
  Bytes sign(ByteSpan attest) const {
    const HashValue digest = hash(hash_alg(), attest);
    EVP_PKEY_CTX* context = EVP_PKEY_CTX_new(key_.handle(), nullptr);
    HF_ASSERT(context != nullptr && EVP_PKEY_sign_init(context) == 1);
    if (kind_ == AkKind::kRsassa || kind_ == AkKind::kRsapss) {
      HF_ASSERT(EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1);
      HF_ASSERT(EVP_PKEY_CTX_set_rsa_padding(context, kind_ == AkKind::kRsassa
                                                          ? RSA_PKCS1_PADDING
                                                          : RSA_PKCS1_PSS_PADDING) == 1);
    }
    Bytes raw(512);
    size_t size = raw.size();
    HF_ASSERT(EVP_PKEY_sign(context, reinterpret_cast<unsigned char*>(raw.data()), &size,
                            reinterpret_cast<const unsigned char*>(digest.bytes().data()),
                            digest.bytes().size()) == 1);
    EVP_PKEY_CTX_free(context);
    raw.resize(size);
    TpmWriter out;
    out.put(scheme()).put(hash_alg());
    if (kind_ == AkKind::kRsassa || kind_ == AkKind::kRsapss) return out.sized(raw).take();
    const auto* at = reinterpret_cast<const unsigned char*>(raw.data());
    ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size));
    HF_ASSERT(pair != nullptr);
    for (const BIGNUM* number : {ECDSA_SIG_get0_r(pair), ECDSA_SIG_get0_s(pair)}) {
      Bytes fixed(kind_ == AkKind::kEcdsaP256 ? 32 : 48);
      HF_ASSERT(BN_bn2binpad(number, reinterpret_cast<unsigned char*>(fixed.data()),
                             static_cast<int>(fixed.size())) > 0);
      out.sized(fixed);
    }
    ECDSA_SIG_free(pair);
    return out.take();
  }

 private:
  uint16_t scheme() const {
    switch (kind_) {
      case AkKind::kRsassa:
        return kAlgRsassa;
      case AkKind::kRsapss:
        return kAlgRsapss;
      default:
        return kAlgEcdsa;
    }
  }
  static crypto::KeyPair make_key(AkKind kind) {
    if (kind == AkKind::kEcdsaP256) return crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
    if (kind == AkKind::kEcdsaP384) return crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP384);
    return crypto::KeyPair::generate_rsa(2048);
  }
  Bytes make_area(uint32_t attributes) const {
    const bool rsa = kind_ == AkKind::kRsassa || kind_ == AkKind::kRsapss;
    TpmWriter out;
    out.put(rsa ? kAlgRsa : kAlgEcc).put(HashAlg::kSha256).put(attributes).sized({});
    out.put(kAlgNull).put(scheme()).put(hash_alg());
    if (rsa) {
      BIGNUM* modulus = nullptr;
      HF_ASSERT(EVP_PKEY_get_bn_param(key_.handle(), OSSL_PKEY_PARAM_RSA_N, &modulus) == 1);
      Bytes n(256);
      HF_ASSERT(BN_bn2binpad(modulus, reinterpret_cast<unsigned char*>(n.data()), 256) == 256);
      BN_free(modulus);
      return out.put(uint16_t{2048}).put(uint32_t{0}).sized(n).take();
    }
    std::array<std::byte, 97> point;
    size_t size = 0;
    HF_ASSERT(EVP_PKEY_get_octet_string_param(key_.handle(), OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY,
                                              reinterpret_cast<unsigned char*>(point.data()),
                                              point.size(), &size) == 1);
    const size_t field = size / 2;
    out.put(kind_ == AkKind::kEcdsaP256 ? kCurveP256 : kCurveP384).put(kAlgNull);
    return out.sized(ByteSpan(point).subspan(1, field))
        .sized(ByteSpan(point).subspan(1 + field, field))
        .take();
  }

  AkKind kind_;
  crypto::KeyPair key_;
  Bytes area_;
};

}  // namespace hf::attestation
