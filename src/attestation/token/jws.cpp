#include "attestation/token/jws.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "base/base64.h"
#include "crypto/crypto.h"

namespace hf::attestation {
namespace {

constexpr size_t kFieldSize = 32;  // of P-256
constexpr size_t kKidMax = 256;
constexpr size_t kHeaderMax = 16384;  // a token that brings its "x5c" along is still read
constexpr std::string_view kEs256 = "ES256";

Error invalid(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

unsigned char* u8(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* u8(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

struct ContextFree {
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using ContextHandle = std::unique_ptr<EVP_PKEY_CTX, ContextFree>;
struct SignatureFree {
  void operator()(ECDSA_SIG* signature) const { ECDSA_SIG_free(signature); }
};
using SignatureHandle = std::unique_ptr<ECDSA_SIG, SignatureFree>;

// JSON whose members are each named once, or an error.
Result<sys::JsonObject> parse_strict(std::string_view text, size_t bytes_max) {
  return sys::parse_json_object(
      text, {.bytes_max = bytes_max, .depth_max = 16, .duplicates = sys::JsonDuplicates::kRefuse});
}

using Point = std::array<std::byte, 1 + 2 * kFieldSize>;  // 4 ‖ x ‖ y

Status check_kind(const crypto::SpkiKey& key) {
  if (key.kind() == crypto::KeyKind::kEcP256) return {};
  return Error{.code = ErrorCode::kUnsupported, .cause = "tokens are signed with P-256 keys only"};
}

Result<Point> point_of(const crypto::SpkiKey& key) {
  TRY(check_kind(key));
  Point point;
  size_t size = 0;
  HF_ASSERT(EVP_PKEY_get_octet_string_param(key.handle(), OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY,
                                            u8(point.data()), point.size(), &size) == 1);
  HF_ASSERT(size == point.size() && point[0] == std::byte{4});
  return point;
}

Result<crypto::SpkiKey> key_of(Point& point) {
  const ContextHandle context(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
  char group[] = "P-256";
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
      OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()),
      OSSL_PARAM_construct_end()};
  EVP_PKEY* key = nullptr;
  HF_ASSERT(context != nullptr && EVP_PKEY_fromdata_init(context.get()) == 1);
  if (EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1) {
    ERR_clear_error();
    return invalid("a key that is not a point of P-256");
  }
  return crypto::SpkiKey::adopt(crypto::EvpHandle(key));
}

Result<std::string> thumbprint_of(const Point& point) {
  const ByteSpan all(point);
  // RFC 7638, 3: the required members, in order of their names, without white space.
  const std::string canonical = R"({"crv":"P-256","kty":"EC","x":")" +
                                base64url_encode(all.subspan(1, kFieldSize)) + R"(","y":")" +
                                base64url_encode(all.subspan(1 + kFieldSize)) + R"("})";
  return base64url_encode(crypto::sha256(as_bytes(canonical)).span());
}

// An EC P-256 key for verifying; nullopt for a key that is for something else.
Result<std::optional<VerifyKey>> parse_jwk(const sys::JsonObject& jwk) {
  const bool ours = TRY(sys::get_string(jwk, "kty")) == "EC" &&
                    TRY(sys::get_string(jwk, "crv")) == "P-256" &&
                    TRY(sys::get_string_or(jwk, "use", "sig")) == "sig" &&
                    TRY(sys::get_string_or(jwk, "alg", kEs256)) == kEs256;
  if (!ours) return std::optional<VerifyKey>();
  if (jwk.if_contains("d") != nullptr) return invalid("a key set that holds a private key");
  Point point;
  point[0] = std::byte{4};
  size_t at = 1;
  for (std::string_view name : {"x", "y"}) {
    const Bytes coordinate = TRY(base64url_decode(TRY(sys::get_string(jwk, name))));
    if (coordinate.size() != kFieldSize) return invalid("a coordinate that is not 32 bytes long");
    std::memcpy(&point[at], coordinate.data(), kFieldSize);
    at += kFieldSize;
  }
  crypto::SpkiKey key = TRY(key_of(point));
  const std::string kid = TRY(sys::get_string_or(jwk, "kid", TRY(thumbprint_of(point))));
  if (kid.empty() || kid.size() > kKidMax) return invalid("a key without a proper \"kid\"");
  return std::optional<VerifyKey>(VerifyKey{.kid = kid, .key = std::move(key)});
}

bool es256_verify(const crypto::SpkiKey& key, ByteSpan message, ByteSpan signature) {
  HF_ASSERT(signature.size() == kEs256SignatureSize);
  const SignatureHandle pair(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(u8(signature.data()), kFieldSize, nullptr);
  BIGNUM* s = BN_bin2bn(u8(signature.data()) + kFieldSize, kFieldSize, nullptr);
  HF_ASSERT(pair != nullptr && r != nullptr && s != nullptr);
  HF_ASSERT(ECDSA_SIG_set0(pair.get(), r, s) == 1);
  std::array<std::byte, 80> der;
  unsigned char* at = u8(der.data());
  const int length = i2d_ECDSA_SIG(pair.get(), &at);
  HF_ASSERT(length > 0 && static_cast<size_t>(length) <= der.size());
  const Digest digest = crypto::sha256(message);
  const ContextHandle context(EVP_PKEY_CTX_new(key.handle(), nullptr));
  HF_ASSERT(context != nullptr && EVP_PKEY_verify_init(context.get()) == 1);
  const bool good = EVP_PKEY_verify(context.get(), u8(der.data()), static_cast<size_t>(length),
                                    u8(digest.bytes.data()), digest.bytes.size()) == 1;
  if (!good) ERR_clear_error();
  return good;
}

struct Parts {
  std::string_view header, payload, signature;
  std::string_view signed_part;
};

Result<Parts> split(std::string_view token) {
  const size_t first = token.find('.');
  const size_t second = first == token.npos ? token.npos : token.find('.', first + 1);
  if (second == token.npos || token.find('.', second + 1) != token.npos) {
    return invalid("not a token: it has not three parts");
  }
  return Parts{.header = token.substr(0, first),
               .payload = token.substr(first + 1, second - first - 1),
               .signature = token.substr(second + 1),
               .signed_part = token.substr(0, second)};
}

struct Header {
  std::string kid;
  std::string type;
};

Result<Header> parse_header(std::string_view part) {
  const Bytes bytes = TRY(base64url_decode(part));
  const sys::JsonObject object = TRY(parse_strict(as_text(bytes), kHeaderMax));
  if (TRY(sys::get_string(object, "alg")) != kEs256) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "signed with another algorithm than ES256"};
  }
  // "crit" lists extensions that must be understood (RFC 7515, 4.1.11; "b64" is one): we have none.
  if (object.if_contains("crit") != nullptr || object.if_contains("b64") != nullptr) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "it demands extensions"};
  }
  if (object.if_contains("zip") != nullptr || object.if_contains("enc") != nullptr) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "compressed or encrypted"};
  }
  return Header{.kid = TRY(sys::get_string(object, "kid")),
                .type = TRY(sys::get_string_or(object, "typ", ""))};
}

}  // namespace

Result<Bytes> es256_sign(const crypto::KeyPair& key, ByteSpan bytes) {
  TRY(check_kind(key.public_key()));
  const Digest digest = crypto::sha256(bytes);
  const ContextHandle context(EVP_PKEY_CTX_new(key.handle(), nullptr));
  std::array<std::byte, 80> der;
  size_t length = der.size();
  HF_ASSERT(context != nullptr && EVP_PKEY_sign_init(context.get()) == 1);
  HF_ASSERT(EVP_PKEY_sign(context.get(), u8(der.data()), &length, u8(digest.bytes.data()),
                          digest.bytes.size()) == 1);
  const unsigned char* at = u8(der.data());
  const SignatureHandle pair(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(length)));
  HF_ASSERT(pair != nullptr);
  Bytes raw(kEs256SignatureSize);
  HF_ASSERT(BN_bn2binpad(ECDSA_SIG_get0_r(pair.get()), u8(raw.data()), kFieldSize) == kFieldSize);
  HF_ASSERT(BN_bn2binpad(ECDSA_SIG_get0_s(pair.get()), u8(raw.data()) + kFieldSize, kFieldSize) ==
            kFieldSize);
  return raw;
}

Result<KeySet> KeySet::parse(std::string_view json) {
  constexpr std::string_view kWhat = "JSON Web Key Set";
  const sys::JsonObject object = TRY_CONTEXT(parse_strict(json, kKeySetTextMax), kWhat);
  const sys::JsonArray* members = TRY_CONTEXT(sys::get_array(object, "keys"), kWhat);
  if (members->size() > kKeySetKeysMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "a key set of too many keys"};
  }
  std::vector<VerifyKey> keys;
  for (const sys::JsonValue& member : *members) {
    if (!member.is_object()) return invalid("a key set that holds something else than keys");
    std::optional<VerifyKey> key = TRY_CONTEXT(parse_jwk(member.get_object()), kWhat);
    if (!key) continue;
    if (std::ranges::find(keys, key->kid, &VerifyKey::kid) != keys.end()) {
      return invalid("a key set with one \"kid\" for two keys");
    }
    keys.push_back(std::move(*key));
  }
  return KeySet(std::move(keys));
}

const VerifyKey* KeySet::find(std::string_view kid) const {
  const auto found = std::ranges::find(keys_, kid, &VerifyKey::kid);
  return found == keys_.end() ? nullptr : &*found;
}

Result<sys::JsonObject> to_jwk(const crypto::SpkiKey& key,
                               const std::vector<crypto::Certificate>& chain) {
  const Point point = TRY(point_of(key));
  const ByteSpan all(point);
  sys::JsonObject jwk;
  jwk["kty"] = "EC";
  jwk["crv"] = "P-256";
  jwk["x"] = base64url_encode(all.subspan(1, kFieldSize));
  jwk["y"] = base64url_encode(all.subspan(1 + kFieldSize));
  jwk["use"] = "sig";
  jwk["alg"] = kEs256;
  jwk["kid"] = TRY(thumbprint_of(point));
  if (!chain.empty()) {
    sys::JsonArray& certificates = jwk["x5c"].emplace_array();
    for (const crypto::Certificate& certificate : chain) {
      certificates.emplace_back(
          base64_encode(certificate.to_der()));  // RFC 7517, 4.7: not URL-safe
    }
  }
  return jwk;
}

Result<std::string> thumbprint(const crypto::SpkiKey& key) {
  return thumbprint_of(TRY(point_of(key)));
}

Result<std::string> sign_token(std::string_view payload, std::string_view kid,
                               std::string_view type, const Es256Signer& sign) {
  const sys::JsonObject header{{"alg", kEs256}, {"kid", kid}, {"typ", type}};
  std::string token = base64url_encode(as_bytes(sys::to_text(header)));
  token += '.';
  token += base64url_encode(as_bytes(payload));
  const Bytes signature = TRY(sign(as_bytes(token)));
  if (signature.size() != kEs256SignatureSize) {
    return Error{.code = ErrorCode::kInternal, .cause = "a signature that is not r and s of P-256"};
  }
  token += '.';
  token += base64url_encode(signature);
  if (token.size() > kTokenMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "a token longer than any reader takes"};
  }
  return token;
}

Result<VerifiedToken> verify_token(std::string_view token, const KeySet& keys) {
  if (token.size() > kTokenMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "longer than any token of ours"};
  }
  const Parts parts = TRY_CONTEXT(split(token), "token");
  const Header header = TRY_CONTEXT(parse_header(parts.header), "token's header");
  const VerifyKey* key = keys.find(header.kid);
  if (key == nullptr) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the token names a key (\"kid\") that the key set does not hold"};
  }
  const Bytes signature = TRY_CONTEXT(base64url_decode(parts.signature), "token's signature");
  if (signature.size() != kEs256SignatureSize ||
      !es256_verify(key->key, as_bytes(parts.signed_part), signature)) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the token's signature is not by the key that it names"};
  }
  const Bytes payload = TRY_CONTEXT(base64url_decode(parts.payload), "token's payload");
  return VerifiedToken{
      .payload = TRY_CONTEXT(parse_strict(as_text(payload), kTokenMax), "token's payload"),
      .kid = header.kid,
      .type = header.type};
}

}  // namespace hf::attestation
