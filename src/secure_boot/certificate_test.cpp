#include "secure_boot/certificate.h"

#include <gtest/gtest.h>

#include "crypto/x509.h"

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

TEST(CertificateNames, are_those_of_the_whole_reading) {
  for (const std::string name : {"Debian Secure Boot CA", "a, \"b\" = c+d"}) {
    const Bytes der = certificate(name);
    const CertificateFacts facts = read_certificate(der).value();
    const CertificateNames names = read_certificate_names(der).value();
    EXPECT_EQ(names.common_name, facts.common_name);
    EXPECT_EQ(names.subject, facts.subject);
    EXPECT_EQ(names.fingerprint, facts.fingerprint);
    EXPECT_EQ(words(names), words(facts));
  }
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
      if (Result<CertificateNames> names = read_certificate_names(changed); names.ok()) {
        EXPECT_NE(names->fingerprint, read_certificate_names(der)->fingerprint);
      }
    }
  }
}

}  // namespace
}  // namespace hf::secure_boot
