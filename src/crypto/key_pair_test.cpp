#include "crypto/key_pair.h"

#include <gtest/gtest.h>

#include "crypto/kdf.h"
#include "crypto/x509.h"

namespace hf::crypto {
namespace {

constexpr Micros kNow{1'760'000'000'000'000};

TEST(Scrypt, gives_the_vectors_of_rfc_7914) {
  EXPECT_EQ(to_hex(scrypt(as_bytes(""), as_bytes(""), {.n = 16, .r = 1, .p = 1}, 64)->span()),
            "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
            "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906");
  EXPECT_EQ(
      to_hex(
          scrypt(as_bytes("password"), as_bytes("NaCl"), {.n = 1024, .r = 8, .p = 16}, 64)->span()),
      "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
      "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640");
  EXPECT_EQ(to_hex(scrypt(as_bytes("pleaseletmein"), as_bytes("SodiumChloride"),
                          {.n = 16384, .r = 8, .p = 1}, 64)
                       ->span()),
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
            "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887");
}

TEST(Scrypt, refuses_a_cost_that_a_bad_file_could_ask_for) {
  for (const ScryptCost cost :
       {ScryptCost{}, ScryptCost{.n = 1000, .r = 8, .p = 1},
        ScryptCost{.n = 1ULL << 40, .r = 8, .p = 1}, ScryptCost{.n = 1 << 20, .r = 64, .p = 1},
        ScryptCost{.n = 1 << 10, .r = 8, .p = 1U << 31}}) {
    EXPECT_EQ(scrypt(as_bytes("x"), as_bytes("y"), cost, 32).error().code,
              ErrorCode::kInvalidArgument);
  }
}

const KeyPair& rsa() {
  static const KeyPair pair = KeyPair::generate_rsa(3072);
  return pair;
}

TEST(RsaOaep, opens_what_it_sealed_and_only_under_the_same_label) {
  const Bytes sealed = *rsa_oaep_seal(rsa().public_key(), as_bytes("label"), as_bytes("secret"));
  EXPECT_EQ(sealed.size(), 384u);
  EXPECT_EQ(as_text(rsa_oaep_open(rsa(), as_bytes("label"), sealed)->span()), "secret");
  EXPECT_EQ(rsa_oaep_open(rsa(), as_bytes("Label"), sealed).error().code, ErrorCode::kWrongKey);
  EXPECT_EQ(rsa_oaep_open(rsa(), {}, sealed).error().code, ErrorCode::kWrongKey);
}

TEST(RsaOaep, refuses_altered_and_truncated_ciphertext_and_other_keys) {
  Bytes sealed = *rsa_oaep_seal(rsa().public_key(), {}, as_bytes("secret"));
  EXPECT_FALSE(rsa_oaep_open(rsa(), {}, ByteSpan(sealed).first(383)).ok());
  EXPECT_FALSE(rsa_oaep_open(KeyPair::generate_rsa(3072), {}, sealed).ok());
  sealed[100] ^= std::byte{1};
  EXPECT_FALSE(rsa_oaep_open(rsa(), {}, sealed).ok());
  const KeyPair ec = KeyPair::generate_ec(KeyKind::kEcP256);
  EXPECT_EQ(rsa_oaep_seal(ec.public_key(), {}, as_bytes("x")).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(rsa_oaep_seal(rsa().public_key(), {}, Bytes(400)).error().code,
            ErrorCode::kInvalidArgument);
}

TEST(KeyPair, comes_back_from_pkcs8_and_its_public_half_from_der_and_pem) {
  const KeyPair ec = KeyPair::generate_ec(KeyKind::kEcP384);
  const KeyPair again = *KeyPair::from_pkcs8(ec.to_pkcs8().span());
  EXPECT_EQ(again.public_key().to_der(), ec.public_key().to_der());
  EXPECT_EQ(again.public_key().kind(), KeyKind::kEcP384);
  EXPECT_EQ(SpkiKey::from_der(ec.public_key().to_der())->to_pem(), ec.public_key().to_pem());
  EXPECT_EQ(SpkiKey::from_pem(rsa().public_key().to_pem())->fingerprint(),
            rsa().public_key().fingerprint());
  EXPECT_EQ(rsa().public_key().bits(), 3072);
}

TEST(KeyPair, refuses_garbage_and_trailing_bytes) {
  Bytes der = rsa().public_key().to_der();
  der.push_back(std::byte{0});
  EXPECT_EQ(SpkiKey::from_der(der).error().code, ErrorCode::kCorrupt);
  EXPECT_FALSE(SpkiKey::from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n").ok());
  EXPECT_FALSE(KeyPair::from_pkcs8(as_bytes("nonsense")).ok());
}

class X509 : public testing::Test {
 protected:
  KeyPair ca_key_ = KeyPair::generate_ec(KeyKind::kEcP256);
  Certificate ca_ = make_ca(ca_key_, {.common_name = "site A", .now = kNow, .valid_days = 100});
};

TEST_F(X509, issues_leaves_that_its_ca_and_no_other_vouches_for) {
  const KeyPair leaf_key = KeyPair::generate_ec(KeyKind::kEcP256);
  const Certificate leaf = *issue_leaf(ca_, ca_key_, leaf_key.public_key(),
                                       {.common_name = "daemon",
                                        .dns_names = {"a.example"},
                                        .ip_addresses = {"127.0.0.1", "::1"},
                                        .uris = {"holdfast:site:00"},
                                        .now = kNow,
                                        .valid_days = 10});
  EXPECT_TRUE(leaf.signed_by(ca_));
  EXPECT_TRUE(ca_.signed_by(ca_));
  EXPECT_TRUE(ca_.is_ca());
  EXPECT_FALSE(leaf.is_ca());
  EXPECT_EQ(leaf.common_name(), "daemon");
  EXPECT_EQ(leaf.uris(), std::vector<std::string>{"holdfast:site:00"});
  EXPECT_EQ(leaf.public_key()->to_der(), leaf_key.public_key().to_der());
  EXPECT_EQ(Certificate::from_pem(leaf.to_pem())->fingerprint(), leaf.fingerprint());

  const KeyPair other_key = KeyPair::generate_ec(KeyKind::kEcP256);
  const Certificate other =
      make_ca(other_key, {.common_name = "site A", .now = kNow, .valid_days = 100});
  EXPECT_FALSE(leaf.signed_by(other));  // the same name, another key
}

TEST_F(X509, refuses_names_that_are_not_names) {
  const LeafOptions good{.common_name = "x", .now = kNow, .valid_days = 1};
  const auto code = [&](const LeafOptions& options) {
    return issue_leaf(ca_, ca_key_, rsa().public_key(), options).error().code;
  };
  LeafOptions bad = good;
  bad.dns_names = {"a b"};
  EXPECT_EQ(code(bad), ErrorCode::kInvalidArgument);
  bad = good;
  bad.ip_addresses = {"300.1.1.1"};
  EXPECT_EQ(code(bad), ErrorCode::kInvalidArgument);
  bad = good;
  bad.common_name = "line\nfeed";
  EXPECT_EQ(code(bad), ErrorCode::kInvalidArgument);
  EXPECT_EQ(subject_key_from_pem("nothing").error().code, ErrorCode::kInvalidArgument);
}

TEST_F(X509, issues_endorsement_certificates_that_fit_a_tpm_index) {
  const EkOptions options{.manufacturer = "id:00001014",
                          .model = "holdfast",
                          .firmware_version = "id:00000001",
                          .specification_revision = 164,
                          .now = kNow};
  const KeyPair ec = KeyPair::generate_ec(KeyKind::kEcP384);
  for (const SpkiKey* ek : {&rsa().public_key(), &ec.public_key()}) {
    const Certificate certificate = *issue_ek(ca_, ca_key_, *ek, options);
    EXPECT_TRUE(certificate.signed_by(ca_));
    EXPECT_FALSE(certificate.is_ca());
    EXPECT_LE(certificate.to_der().size(), 1200u);  // an NV index holds 2048 at most
    EXPECT_EQ(Certificate::from_der(certificate.to_der())->fingerprint(),
              certificate.fingerprint());
  }
}

}  // namespace
}  // namespace hf::crypto
