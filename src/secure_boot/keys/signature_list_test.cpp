#include "secure_boot/keys/signature_list.h"

#include <gtest/gtest.h>

#include <random>

#include "crypto/crypto.h"
#include "secure_boot/keys/variable_store.h"
#include "secure_boot/testing/test_files.h"

namespace hf::secure_boot {
namespace {

Digest digest(uint8_t fill) {
  Digest out;
  out.bytes.fill(static_cast<std::byte>(fill));
  return out;
}

SecureBootVariables variables_of(const char* path) {
  auto store = VariableStore::parse(read_test_file(path));
  HF_ASSERT(store.ok());
  return secure_boot_variables(*store);
}

TEST(SignatureList, reads_the_databases_of_debians_template) {
  const SecureBootVariables held = variables_of(kMicrosoftStore);
  const SignatureDatabase db = SignatureDatabase::parse(*held.db).value();
  ASSERT_EQ(db.lists().size(), 2U);
  const SignatureWords first = describe(db.lists()[0], db.lists()[0].signatures[0]);
  const SignatureWords second = describe(db.lists()[1], db.lists()[1].signatures[0]);
  EXPECT_EQ(first.type, "X509");
  EXPECT_EQ(first.title + "/" + second.title,
            "Microsoft Windows Production PCA 2011/Microsoft Corporation UEFI CA 2011");
  EXPECT_EQ(second.fingerprint, "48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507");
  EXPECT_EQ(second.detail,
            "issued by Microsoft Corporation Third Party Marketplace Root, RSA 2048, 2011-06-27 to "
            "2026-06-27");
  const SignatureDatabase dbx = SignatureDatabase::parse(*held.dbx).value();
  ASSERT_EQ(dbx.size(), 1U);
  const SignatureWords placeholder = describe(dbx.lists()[0], dbx.lists()[0].signatures[0]);
  EXPECT_EQ(placeholder.type, "SHA256");
  EXPECT_EQ(placeholder.detail, "the digest of nothing: a placeholder");
}

TEST(SignatureList, reads_security_versions_of_windows_loaders_which_are_no_digests) {
  const auto words = [](std::string_view hex, const Guid& owner = guids::kMicrosoft) {
    const SignatureDatabase database =
        SignatureDatabase::of_sha256(owner, {Digest::parse_hex(hex).value()});
    const SignatureWords out = describe(database.lists()[0], database.lists()[0].signatures[0]);
    return out.type + " " + out.title;
  };
  EXPECT_EQ(words("01612b139dd5598843ab1c185c3cb2eb92000007000000000000000000000000"),
            "SVN bootmgfw.efi below security version 7.0");
  EXPECT_EQ(words("019d2ef8e827e15841a4884c18abe2f284000003000000000000000000000000"),
            "SVN cdboot.efi below security version 3.0");
  EXPECT_EQ(words("01c2ca99c9fe7f6f4981279e2a8a535976000003000000000000000000000000"),
            "SVN wdsmgfw.efi below security version 3.0");
  const std::string other = "02c2ca99c9fe7f6f4981279e2a8a535976000003000000000000000000000000";
  EXPECT_EQ(words(other), "SHA256 " + other);
  // A loader that is not known, by the owner that all of them have.
  const std::string unknown = "0100112233445566778899aabbccddeeff020001000000000000000000000000";
  EXPECT_EQ(words(unknown), "SHA256 " + unknown);
  EXPECT_EQ(words(unknown, Guid::of("9d132b6c-59d5-4388-ab1c-185cfcb2eb92")),
            "SVN the Windows loader 33221100-5544-7766-8899-aabbccddeeff below security version "
            "1.2");
}

TEST(SignatureList, gives_its_bytes_back) {
  for (const char* path : {kMicrosoftStore, kSnakeoilStore, kSmallStore}) {
    const SecureBootVariables held = variables_of(path);
    for (const auto& lists : {held.pk, held.kek, held.db, held.dbx}) {
      EXPECT_EQ(SignatureDatabase::parse(*lists).value().to_bytes(), *lists);
    }
  }
}

TEST(SignatureList, appends_without_doubles) {
  SignatureDatabase database =
      SignatureDatabase::of_sha256(guids::kHoldfast, {digest(1), digest(2)});
  const SignatureDatabase more =
      SignatureDatabase::of_sha256(guids::kHoldfast, {digest(2), digest(3), digest(3)});
  EXPECT_EQ(database.append(more), 1U);
  EXPECT_EQ(database.size(), 3U);
  EXPECT_EQ(database.append(more), 0U);
  // Another owner's is another signature, as the firmware compares them.
  EXPECT_EQ(database.append(SignatureDatabase::of_sha256(guids::kMicrosoft, {digest(3)})), 1U);
  EXPECT_EQ(database.remove(SignatureDatabase::of_sha256(Guid{}, {digest(3)})), 2U);
  EXPECT_EQ(database.size(), 2U);
  EXPECT_TRUE(database.contains(guids::kSha256, digest(1).bytes));
  EXPECT_FALSE(database.contains(guids::kSha256, digest(3).bytes));
}

TEST(SignatureList, refuses_broken_sizes_and_says_which) {
  const Bytes good =
      SignatureDatabase::of_sha256(guids::kHoldfast, {digest(1), digest(2)}).to_bytes();
  const auto with = [&](size_t at, uint32_t value) {
    Bytes bad = good;
    store_le<uint32_t>(&bad[at], value);
    auto parsed = SignatureDatabase::parse(bad);
    return parsed.ok() ? std::string("taken") : parsed.error().cause;
  };
  EXPECT_EQ(with(16, 27),
            "signature list 0: its size 27 is not within the 124 bytes that are left");
  EXPECT_EQ(with(16, 125),
            "signature list 0: its size 125 is not within the 124 bytes that are left");
  EXPECT_EQ(with(20, 97), "signature list 0: its header of 97 bytes is longer than itself");
  EXPECT_EQ(with(24, 15), "signature list 0: a signature of 15 bytes has no room for its owner");
  EXPECT_EQ(with(24, 47), "signature list 0: 96 bytes are not whole signatures of 47");
  EXPECT_EQ(with(16, 76),
            "signature list 1: its size 33686018 is not within the 48 bytes that are left");
  Bytes tail = good;
  tail.push_back(std::byte{0});
  EXPECT_EQ(SignatureDatabase::parse(tail).error().cause,
            "signature list 1: 1 bytes are too few for its header");
}

TEST(SignatureList, bounds_what_it_takes) {
  EXPECT_EQ(SignatureDatabase::parse(Bytes(kDatabaseBytesMax + 1)).error().code, ErrorCode::kLimit);
  Bytes many(kSignatureListHeaderSize + (kSignaturesMax + 1) * Guid::kSize);
  guids::kSha256.store(many.data());
  store_le<uint32_t>(&many[16], static_cast<uint32_t>(many.size()));
  store_le<uint32_t>(&many[24], Guid::kSize);
  EXPECT_EQ(SignatureDatabase::parse(many).error().code, ErrorCode::kLimit);
}

TEST(SignatureList, knows_what_firmware_refuses) {
  EXPECT_TRUE(
      check_firmware_takes(
          SignatureDatabase::of_certificate(guids::kHoldfast, read_test_file(kDebianCa)), true)
          .ok());
  const Bytes junk(40, std::byte{7});
  EXPECT_FALSE(
      check_firmware_takes(SignatureDatabase::of_certificate(guids::kHoldfast, junk), false).ok());
  SignatureDatabase two = SignatureDatabase::of_sha256(guids::kHoldfast, {digest(1), digest(2)});
  EXPECT_TRUE(check_firmware_takes(two, false).ok());
  EXPECT_FALSE(check_firmware_takes(two, true).ok());
}

// What survives a mutation must still give back exactly its own bytes, and nothing crashes.
TEST(SignatureList, survives_mutations) {
  const SecureBootVariables held = variables_of(kMicrosoftStore);
  std::mt19937 random(20'261'122);
  size_t taken = 0;
  for (int round = 0; round < 20'000; ++round) {
    Bytes bytes = round % 2 == 0 ? *held.kek : *held.dbx;
    for (size_t changes = 1 + random() % 3; changes > 0; --changes) {
      const size_t within = random() % 2 == 0 ? kSignatureListHeaderSize : bytes.size();
      bytes[random() % within] = static_cast<std::byte>(random());
    }
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    auto parsed = SignatureDatabase::parse(bytes);
    if (!parsed.ok()) {
      EXPECT_FALSE(parsed.error().cause.empty());
      continue;
    }
    ++taken;
    ASSERT_EQ(parsed->to_bytes(), bytes);
    for (const SignatureList& list : parsed->lists()) {
      for (const Signature& signature : list.signatures) (void)describe(list, signature);
    }
    (void)check_firmware_takes(*parsed, false).ok();
  }
  EXPECT_GT(taken, 1'000U);
}

}  // namespace
}  // namespace hf::secure_boot
