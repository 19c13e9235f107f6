#include "attestation/token/jws.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/base64.h"
#include "crypto/crypto.h"

namespace hf::attestation {
namespace {

using testing::HasSubstr;

struct Site {
  crypto::KeyPair key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
  std::string kid = thumbprint(key.public_key()).value();
  KeySet keys = KeySet::parse(jwks()).value();
  std::string jwks() const {
    return sys::to_text(
        sys::JsonObject{{"keys", sys::JsonArray{to_jwk(key.public_key()).value()}}});
  }
  Es256Signer signer() const {
    return [this](ByteSpan bytes) { return es256_sign(key, bytes); };
  }
  std::string token(std::string_view payload = R"({"a":1})") const {
    return sign_token(payload, kid, "JWT", signer()).value();
  }
  // With a header of any text, signed as it should be.
  std::string token_with_header(std::string_view header, std::string_view payload = "{}") const {
    std::string text =
        base64url_encode(as_bytes(header)) + "." + base64url_encode(as_bytes(payload));
    const Bytes signature = es256_sign(key, as_bytes(text)).value();
    return text + "." + base64url_encode(signature);
  }
};

TEST(Jws, asks_for_the_kid_that_the_example_of_rfc_7515_lacks) {
  const std::string jwks = R"({"keys":[{"kty":"EC","crv":"P-256","kid":"k",)"
                           R"("x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
                           R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})";
  const std::string token =
      "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLm"
      "NvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmW"
      "QxfKTUJqPP3-Kg6NU1Q";
  Result<VerifiedToken> verified = verify_token(token, KeySet::parse(jwks).value());
  ASSERT_FALSE(verified.ok());
  EXPECT_THAT(verified.error().cause, HasSubstr("kid"));
}

TEST(Jws, thumbprint_is_that_of_rfc_7638) {
  Site site;
  const sys::JsonObject jwk = to_jwk(site.key.public_key()).value();
  EXPECT_EQ(jwk.at("kid").as_string(), site.kid.c_str());
  EXPECT_EQ(site.kid.size(), 43U);
  const std::string canonical = R"({"crv":"P-256","kty":"EC","x":")" +
                                std::string(jwk.at("x").as_string().c_str()) + R"(","y":")" +
                                std::string(jwk.at("y").as_string().c_str()) + R"("})";
  EXPECT_EQ(base64url_encode(crypto::sha256(as_bytes(canonical)).span()), site.kid);
}

TEST(Jws, own_token_verifies_and_any_changed_octet_does_not) {
  const Site site;
  const std::string token = site.token(R"({"vm":"x","n":7})");
  Result<VerifiedToken> verified = verify_token(token, site.keys);
  ASSERT_TRUE(verified.ok()) << verified.error().describe();
  EXPECT_EQ(verified->payload.at("n").as_int64(), 7);
  EXPECT_EQ(verified->type, "JWT");
  for (size_t at = 0; at < token.size(); ++at) {
    for (const char c : {'A', 'b', '-', '.', '=', '+', ' '}) {
      if (token[at] == c) continue;
      std::string changed = token;
      changed[at] = c;
      EXPECT_FALSE(verify_token(changed, site.keys).ok()) << at << c;
    }
    EXPECT_FALSE(verify_token(std::string_view(token).substr(0, at), site.keys).ok());
  }
  for (const char* more : {"=", "==", ".", ".AA", "\n", " "}) {
    EXPECT_FALSE(verify_token(token + more, site.keys).ok()) << more;
  }
}

TEST(Jws, other_algorithms_and_extensions_are_refused_though_signed) {
  const Site site;
  const auto header = [&](std::string_view rest) {
    return R"({"kid":")" + site.kid + R"(",)" + std::string(rest) + "}";
  };
  EXPECT_TRUE(verify_token(site.token_with_header(header(R"("alg":"ES256")")), site.keys).ok());
  // A key that comes along is never looked at: neither instead of the known one, nor for an
  // unknown.
  const Site stranger;
  const std::string jwk = sys::to_text(to_jwk(stranger.key.public_key()).value());
  EXPECT_TRUE(
      verify_token(site.token_with_header(header(R"("alg":"ES256","jwk":)" + jwk)), site.keys)
          .ok());
  EXPECT_FALSE(
      verify_token(stranger.token_with_header(header(R"("alg":"ES256","jwk":)" + jwk)), site.keys)
          .ok());
  for (const char* rest : {R"("alg":"none")",
                           R"("alg":"None")",
                           R"("alg":"es256")",
                           R"("alg":"HS256")",
                           R"("alg":"RS256")",
                           R"("alg":"ES384")",
                           R"("alg":"ES256K")",
                           R"("alg":"")",
                           R"("alg":null)",
                           R"("alg":["ES256"])",
                           R"("typ":"JWT")",
                           R"("alg":"ES256","crit":["exp"])",
                           R"("alg":"ES256","crit":[])",
                           R"("alg":"ES256","b64":false,"crit":["b64"])",
                           R"("alg":"ES256","b64":false)",
                           R"("alg":"ES256","zip":"DEF")",
                           R"("alg":"none","alg":"ES256")",
                           R"("alg":"ES256","alg":"ES256")",
                           R"("alg":"ES256","kid":"x")",
                           R"("alg":"ES256","typ":7)"}) {
    EXPECT_FALSE(verify_token(site.token_with_header(header(rest)), site.keys).ok()) << rest;
  }
  EXPECT_FALSE(verify_token(site.token_with_header(R"({"alg":"ES256"})"), site.keys).ok());
  EXPECT_FALSE(verify_token(site.token_with_header(R"({"alg":"ES256","kid":7})"), site.keys).ok());
  EXPECT_FALSE(verify_token(site.token_with_header("[]"), site.keys).ok());
  EXPECT_FALSE(
      verify_token(site.token_with_header(header(R"("alg":"ES256")"), "[]"), site.keys).ok());
  EXPECT_FALSE(verify_token(site.token_with_header(header(R"("alg":"ES256")"), R"({"a":1,"a":1})"),
                            site.keys)
                   .ok());
}

TEST(Jws, without_signature_or_with_one_by_the_public_key_as_secret_is_refused) {
  const Site site;
  const std::string payload = base64url_encode(as_bytes(R"({"a":1})"));
  const std::string none =
      base64url_encode(as_bytes(R"({"alg":"none","kid":")" + site.kid + "\"}"));
  EXPECT_FALSE(verify_token(none + "." + payload + ".", site.keys).ok());
  const std::string good_header = site.token().substr(0, site.token().find('.'));
  EXPECT_FALSE(verify_token(good_header + "." + payload + ".", site.keys).ok());
  // The confusion of HMAC secret and public key: HS256 keyed with the PEM, the DER and the JWK.
  const std::string hs = base64url_encode(as_bytes(R"({"alg":"HS256","kid":")" + site.kid + "\"}"));
  const Bytes der = site.key.public_key().to_der();
  for (const std::string& secret :
       {site.key.public_key().to_pem(), std::string(as_text(der)), site.jwks()}) {
    const std::string text = hs + "." + payload;
    const Digest tag = crypto::hmac_sha256(as_bytes(secret), as_bytes(text));
    EXPECT_FALSE(verify_token(text + "." + base64url_encode(tag.span()), site.keys).ok());
  }
  // r = s = 0, and the group's order: never a signature.
  for (const char* number : {"0000000000000000000000000000000000000000000000000000000000000000",
                             "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"}) {
    const std::string signature = base64url_encode(from_hex(std::string(number) + number).value());
    EXPECT_FALSE(verify_token(good_header + "." + payload + "." + signature, site.keys).ok());
  }
}

TEST(Jws, key_sets_hold_public_p256_keys_each_once) {
  const Site site;
  const Site other;
  EXPECT_FALSE(verify_token(site.token(), other.keys).ok());
  const sys::JsonObject good = to_jwk(site.key.public_key()).value();
  const auto count = [&](auto change) -> int {
    sys::JsonObject jwk = good;
    change(jwk);
    Result<KeySet> set =
        KeySet::parse(sys::to_text(sys::JsonObject{{"keys", sys::JsonArray{jwk}}}));
    return set.ok() ? static_cast<int>(set->keys().size()) : -1;
  };
  EXPECT_EQ(count([](auto&) {}), 1);
  EXPECT_EQ(count([](auto& k) { k.erase("kid"); }), 1);
  EXPECT_EQ(count([](auto& k) { k["kty"] = "RSA"; }), 0);
  EXPECT_EQ(count([](auto& k) { k["kty"] = "oct"; }), 0);
  EXPECT_EQ(count([](auto& k) { k["crv"] = "P-384"; }), 0);
  EXPECT_EQ(count([](auto& k) { k["use"] = "enc"; }), 0);
  EXPECT_EQ(count([](auto& k) { k["alg"] = "ES384"; }), 0);
  EXPECT_EQ(count([](auto& k) { k.erase("kty"); }), -1);
  EXPECT_EQ(count([](auto& k) { k["d"] = "AAAA"; }), -1);
  EXPECT_EQ(count([](auto& k) { k["x"] = "AAAA"; }), -1);
  EXPECT_EQ(count([](auto& k) { k["x"] = k["y"]; }), -1);  // off the curve
  EXPECT_EQ(count([](auto& k) { k["x"] = std::string(k["x"].as_string()) + "="; }), -1);
  EXPECT_EQ(count([](auto& k) { k["kid"] = ""; }), -1);
  EXPECT_FALSE(
      KeySet::parse(sys::to_text(sys::JsonObject{{"keys", sys::JsonArray{good, good}}})).ok());
  EXPECT_FALSE(KeySet::parse("{}").ok());
  EXPECT_FALSE(KeySet::parse(R"({"keys":[7]})").ok());
  EXPECT_FALSE(KeySet::parse(R"({"keys":[],"keys":[]})").ok());
  EXPECT_TRUE(KeySet::parse(R"({"keys":[]})")->keys().empty());
  EXPECT_FALSE(to_jwk(crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP384).public_key()).ok());
  EXPECT_FALSE(es256_sign(crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP384), {}).ok());
}

TEST(Jws, a_signer_that_fails_or_signs_otherwise_makes_no_token) {
  const Es256Signer fails = [](ByteSpan) -> Result<Bytes> {
    return Error{.code = ErrorCode::kUnavailable, .cause = "vault"};
  };
  EXPECT_EQ(sign_token("{}", "k", "JWT", fails).error().code, ErrorCode::kUnavailable);
  const Es256Signer der = [](ByteSpan) -> Result<Bytes> { return Bytes(70); };
  EXPECT_FALSE(sign_token("{}", "k", "JWT", der).ok());
}

}  // namespace
}  // namespace hf::attestation
