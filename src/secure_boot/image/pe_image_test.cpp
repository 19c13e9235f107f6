#include "secure_boot/image/pe_image.h"

#include <gtest/gtest.h>

#include "secure_boot/testing/test_boot_files.h"
#include "secure_boot/testing/test_pe.h"

namespace hf::secure_boot {
namespace {

class SignedImage : public testing::TestWithParam<const char*> {
 protected:
  Bytes file() const {
    return read_test_file(std::string(GetParam()) == "kernel" ? kernel_path() : GetParam());
  }
};

TEST_P(SignedImage, has_the_digest_that_was_signed) {
  const Bytes bytes = file();
  Result<PeImage> image = PeImage::parse(bytes);
  ASSERT_TRUE(image.ok()) << image.error().cause;
  EXPECT_EQ(image->machine(), kPeMachineX64);
  EXPECT_EQ(image->subsystem(), kPeSubsystemEfiApplication);
  EXPECT_TRUE(image->is_pe32_plus());
  EXPECT_TRUE(image->certificate_table().whole);
  EXPECT_TRUE(image->certificates_end_file());
  const std::vector<ImageSignature> signatures = signatures_of(*image);
  ASSERT_FALSE(signatures.empty());
  for (const ImageSignature& entry : signatures) {
    ASSERT_TRUE(entry.signature) << entry.error;
    EXPECT_TRUE(entry.covers_image);
  }
}

TEST_P(SignedImage, cut_short_anywhere_is_refused) {
  const Bytes bytes = file();
  for (size_t size : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{256}, size_t{511},
                      bytes.size() / 2, bytes.size() - 4096, bytes.size() - 8, bytes.size() - 1}) {
    EXPECT_FALSE(PeImage::parse(ByteSpan(bytes).first(size)).ok()) << size;
  }
}

TEST_P(SignedImage, digests_do_not_cover_checksum_and_certificates) {
  Bytes bytes = file();
  const Result<PeImage> image = PeImage::parse(bytes);
  ASSERT_TRUE(image.ok());
  const Bytes digest = *image->authenticode_digest(DigestAlgorithm::kSha256);
  const size_t pe = load_le<uint32_t>(bytes.data() + 60);
  bytes[pe + 24 + 64] ^= std::byte{0xFF};      // checksum
  bytes[bytes.size() - 1] ^= std::byte{0xFF};  // the certificate table
  EXPECT_EQ(*PeImage::parse(bytes)->authenticode_digest(DigestAlgorithm::kSha256), digest);
  bytes[pe + 24 + 63] ^= std::byte{0xFF};  // the byte before the checksum: SizeOfHeaders
  bytes[pe + 24 + 63] ^= std::byte{0xFF};
  bytes[pe + 24 + 70] ^= std::byte{0x01};  // DllCharacteristics
  EXPECT_NE(*PeImage::parse(bytes)->authenticode_digest(DigestAlgorithm::kSha256), digest);
}

INSTANTIATE_TEST_SUITE_P(Debian, SignedImage,
                         testing::Values(kShim, kFallback, kMokManager, kGrub, "kernel"));

TEST(PeImage, debians_shim_is_signed_under_both_certificates_of_microsoft) {
  const Bytes bytes = read_test_file(kShim);
  const PeImage image = PeImage::parse(bytes).value();
  const std::vector<ImageSignature> signatures = signatures_of(image);
  ASSERT_EQ(signatures.size(), 2U);
  EXPECT_TRUE(signatures[0].signature->chains_to(
      certificate_of(image, "Microsoft Corporation UEFI CA 2011")));
  EXPECT_FALSE(
      signatures[0].signature->chains_to(certificate_of(image, "CN=Microsoft UEFI CA 2023,")));
  EXPECT_TRUE(
      signatures[1].signature->chains_to(certificate_of(image, "CN=Microsoft UEFI CA 2023,")));
}

TEST(PeImage, finds_sections_and_their_content) {
  const Bytes bytes = read_test_file(kShim);
  const PeImage image = PeImage::parse(bytes).value();
  const PeSection* sbat = image.section(".sbat");
  ASSERT_NE(sbat, nullptr);
  EXPECT_TRUE(as_text(image.content(*sbat)).starts_with("sbat,1,SBAT Version"));
  EXPECT_EQ(image.content(*sbat).size(), sbat->virtual_size);
  EXPECT_EQ(image.section(".nothing"), nullptr);
}

TEST(PeImage, an_unsigned_image_has_no_signatures) {
  const Bytes bytes = read_test_file(kUnsignedShim);
  const PeImage image = PeImage::parse(bytes).value();
  EXPECT_FALSE(image.is_signed());
  EXPECT_TRUE(signatures_of(image).empty());
  EXPECT_TRUE(image.certificate_table().whole);
}

TEST(PeImage, a_certificate_table_that_does_not_add_up_is_not_whole) {
  Bytes bytes = read_test_file(kFallback);
  const uint64_t table = PeImage::parse(bytes)->certificate_range().offset;
  for (uint32_t length : {0U, 7U, 8U, 9U, 0x7FFFFFFFU, 0xFFFFFFFFU}) {
    Bytes edited = bytes;
    store_le<uint32_t>(edited.data() + table, length);
    const PeImage image = PeImage::parse(edited).value();
    const CertificateTable parsed = image.certificate_table();
    EXPECT_FALSE(parsed.whole && !parsed.entries.empty() && !parsed.entries[0].pkcs7.empty())
        << length;
  }
}

TEST(PeImage, what_is_not_a_program_is_refused) {
  for (const Bytes& bytes : {Bytes(), Bytes(64), Bytes(4096), Bytes(4096, std::byte{0xFF})}) {
    Result<PeImage> image = PeImage::parse(bytes);
    ASSERT_FALSE(image.ok());
    EXPECT_EQ(image.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(PeImage, headers_that_contradict_themselves_are_refused) {
  const Bytes bytes = read_test_file(kFallback);
  const size_t pe = load_le<uint32_t>(bytes.data() + 60);
  struct Case {
    size_t offset;
    uint32_t value;
    size_t size;
  };
  for (const Case& c : {Case{0, 0x4551, 4},                  // no signature
                        Case{6, 0xFFFF, 2},                  // sections
                        Case{20, 0xF8, 2},                   // size of the optional header
                        Case{24, 0x30B, 2},                  // magic
                        Case{24 + 56, 0, 4},                 // size of the image
                        Case{24 + 60, 0, 4},                 // size of the headers
                        Case{24 + 60, 0x7FFFFFFF, 4},        //
                        Case{24 + 108, 17, 4},               // data directories
                        Case{24 + 112 + 36, 0x7FFFFFFF, 4},  // size of the certificate table
                        Case{264 + 16, 0x7FFFFFFF, 4},       // a section's size
                        Case{264 + 20, 1, 4}}) {             // a section over the headers
    Bytes edited = bytes;
    std::byte* at = edited.data() + pe + c.offset;
    if (c.size == 2) store_le<uint16_t>(at, static_cast<uint16_t>(c.value));
    if (c.size == 4) store_le<uint32_t>(at, c.value);
    EXPECT_FALSE(PeImage::parse(edited).ok()) << c.offset << " = " << c.value;
  }
}

TEST(PeImage, sections_over_each_other_are_not_hashed_time_and_again) {
  std::vector<TestSection> sections{{.name = ".data", .content = Bytes(100'000)}};
  while (sections.size() < 200) {
    sections.push_back({.name = ".more", .raw_offset = 16384, .raw_size = 100'000});
  }
  const Bytes bytes = test_program(sections);
  const PeImage image = PeImage::parse(bytes).value();
  EXPECT_FALSE(image.hashed_ranges().ok());
  EXPECT_EQ(judge_by_firmware(image, {}).verdict, Verdict::kDamaged);
  EXPECT_EQ(judge_by_shim(image, {}, {}, ShimCaller::kShim).verdict, Verdict::kDamaged);
}

TEST(PeImage, hashing_ends_at_its_budget_or_when_it_is_stopped) {
  const Bytes bytes = test_program({{.name = ".data", .content = Bytes(5'000'000)}});
  HashBudget budget{.bytes_left = bytes.size()};
  const PeImage image = PeImage::parse(bytes, &budget).value();
  EXPECT_TRUE(image.authenticode_digest(DigestAlgorithm::kSha256).ok());
  EXPECT_EQ(image.authenticode_digest(DigestAlgorithm::kSha1).error().code, ErrorCode::kLimit);
  EXPECT_EQ(budget.bytes_left, 0U);
  EXPECT_TRUE(image.authenticode_digest(DigestAlgorithm::kSha256).ok());  // known already

  size_t asked = 0;
  HashBudget stopped{.stop = [&] { return ++asked == 3; }};
  const PeImage again = PeImage::parse(bytes, &stopped).value();
  EXPECT_EQ(again.authenticode_digest(DigestAlgorithm::kSha256).error().code,
            ErrorCode::kUnavailable);
  EXPECT_EQ(asked, 3U);
}

}  // namespace
}  // namespace hf::secure_boot
