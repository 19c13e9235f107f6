#include "secure_boot/keys/certificate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "crypto/x509.h"
#include "secure_boot/keys/signature_list.h"
#include "secure_boot/keys/signed_data.h"
#include "secure_boot/keys/variable_store.h"
#include "secure_boot/testing/test_files.h"
#include "secure_boot/testing/test_keys.h"

namespace hf::secure_boot {
namespace {

Bytes certificate(const std::string& common_name, std::vector<std::string> uris = {}) {
  const Micros now{1'790'000'000'000'000};
  const auto ca_key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
  const auto ca = crypto::make_ca(ca_key, {.common_name = "The CA", .now = now, .valid_days = 9});
  const auto key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
  return crypto::issue_leaf(
             ca, ca_key, key.public_key(),
             {.common_name = common_name, .uris = std::move(uris), .now = now, .valid_days = 5})
      .value()
      .to_der();
}

void expect_same_names(ByteSpan der) {
  const CertificateFacts facts = read_certificate(der).value();
  const CertificateNames names = read_certificate_names(der).value();
  EXPECT_EQ(names.common_name, facts.common_name);
  EXPECT_EQ(name_text(names.subject), facts.subject);
  EXPECT_EQ(names.fingerprint, facts.fingerprint);
  EXPECT_EQ(words(names), words(facts));
}

TEST(CertificateNames, are_those_of_the_whole_reading) {
  for (const std::string name : {"Debian Secure Boot CA", "a, \"b\" = c+d", "a"}) {
    expect_same_names(certificate(name));
  }
  // What issue_leaf() does not take, put in afterwards: no signature is looked at.
  const std::string place = "<4321>";
  const Bytes der = certificate(place);
  for (const std::string_view name : {"a\\bcde", "Zo\xc3\xab..", "a\nbcde", "a;bcde"}) {
    Bytes changed = der;
    const auto at = std::ranges::search(changed, as_bytes(place)).begin();
    ASSERT_NE(at, changed.end());
    std::ranges::copy(as_bytes(name).first(std::min(name.size(), place.size())), at);
    expect_same_names(changed);
  }
}

// Authorities whose names have an organization and no common name.
TEST(Certificate, of_an_issuer_without_a_common_name_names_it_by_what_it_has) {
  Bytes der = certificate("a leaf");
  const std::string name = "\x55\x04\x03\x0c\x06The CA";  // id-at-commonName, UTF8String
  const auto at = std::ranges::search(der, as_bytes(name)).begin();
  ASSERT_NE(at, der.end());
  at[2] = std::byte{0x0A};  // id-at-organizationName
  const CertificateFacts facts = read_certificate(der).value();
  EXPECT_EQ(issuer_words(facts), "O=The CA");
  EXPECT_EQ(issuer_words(read_certificate(certificate("a leaf")).value()), "The CA");
  const SignatureDatabase database = SignatureDatabase::of_certificate(guids::kHoldfast, der);
  const SignatureWords words = describe(database.lists()[0], database.lists()[0].signatures[0]);
  EXPECT_EQ(words.detail.find("issued by O=The CA, "), 0U) << words.detail;
}

// Names of several attributes, of more kinds of text, some of them not X.520's.
TEST(CertificateNames, are_those_of_the_whole_reading_in_real_databases) {
  size_t seen = 0;
  for (const char* path : {kMicrosoftStore, kSnakeoilStore}) {
    const VariableStore store = VariableStore::parse(read_test_file(path)).value();
    const SecureBootVariables variables = secure_boot_variables(store);
    for (const std::optional<Bytes>& content : {variables.pk, variables.kek, variables.db}) {
      const SignatureDatabase database = SignatureDatabase::parse(content.value()).value();
      for (const SignatureList& list : database.lists()) {
        for (const Signature& signature : list.signatures) {
          if (!read_certificate(signature.data).ok()) continue;
          expect_same_names(signature.data);
          ++seen;
        }
      }
    }
  }
  EXPECT_GE(seen, 6U);
}

// An empty file, as it is read: a span without an address.
TEST(CertificateFile, without_a_byte_holds_no_certificate_and_no_key) {
  const Result<std::vector<Bytes>> found = certificates_in({});
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().cause, "it is empty");
  const Result<crypto::KeyPair> key = private_key_in({});
  ASSERT_FALSE(key.ok());
  EXPECT_EQ(key.error().cause, "it is empty");
  EXPECT_FALSE(read_certificate({}).ok());
  EXPECT_FALSE(read_certificate_names({}).ok());
  EXPECT_FALSE(SignedData::parse({}).ok());
}

TEST(CertificateFile, of_white_space_holds_none_either) {
  EXPECT_FALSE(certificates_in(as_bytes("\n")).ok());
  EXPECT_FALSE(private_key_in(as_bytes("\n")).ok());
}

TEST(SignedData, may_be_of_no_bytes) {
  const TestKey own("Test CA");
  const Bytes signature = sign_detached({}, own.key, own.certificate).value();
  const SignedData data = SignedData::parse(signature).value();
  EXPECT_TRUE(data.verify_detached({}, own.certificate).ok());
  EXPECT_FALSE(data.verify_detached(as_bytes("x"), own.certificate).ok());
}

TEST(CertificateNames, take_one_whole_certificate_only) {
  const Bytes der = certificate("x");
  for (size_t size = 0; size < der.size(); ++size) {
    EXPECT_FALSE(read_certificate_names(ByteSpan(der).first(size)).ok()) << size;
    EXPECT_FALSE(read_certificate_names(ByteSpan(der).subspan(size + 1)).ok()) << size;
  }
  Bytes longer = der;
  longer.push_back(std::byte{});
  EXPECT_FALSE(read_certificate_names(longer).ok());
  // Whatever octet is changed: a result or an error, and never what is not there.
  for (size_t at = 0; at < der.size(); ++at) {
    for (const int change : {0x01, 0x80, 0xff}) {
      Bytes changed = der;
      changed[at] ^= static_cast<std::byte>(change);
      Result<CertificateNames> names = read_certificate_names(changed);
      if (!names.ok()) continue;
      EXPECT_NE(names->fingerprint, read_certificate_names(der)->fingerprint);
      if (Result<CertificateFacts> facts = read_certificate(changed); facts.ok()) {
        EXPECT_EQ(names->common_name, facts->common_name) << at;
        EXPECT_EQ(name_text(names->subject), facts->subject) << at;
      }
    }
  }
}

}  // namespace
}  // namespace hf::secure_boot
