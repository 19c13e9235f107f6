#include "attestation/tpm/tpm_structures.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include <algorithm>
#include <array>
#include <memory>

namespace hf::attestation {
namespace {

constexpr uint32_t kGenerated = 0xFF544347;  // TPM_GENERATED_VALUE: ff 'T' 'C' 'G'
constexpr uint16_t kAttestQuote = 0x8018;    // TPM_ST_ATTEST_QUOTE
constexpr size_t kNameSizeMax = 2 + kHashSizeMax;
constexpr size_t kExtraDataMax = 2 + kHashSizeMax;  // sizeof(TPMT_HA)
constexpr size_t kRsaBytesMax = 512;
constexpr size_t kEccBytesMax = 66;

Error corrupt(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}
Error unsupported(std::string cause) {
  return Error{.code = ErrorCode::kUnsupported, .cause = std::move(cause)};
}

// Reads big-endian fields in order; every read past the end is kCorrupt.
class Reader {
 public:
  explicit Reader(ByteSpan bytes) : rest_(bytes) {}
  Result<ByteSpan> raw(size_t size) {
    if (rest_.size() < size) return corrupt("it ends in the middle of a field");
    const ByteSpan out = rest_.first(size);
    rest_ = rest_.subspan(size);
    return out;
  }
  Result<uint8_t> u8() { return static_cast<uint8_t>(TRY(raw(1))[0]); }
  Result<uint16_t> u16() { return load_be<uint16_t>(TRY(raw(2)).data()); }
  Result<uint32_t> u32() { return load_be<uint32_t>(TRY(raw(4)).data()); }
  Result<uint64_t> u64() { return load_be<uint64_t>(TRY(raw(8)).data()); }
  Result<Bytes> sized(size_t size_max) {  // TPM2B
    const uint16_t size = TRY(u16());
    if (size > size_max) return corrupt("a field is longer than any TPM makes it");
    const ByteSpan bytes = TRY(raw(size));
    return Bytes(bytes.begin(), bytes.end());
  }
  Result<HashAlg> hash_alg() {
    const uint16_t id = TRY(u16());
    const std::optional<HashAlg> alg = known_hash_alg(id);
    if (!alg) return unsupported("hash algorithm " + std::to_string(id) + " is not one we know");
    return *alg;
  }
  Status end() const {
    if (!rest_.empty()) return corrupt("bytes are left over at its end");
    return {};
  }
  ByteSpan rest() const { return rest_; }

 private:
  ByteSpan rest_;
};

Status parse_symmetric(Reader& reader, TpmPublic& key) {
  key.symmetric = TRY(reader.u16());
  if (key.symmetric == kAlgNull) return {};
  if (key.symmetric != kAlgAes)
    return unsupported("a key that protects with another cipher than AES");
  key.symmetric_bits = TRY(reader.u16());
  key.symmetric_mode = TRY(reader.u16());
  return {};
}

Status parse_scheme(Reader& reader, TpmPublic& key) {
  key.scheme = TRY(reader.u16());
  if (key.scheme == kAlgNull) return {};
  if (key.scheme != kAlgRsassa && key.scheme != kAlgRsapss && key.scheme != kAlgEcdsa) {
    return unsupported("a key of another scheme than RSASSA, RSAPSS and ECDSA");
  }
  key.scheme_hash = TRY(reader.hash_alg());
  return {};
}

Status parse_rsa(Reader& reader, TpmPublic& key) {
  TRY(parse_scheme(reader, key));
  key.rsa_bits = TRY(reader.u16());
  key.rsa_exponent = TRY(reader.u32());
  if (key.rsa_exponent == 0) key.rsa_exponent = 65537;
  key.rsa_modulus = TRY(reader.sized(kRsaBytesMax));
  if (key.rsa_modulus.size() * 8 != key.rsa_bits || key.rsa_modulus.empty()) {
    return corrupt("the RSA modulus is not as long as the key says");
  }
  if (key.scheme == kAlgEcdsa) return corrupt("an RSA key with an elliptic-curve scheme");
  return {};
}

Status parse_ecc(Reader& reader, TpmPublic& key) {
  TRY(parse_scheme(reader, key));
  key.curve = TRY(reader.u16());
  const uint16_t kdf = TRY(reader.u16());
  if (kdf != kAlgNull) return unsupported("an elliptic-curve key with a key derivation scheme");
  key.x = TRY(reader.sized(kEccBytesMax));
  key.y = TRY(reader.sized(kEccBytesMax));
  if (key.scheme != kAlgNull && key.scheme != kAlgEcdsa) {
    return corrupt("an elliptic-curve key with an RSA scheme");
  }
  return {};
}

Result<TpmPublic> parse_area(ByteSpan area) {
  Reader reader(area);
  TpmPublic key;
  key.type = TRY(reader.u16());
  key.name_algorithm = TRY(reader.hash_alg());
  key.attributes = TRY(reader.u32());
  key.policy = TRY(reader.sized(kHashSizeMax));
  TRY(parse_symmetric(reader, key));
  if (key.type == kAlgRsa) {
    TRY(parse_rsa(reader, key));
  } else if (key.type == kAlgEcc) {
    TRY(parse_ecc(reader, key));
  } else {
    return unsupported("neither an RSA nor an elliptic-curve key");
  }
  TRY(reader.end());
  key.area.assign(area.begin(), area.end());
  const HashValue digest = hash(key.name_algorithm, area);
  key.name.resize(2);
  store_be(key.name.data(), static_cast<uint16_t>(key.name_algorithm));
  key.name.insert(key.name.end(), digest.bytes().begin(), digest.bytes().end());
  return key;
}

Bytes qualified_name(ByteSpan parent, const TpmPublic& key) {
  const HashValue digest = hash(key.name_algorithm, parent, key.name);
  Bytes name(2);
  store_be(name.data(), static_cast<uint16_t>(key.name_algorithm));
  name.insert(name.end(), digest.bytes().begin(), digest.bytes().end());
  return name;
}

struct ContextFree {
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
struct NumberFree {
  void operator()(BIGNUM* number) const { BN_free(number); }
};

Result<crypto::EvpHandle> from_parameters(const char* type, OSSL_PARAM* parameters) {
  const std::unique_ptr<EVP_PKEY_CTX, ContextFree> context(
      EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  HF_ASSERT(context != nullptr && EVP_PKEY_fromdata_init(context.get()) == 1);
  EVP_PKEY* key = nullptr;
  if (EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1) {
    ERR_clear_error();
    return corrupt("the public key is not one: OpenSSL refuses it");
  }
  return crypto::EvpHandle(key);
}

Result<crypto::EvpHandle> openssl_rsa(const TpmPublic& key) {
  if (key.rsa_bits != 2048 && key.rsa_bits != 3072 && key.rsa_bits != 4096) {
    return unsupported("RSA keys are taken with 2048, 3072 and 4096 bits");
  }
  if (key.rsa_exponent != 65537) return unsupported("RSA keys are taken with exponent 65537");
  if ((key.rsa_modulus.front() & std::byte{0x80}) == std::byte{0} ||
      (key.rsa_modulus.back() & std::byte{1}) == std::byte{0}) {
    return corrupt("not an RSA modulus");
  }
  // OSSL_PARAM integers are in the machine's byte order.
  Bytes modulus(key.rsa_modulus.rbegin(), key.rsa_modulus.rend());
  static_assert(std::endian::native == std::endian::little);
  uint32_t exponent = key.rsa_exponent;
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_N,
                              reinterpret_cast<unsigned char*>(modulus.data()), modulus.size()),
      OSSL_PARAM_construct_uint32(OSSL_PKEY_PARAM_RSA_E, &exponent), OSSL_PARAM_construct_end()};
  return from_parameters("RSA", parameters);
}

Result<crypto::EvpHandle> openssl_ecc(const TpmPublic& key) {
  const bool p256 = key.curve == kCurveP256;
  if (!p256 && key.curve != kCurveP384) {
    return unsupported("elliptic-curve keys are taken on P-256 and P-384");
  }
  const size_t size = p256 ? 32 : 48;
  if (key.x.size() > size || key.y.size() > size) return corrupt("not a point of the key's curve");
  std::array<unsigned char, 97> point{};
  point[0] = 0x04;  // uncompressed; TPMs may leave leading zeroes out
  // Whoever made the key may have left a coordinate empty: then nothing is copied.
  const MutableByteSpan whole = std::as_writable_bytes(std::span(point)).first(1 + 2 * size);
  std::ranges::copy(key.x, whole.subspan(1 + size - key.x.size()).begin());
  std::ranges::copy(key.y, whole.last(key.y.size()).begin());
  char group[] = "P-256";
  if (!p256) std::memcpy(group, "P-384", sizeof group);
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
      OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point.data(), 1 + 2 * size),
      OSSL_PARAM_construct_end()};
  return from_parameters("EC", parameters);
}

Result<std::vector<PcrSelection>> parse_selections(Reader& reader) {
  const uint32_t count = TRY(reader.u32());
  if (count > kSelectionBanksMax) return corrupt("more PCR banks than any TPM has");
  std::vector<PcrSelection> selections;
  for (uint32_t i = 0; i < count; ++i) {
    const uint16_t id = TRY(reader.u16());
    const uint8_t octets = TRY(reader.u8());
    if (octets > kPcrCount / 8) return corrupt("a PCR selection beyond PCR 23");
    const ByteSpan bits = TRY(reader.raw(octets));
    uint32_t mask = 0;
    for (size_t at = 0; at < bits.size(); ++at) {
      mask |= std::to_integer<uint32_t>(bits[at]) << (8 * at);
    }
    const std::optional<HashAlg> bank = known_hash_alg(id);
    if (!bank && mask != 0) {
      return unsupported("it quotes a PCR bank of unknown algorithm " + std::to_string(id));
    }
    if (bank) selections.push_back({.bank = *bank, .mask = mask});
  }
  return selections;
}

Result<QuoteInfo> parse_quote_fields(Reader& reader) {
  if (TRY(reader.u32()) != kGenerated) return corrupt("it was not made by a TPM (magic)");
  if (TRY(reader.u16()) != kAttestQuote) return corrupt("it attests something else than PCRs");
  QuoteInfo quote;
  quote.qualified_signer = TRY(reader.sized(kNameSizeMax));
  quote.extra_data = TRY(reader.sized(kExtraDataMax));
  quote.clock.clock_ms = TRY(reader.u64());
  quote.clock.reset_count = TRY(reader.u32());
  quote.clock.restart_count = TRY(reader.u32());
  const uint8_t safe = TRY(reader.u8());
  if (safe > 1) return corrupt("its clock is neither safe nor unsafe");
  quote.clock.safe = safe == 1;
  quote.firmware_version = TRY(reader.u64());
  quote.selection = TRY(parse_selections(reader));
  quote.pcr_digest = TRY(reader.sized(kHashSizeMax));
  TRY(reader.end());
  return quote;
}

Result<TpmSignature> parse_signature_fields(Reader& reader) {
  TpmSignature signature;
  signature.scheme = TRY(reader.u16());
  switch (signature.scheme) {
    case kAlgRsassa:
    case kAlgRsapss:
      signature.hash = TRY(reader.hash_alg());
      signature.rsa = TRY(reader.sized(kRsaBytesMax));
      break;
    case kAlgEcdsa:
      signature.hash = TRY(reader.hash_alg());
      signature.r = TRY(reader.sized(kEccBytesMax));
      signature.s = TRY(reader.sized(kEccBytesMax));
      break;
    default:
      return unsupported("its scheme is none of RSASSA, RSAPSS and ECDSA");
  }
  TRY(reader.end());
  return signature;
}

}  // namespace

Result<TpmPublic> parse_public(ByteSpan bytes) {
  constexpr std::string_view kWhat = "public area of a TPM key";
  if (bytes.size() > kPublicAreaMax)
    return corrupt("a public area of " + std::to_string(bytes.size()) + " bytes");
  // A TPM2B_PUBLIC begins with the length of the rest. No TPMT_PUBLIC of a key we take is as short
  // as its type, 1 or 35, would then say.
  if (bytes.size() >= 2 && load_be<uint16_t>(bytes.data()) == bytes.size() - 2) {
    bytes = bytes.subspan(2);
  }
  return TRY_CONTEXT(parse_area(bytes), kWhat);
}

Result<crypto::EvpHandle> openssl_key(const TpmPublic& key) {
  return key.type == kAlgRsa ? openssl_rsa(key) : openssl_ecc(key);
}

Bytes primary_qualified_name(uint32_t hierarchy, const TpmPublic& key) {
  std::array<std::byte, 4> handle;
  store_be(handle.data(), hierarchy);
  return qualified_name(handle, key);
}

Bytes child_qualified_name(ByteSpan parent_qualified_name, const TpmPublic& key) {
  return qualified_name(parent_qualified_name, key);
}

Result<QuoteInfo> parse_quote(ByteSpan attest) {
  if (attest.size() > kAttestMax)
    return corrupt("a quote of " + std::to_string(attest.size()) + " bytes");
  Reader reader(attest);
  return TRY_CONTEXT(parse_quote_fields(reader), "quote");
}

Result<TpmSignature> parse_signature(ByteSpan bytes) {
  if (bytes.size() > kSignatureMax) {
    return corrupt("a signature of " + std::to_string(bytes.size()) + " bytes");
  }
  Reader reader(bytes);
  return TRY_CONTEXT(parse_signature_fields(reader), "signature");
}

}  // namespace hf::attestation
