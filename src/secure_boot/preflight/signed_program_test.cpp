#include "secure_boot/preflight/signed_program.h"

#include <gtest/gtest.h>

#include <fstream>

#include "secure_boot/change/content.h"
#include "secure_boot/change/profiles.h"
#include "secure_boot/preflight/boot_option.h"

namespace hf::secure_boot {
namespace {

Bytes file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  ByteSpan bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

// Debian's shim, signed under both of Microsoft's UEFI authorities.
class SignedProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Bytes shim = file(std::string(kHostShim));
    Bytes store = file("/usr/share/OVMF/OVMF_VARS_4M.ms.fd");
    if (shim.empty() || store.empty()) GTEST_SKIP() << "shim or OVMF is not installed";
    PeImage image = std::move(PeImage::parse(shim)).value();
    program_.judged_by = "firmware";
    program_.sha256 = *image.authenticode_digest(DigestAlgorithm::kSha256);
    for (const WinCertificate& entry : image.certificate_table().entries) {
      program_.signatures.emplace_back(entry.pkcs7.begin(), entry.pkcs7.end());
    }
    variables_ = secure_boot_variables(*VariableStore::parse(store));
    state_ = *secure_boot_state_of(variables_);
    by_image_ = judge_by_firmware(image, state_);
  }
  SignedProgram program_;
  SecureBootVariables variables_;
  SecureBootState state_;
  ImageVerdict by_image_;
};

TEST_F(SignedProgramTest, the_kept_signatures_say_what_the_image_itself_would) {
  ASSERT_TRUE(by_image_.authority.has_value());
  auto by = authority_for(program_, state_);
  ASSERT_TRUE(by.has_value());
  EXPECT_EQ(by->data, by_image_.authority->data);
  EXPECT_EQ(by->variable, "db");
  EXPECT_EQ(authorities_of({program_}, state_).size(), 1U);
}

TEST_F(SignedProgramTest, nothing_vouches_where_db_has_no_signer) {
  state_.db = SignatureDatabase();
  EXPECT_FALSE(authority_for(program_, state_).has_value());
  EXPECT_TRUE(authorities_of({program_}, state_).empty());
}

TEST_F(SignedProgramTest, what_shim_brought_along_vouches_whatever_the_keys) {
  SignedProgram grub{
      .judged_by = "shim",
      .sha256 = Bytes(32, std::byte{7}),
      .vouched = Authority{.variable = "MokListRT", .data = Bytes(20), .from_shim = true}};
  state_.db = SignatureDatabase();
  auto by = authority_for(grub, state_);
  ASSERT_TRUE(by.has_value());
  EXPECT_EQ(by->variable, "MokListRT");
  grub.vouched = std::nullopt;
  EXPECT_FALSE(authority_for(grub, state_).has_value());
}

TEST_F(SignedProgramTest, a_revoked_digest_is_named) {
  EXPECT_FALSE(revocation_of(program_, state_).has_value());
  Digest digest;
  std::copy(program_.sha256.begin(), program_.sha256.end(), digest.bytes.begin());
  state_.dbx = SignatureDatabase::of_sha256(guids::kImageSecurity, {digest});
  auto by = revocation_of(program_, state_);
  ASSERT_TRUE(by.has_value());
  EXPECT_EQ(by->variable, "dbx");
}

TEST_F(SignedProgramTest, survives_json) {
  program_.vouched = by_image_.authority;
  auto again = signed_programs_from_json(to_json(std::vector{program_}));
  ASSERT_TRUE(again.ok());
  ASSERT_EQ(again->size(), 1U);
  EXPECT_EQ(again->front().signatures, program_.signatures);
  EXPECT_EQ(again->front().vouched->data, program_.vouched->data);
  EXPECT_EQ(again->front().vouched->vendor, program_.vouched->vendor);
}

TEST_F(SignedProgramTest, what_the_owner_enrolled_vouches_only_while_it_is_enrolled) {
  SignedProgram grub{.judged_by = "shim",
                     .sha256 = Bytes(32, std::byte{7}),
                     .vouched = Authority{.variable = "MokListRT", .data = Bytes(20)}};
  EXPECT_FALSE(authority_for(grub, state_).has_value());
  Digest digest;
  std::ranges::copy(grub.sha256, digest.bytes.begin());
  state_.mok = SignatureDatabase::of_sha256(guids::kHoldfast, {digest});
  EXPECT_TRUE(authority_for(grub, state_).has_value());
}

TEST_F(SignedProgramTest, older_records_hold_what_shim_brought_along) {
  program_.vouched = Authority{.variable = "MokListRT", .data = Bytes(20), .from_shim = false};
  sys::JsonArray list = to_json(std::vector{program_});
  EXPECT_FALSE(signed_programs_from_json(list)->front().vouched->from_shim);
  list[0].as_object()["vouched"].as_object().erase("from_shim");
  EXPECT_TRUE(signed_programs_from_json(list)->front().vouched->from_shim);
}

TEST_F(SignedProgramTest, a_signer_revoked_by_the_digest_of_his_certificate_is_named) {
  Bytes entries;
  for (const Bytes& blob : program_.signatures) {
    const Bytes signer = AuthenticodeSignature::parse(blob)->signers().front();
    const Bytes digest = *tbs_digest(DigestAlgorithm::kSha256, signer);
    entries.insert(entries.end(), Guid::kSize, std::byte{0});
    entries.insert(entries.end(), digest.begin(), digest.end());
    entries.resize(entries.size() + 16);  // the time of revocation
  }
  Bytes list(kSignatureListHeaderSize);
  guids::kX509Sha256.store(list.data());
  store_le<uint32_t>(list.data() + 16, static_cast<uint32_t>(list.size() + entries.size()));
  store_le<uint32_t>(list.data() + 24, 16 + 32 + 16);
  list.insert(list.end(), entries.begin(), entries.end());
  state_.dbx = SignatureDatabase::parse(list).value();
  auto by = revocation_of(program_, state_);
  ASSERT_TRUE(by.has_value());
  EXPECT_EQ(by->variable, "dbx");
  EXPECT_NE(by->words.find("the digest of"), std::string::npos) << by->words;
  program_.judged_by = "shim";  // which does not look at these
  EXPECT_FALSE(revocation_of(program_, state_).has_value());
}

}  // namespace
}  // namespace hf::secure_boot
