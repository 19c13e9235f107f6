#include "attestation/tpm/credential.h"

#include <gtest/gtest.h>

#include "attestation/testing/real_tpm.h"

namespace hf::attestation {
namespace {

const Bytes kSecret =
    from_hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").value();

class Credentials : public testing::TestWithParam<int> {
 protected:
  RealTpm::Key endorsement_key(RealTpm& tpm) {
    switch (GetParam()) {
      case 0:
        return tpm.create_rsa_ek();
      case 1:
        return tpm.create_ecc_ek(kCurveP256, 0x000B, 128);
      default:
        return tpm.create_ecc_ek(kCurveP384, 0x000C, 256);
    }
  }
};

TEST_P(Credentials, open_in_the_tpm_with_the_key_they_name_only) {
  RealTpm tpm;
  const RealTpm::Key ek = endorsement_key(tpm);
  const RealTpm::Key ak = tpm.create_ecc_ak(kCurveP256, 0x000B);
  const TpmPublic ek_public = parse_public(ek.area).value();
  const Bytes name = parse_public(ak.area).value().name;
  for (size_t size : {size_t{1}, size_t{16}, size_t{32}}) {
    const ByteSpan secret = ByteSpan(kSecret).first(size);
    const Credential credential = make_credential(ek_public, name, secret).value();
    const auto opened = tpm.activate(ak, ek, credential.id_object, credential.encrypted_secret);
    EXPECT_EQ(opened.code, 0U);
    EXPECT_EQ(opened.secret, Bytes(secret.begin(), secret.end()));
  }
  const RealTpm::Key other = tpm.create_ecc_ak(kCurveP384, 0x000C);
  const Credential credential = make_credential(ek_public, name, kSecret).value();
  EXPECT_NE(tpm.activate(other, ek, credential.id_object, credential.encrypted_secret).code, 0U);
  for (size_t at : {size_t{4}, size_t{10}, credential.id_object.size() - 1}) {
    Bytes changed = credential.id_object;
    changed[at] ^= std::byte{1};
    EXPECT_NE(tpm.activate(ak, ek, changed, credential.encrypted_secret).code, 0U) << at;
  }
}
INSTANTIATE_TEST_SUITE_P(Keys, Credentials, testing::Values(0, 1, 2));

TEST(Credential, is_made_for_storage_keys_and_digests_only) {
  RealTpm tpm;
  const TpmPublic ek = parse_public(tpm.create_rsa_ek().area).value();
  const TpmPublic ak = parse_public(tpm.create_ecc_ak(kCurveP256, 0x000B).area).value();
  EXPECT_FALSE(make_credential(ak, ak.name, kSecret).ok());
  EXPECT_FALSE(make_credential(ek, ak.name, {}).ok());
  EXPECT_FALSE(make_credential(ek, ak.name, Bytes(33)).ok());
  const Credential first = make_credential(ek, ak.name, kSecret).value();
  const Credential second = make_credential(ek, ak.name, kSecret).value();
  EXPECT_NE(first.encrypted_secret, second.encrypted_secret);
  EXPECT_NE(first.id_object, second.id_object);
}

}  // namespace
}  // namespace hf::attestation
