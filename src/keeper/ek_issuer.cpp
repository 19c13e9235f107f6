#include "keeper/ek_issuer.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include <memory>

namespace hf::keeper {
namespace {

template <auto free_function>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    free_function(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX_free>>;
using ParamBuilder = std::unique_ptr<OSSL_PARAM_BLD, Freed<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, Freed<OSSL_PARAM_free>>;
using Number = std::unique_ptr<BIGNUM, Freed<BN_free>>;

Number number(ByteSpan big_endian) {
  return Number(BN_bin2bn(reinterpret_cast<const unsigned char*>(big_endian.data()),
                          static_cast<int>(big_endian.size()), nullptr));
}

Error unusable() {
  return Error{.code = ErrorCode::kInternal,
               .cause = "the TPM's endorsement key is not a usable key"};
}

Result<Key> key_from(const char* type, OSSL_PARAM_BLD* builder) {
  Params params(OSSL_PARAM_BLD_to_param(builder));
  KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
    return unusable();
  }
  return Key(key);
}

Result<Key> rsa_key(const vtpm::EkPublic& key) {
  ParamBuilder builder(OSSL_PARAM_BLD_new());
  Number modulus = number(key.modulus);
  Number exponent(BN_new());
  if (!builder || !modulus || !exponent || BN_set_word(exponent.get(), 65537) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get()) != 1) {
    return unusable();
  }
  return key_from("RSA", builder.get());
}

Result<Key> ecc_key(const vtpm::EkPublic& key) {
  Bytes point{std::byte{4}};  // uncompressed
  point.insert(point.end(), key.x.begin(), key.x.end());
  point.insert(point.end(), key.y.begin(), key.y.end());
  ParamBuilder builder(OSSL_PARAM_BLD_new());
  if (!builder ||
      OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "secp384r1", 0) !=
          1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                       point.size()) != 1) {
    return unusable();
  }
  return key_from("EC", builder.get());
}

}  // namespace

Result<Bytes> subject_public_key_info(const vtpm::EkPublic& ek) {
  const bool rsa = ek.kind == vtpm::EkKind::kRsa2048;
  Key key = TRY(rsa ? rsa_key(ek) : ecc_key(ek));
  unsigned char* der = nullptr;
  const int length = i2d_PUBKEY(key.get(), &der);
  if (length <= 0) return unusable();
  const auto* bytes = reinterpret_cast<const std::byte*>(der);
  Bytes info(bytes, bytes + length);
  OPENSSL_free(der);
  return info;
}

Result<Bytes> VaultIssuer::endorsement_certificate(const vtpm::EkPublic& key) {
  const auto kind =
      key.kind == vtpm::EkKind::kRsa2048 ? vault::EkKind::kRsa2048 : vault::EkKind::kEccP384;
  const Bytes info = TRY(subject_public_key_info(key));
  return vault_.issue_ek_certificate(vm_, kind, info);
}

Result<std::optional<Bytes>> VaultIssuer::platform_certificate(const vtpm::EkPublic&) {
  return std::optional<Bytes>{};
}

Status manufacture_vtpm(const VmId& vm, const std::vector<uint16_t>& pcr_banks,
                        vtpm::StateStore& store, vault::KeyClient& vault) {
  VaultIssuer issuer(vm, vault);
  auto engine = TRY(vtpm::Engine::create({.store = &store, .commit_allowed = false}));
  TRY(vtpm::manufacture(*engine, {.pcr_banks = pcr_banks, .issuer = &issuer}));
  return engine->set_commit_allowed(true);
}

}  // namespace hf::keeper
