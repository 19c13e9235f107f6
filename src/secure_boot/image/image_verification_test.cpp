#include "secure_boot/image/image_verification.h"

#include <gtest/gtest.h>

#include <random>

#include "secure_boot/testing/test_boot_files.h"
#include "secure_boot/testing/test_pe.h"

namespace hf::secure_boot {
namespace {

constexpr std::string_view kUefiCa2011 = "CN=Microsoft Corporation UEFI CA 2011,";
constexpr std::string_view kUefiCa2023 = "CN=Microsoft UEFI CA 2023,";

SignatureDatabase one(ByteSpan der) {
  return SignatureDatabase::of_certificate(guids::kMicrosoft, der);
}

SignatureDatabase of_entry(const Guid& type, ByteSpan data) {
  Bytes raw(28 + 16);
  type.store(raw.data());
  store_le<uint32_t>(raw.data() + 16, static_cast<uint32_t>(28 + 16 + data.size()));
  store_le<uint32_t>(raw.data() + 24, static_cast<uint32_t>(16 + data.size()));
  raw.insert(raw.end(), data.begin(), data.end());
  return SignatureDatabase::parse(raw).value();
}

struct Boot {
  Bytes shim_bytes = read_test_file(kShim);
  Bytes grub_bytes = read_test_file(kGrub);
  PeImage shim = PeImage::parse(shim_bytes).value();
  PeImage grub = PeImage::parse(grub_bytes).value();
  ShimTrust trust = shim_trust_of(shim).value();
};

TEST(Firmware, starts_debians_shim_under_either_certificate) {
  const Boot boot;
  SecureBootState state = microsoft_state();
  ImageVerdict verdict = judge_by_firmware(boot.shim, state);
  EXPECT_TRUE(verdict.allowed()) << verdict.reason;
  ASSERT_TRUE(verdict.authority);
  EXPECT_EQ(verdict.authority->variable, "db");
  EXPECT_NE(verdict.reason.find("UEFI CA 2011"), std::string::npos) << verdict.reason;
  state.db = one(certificate_of(boot.shim, kUefiCa2023));
  verdict = judge_by_firmware(boot.shim, state);
  EXPECT_TRUE(verdict.allowed()) << verdict.reason;
  EXPECT_NE(verdict.reason.find("UEFI CA 2023"), std::string::npos) << verdict.reason;
}

TEST(Firmware, starts_nothing_that_is_not_in_db) {
  const Boot boot;
  SecureBootState state = microsoft_state();
  ImageVerdict verdict = judge_by_firmware(boot.grub, state);
  EXPECT_EQ(verdict.verdict, Verdict::kNotTrusted);
  EXPECT_NE(verdict.reason.find("Debian Secure Boot CA"), std::string::npos) << verdict.reason;
  state.db = {};
  EXPECT_EQ(judge_by_firmware(boot.shim, state).verdict, Verdict::kNotTrusted);
}

TEST(Firmware, a_signer_or_an_intermediate_in_db_is_enough) {
  const Boot boot;
  SecureBootState state;
  state.db = one(certificate_of(boot.shim, "Microsoft Windows UEFI Driver Publisher"));
  EXPECT_TRUE(judge_by_firmware(boot.shim, state).allowed());
  state.db = one(certificate_of(boot.grub, "Debian Secure Boot Signer 2022 - grub2"));
  EXPECT_TRUE(judge_by_firmware(boot.grub, state).allowed());
}

TEST(Firmware, dbx_wins_by_certificate_digest_and_digest_of_certificate) {
  const Boot boot;
  const Bytes signer = certificate_of(boot.shim, "Microsoft Windows UEFI Driver Publisher");
  const Bytes ca = certificate_of(boot.shim, kUefiCa2011);
  const Bytes sha256 = *boot.shim.authenticode_digest(DigestAlgorithm::kSha256);
  Bytes listed = *tbs_digest(DigestAlgorithm::kSha256, signer);
  listed.resize(32 + 16);  // revoked since ever
  Bytes listed_ca = *tbs_digest(DigestAlgorithm::kSha384, ca);
  listed_ca.resize(48 + 16);
  for (const SignatureDatabase& dbx : {one(signer), one(ca), of_entry(guids::kSha256, sha256),
                                       of_entry(guids::kX509Sha256, listed)}) {
    SecureBootState state = microsoft_state();
    state.dbx = dbx;
    EXPECT_EQ(judge_by_firmware(boot.shim, state).verdict, Verdict::kRevoked);
  }
  // The certificate in db is listed by its digest: not a revocation of the image, but no trust.
  SecureBootState state = microsoft_state();
  state.db = one(ca);
  state.dbx = of_entry(guids::kX509Sha384, listed_ca);
  EXPECT_FALSE(judge_by_firmware(boot.shim, state).allowed());
}

TEST(Firmware, a_revoked_signature_condemns_the_image_though_another_is_good) {
  const Boot boot;
  SecureBootState state;
  state.db = one(certificate_of(boot.shim, kUefiCa2023));
  state.dbx = one(certificate_of(boot.shim, kUefiCa2011));
  EXPECT_EQ(judge_by_firmware(boot.shim, state).verdict, Verdict::kRevoked);
}

TEST(Firmware, digests_in_db_let_unsigned_images_start) {
  const Bytes bytes = read_test_file(kUnsignedShim);
  const PeImage image = PeImage::parse(bytes).value();
  SecureBootState state = microsoft_state();
  EXPECT_EQ(judge_by_firmware(image, state).verdict, Verdict::kUnsigned);
  const Bytes sha256 = *image.authenticode_digest(DigestAlgorithm::kSha256);
  state.db = of_entry(guids::kSha256, sha256);
  EXPECT_TRUE(judge_by_firmware(image, state).allowed());
  state.dbx = of_entry(guids::kSha256, sha256);
  EXPECT_EQ(judge_by_firmware(image, state).verdict, Verdict::kRevoked);
}

TEST(Shim, brings_debians_certificate_its_revocations_and_levels) {
  const Boot boot;
  EXPECT_TRUE(boot.trust.vendor_is_certificate);
  EXPECT_EQ(boot.trust.vendor_db.size(), 1U);
  EXPECT_GT(boot.trust.vendor_dbx.size(), 10U);
  ASSERT_TRUE(boot.trust.levels);
  EXPECT_EQ(boot.trust.levels->automatic.limits[0].name, "sbat");
  EXPECT_GE(boot.trust.levels->latest.date, boot.trust.levels->automatic.date);
}

TEST(Shim, starts_grub_and_the_kernel_by_its_own_certificate) {
  const Boot boot;
  const SecureBootState state = microsoft_state();
  const ImageVerdict grub = judge_by_shim(boot.grub, state, boot.trust, ShimCaller::kShim);
  EXPECT_TRUE(grub.allowed()) << grub.reason;
  ASSERT_TRUE(grub.authority);
  EXPECT_EQ(grub.authority->variable, "MokListRT");
  const Bytes kernel_bytes = read_test_file(kernel_path());
  const PeImage kernel = PeImage::parse(kernel_bytes).value();
  EXPECT_TRUE(judge_by_shim(kernel, state, boot.trust, ShimCaller::kProtocol).allowed());
  // A kernel has no SBAT: shim itself would not start it.
  EXPECT_EQ(judge_by_shim(kernel, state, boot.trust, ShimCaller::kShim).verdict, Verdict::kRevoked);
}

TEST(Shim, sbat_revokes_old_generations) {
  const Boot boot;
  SecureBootState state = microsoft_state();
  state.sbat_level = parse_sbat_level(as_bytes("sbat,1,2099010100\ngrub.debian,6\n")).value();
  const ImageVerdict verdict = judge_by_shim(boot.grub, state, boot.trust, ShimCaller::kShim);
  EXPECT_EQ(verdict.verdict, Verdict::kRevoked);
  EXPECT_NE(verdict.reason.find("grub.debian has generation 5"), std::string::npos)
      << verdict.reason;
  // An older level in the variable gives way to shim's own.
  state.sbat_level = parse_sbat_level(as_bytes("sbat,1,2021030218\n")).value();
  EXPECT_EQ(effective_level(state, boot.trust)->date, boot.trust.levels->automatic.date);
  EXPECT_FALSE(revokes_itself(state, boot.trust));
  // An older format of the level, whatever its date.
  state.sbat_level = parse_sbat_level(as_bytes("sbat,0,2099010100\nshim,99\n")).value();
  EXPECT_EQ(effective_level(state, boot.trust)->date, boot.trust.levels->automatic.date);
  state.sbat_latest = true;
  EXPECT_EQ(effective_level(state, boot.trust)->date, boot.trust.levels->latest.date);
  state.sbat_level = parse_sbat_level(as_bytes("sbat,1,2099010100\nshim,99\n")).value();
  EXPECT_TRUE(revokes_itself(state, boot.trust));
}

TEST(Shim, mok_admits_and_mokx_and_dbx_revoke) {
  const Boot boot;
  ShimTrust nobody = boot.trust;
  nobody.vendor_db = {};
  SecureBootState state = microsoft_state();
  EXPECT_EQ(judge_by_shim(boot.grub, state, nobody, ShimCaller::kShim).verdict,
            Verdict::kNotTrusted);
  const Bytes signer = certificate_of(boot.grub, "Debian Secure Boot Signer 2022 - grub2");
  state.mok = one(signer);
  EXPECT_TRUE(judge_by_shim(boot.grub, state, nobody, ShimCaller::kShim).allowed());
  state.mokx = one(signer);
  EXPECT_EQ(judge_by_shim(boot.grub, state, boot.trust, ShimCaller::kShim).verdict,
            Verdict::kRevoked);
  state.mokx = {};
  state.dbx = of_entry(guids::kSha256, *boot.grub.authenticode_digest(DigestAlgorithm::kSha256));
  EXPECT_EQ(judge_by_shim(boot.grub, state, boot.trust, ShimCaller::kShim).verdict,
            Verdict::kRevoked);
}

// Bytes that the digest covers must be the original's, or the image must not be allowed.
class Mutations {
 public:
  Mutations(const char* path, const char* other_path)
      : original_(read_test_file(path)), other_(read_test_file(other_path)) {
    ranges_ = PeImage::parse(original_)->hashed_ranges().value();
  }

  bool covered_is_untouched(const Bytes& edited) const {
    uint64_t covered = 0;
    for (const FileRange& range : ranges_) {
      if (range.offset + range.size > edited.size()) return false;
      if (std::memcmp(edited.data() + range.offset, original_.data() + range.offset, range.size) !=
          0) {
        return false;
      }
      covered = std::max(covered, range.offset + range.size);
    }
    return true;
  }

  Bytes next(std::mt19937& random) const {
    Bytes edited = original_;
    const uint64_t table = PeImage::parse(original_)->certificate_range().offset;
    for (unsigned edits = 1 + random() % 3; edits > 0; --edits) {
      const unsigned kind = random() % 10;
      size_t at = random() % edited.size();
      if (kind < 3) at = random() % std::min<size_t>(edited.size(), 1024);  // headers
      if (kind >= 3 && kind < 6 && table < edited.size()) {
        at = table + random() % (edited.size() - table);
      }
      if (kind == 8) {
        edited.resize(at);
        if (edited.empty()) return edited;
      } else if (kind == 9) {
        splice(edited, at, random);
      } else if (random() % 2 == 0) {
        edited[at] = static_cast<std::byte>(random());
      } else {
        edited[at] ^= static_cast<std::byte>(1U << random() % 8);
      }
    }
    return edited;
  }

 private:
  // The signature of another image, bytes moved within the file, or bytes added to it.
  void splice(Bytes& edited, size_t at, std::mt19937& random) const {
    if (random() % 3 == 0) {
      edited.insert(edited.begin() + static_cast<std::ptrdiff_t>(at), 1 + random() % 64,
                    std::byte{0});
      return;
    }
    const Bytes& from = random() % 2 == 0 ? other_ : original_;
    const size_t size = std::min({size_t{1} << random() % 12, edited.size() - at, from.size()});
    const size_t start = random() % (from.size() - size + 1);
    std::memcpy(edited.data() + at, from.data() + start, size);
  }

  Bytes original_;
  Bytes other_;
  std::vector<FileRange> ranges_;
};

TEST(Mutation, of_ten_thousand_edited_images_none_is_wrongly_allowed) {
  const Boot boot;
  const SecureBootState state = microsoft_state();
  const Mutations source(kFallback, kMokManager);
  std::mt19937 random(20260101);
  size_t allowed = 0;
  size_t judged = 0;
  for (int round = 0; round < 10'000; ++round) {
    const Bytes edited = source.next(random);
    Result<PeImage> image = PeImage::parse(edited);
    if (!image.ok()) continue;
    ++judged;
    const ImageVerdict verdict = judge_by_shim(*image, state, boot.trust, ShimCaller::kShim);
    if (!verdict.allowed()) continue;
    ++allowed;
    ASSERT_TRUE(source.covered_is_untouched(edited)) << "round " << round;
  }
  EXPECT_GT(judged, 5000U);
  EXPECT_GT(allowed, 10U);  // edits of what no digest covers
  EXPECT_LT(allowed, 5000U);
}

TEST(Mutation, firmware_allows_no_edited_shim) {
  const SecureBootState state = microsoft_state();
  const Mutations source(kShim, kGrub);
  std::mt19937 random(20260102);
  for (int round = 0; round < 1500; ++round) {
    const Bytes edited = source.next(random);
    Result<PeImage> image = PeImage::parse(edited);
    if (!image.ok() || !judge_by_firmware(*image, state).allowed()) continue;
    ASSERT_TRUE(source.covered_is_untouched(edited)) << "round " << round;
  }
}

TEST(Firmware, lets_an_unsigned_image_start_by_its_sha256_digest_alone) {
  const Bytes bytes = test_program({{.name = ".data", .content = Bytes(64)}});
  const PeImage image = PeImage::parse(bytes).value();
  SecureBootState state;
  const Bytes sha384 = *image.authenticode_digest(DigestAlgorithm::kSha384);
  state.db = of_entry(guids::kSha384, sha384);
  EXPECT_EQ(judge_by_firmware(image, state).verdict, Verdict::kUnsigned);
  state.db = of_entry(guids::kSha256, *image.authenticode_digest(DigestAlgorithm::kSha256));
  EXPECT_TRUE(judge_by_firmware(image, state).allowed());
  state.dbx = of_entry(guids::kSha384, sha384);
  EXPECT_EQ(judge_by_firmware(image, state).verdict, Verdict::kRevoked);
}

TEST(Firmware, starts_no_image_for_another_processor_or_subsystem) {
  constexpr uint16_t kArm64 = 0xAA64;
  for (const auto& [machine, subsystem, starts] : {std::tuple{kPeMachineX64, uint16_t{10}, true},
                                                   {kPeMachineX64, uint16_t{12}, true},
                                                   {kPeMachineX64, uint16_t{3}, false},
                                                   {kPeMachineX64, uint16_t{13}, false},
                                                   {kArm64, uint16_t{10}, false}}) {
    const Bytes bytes =
        test_program({{.name = ".data", .content = Bytes(64)}}, 1U << 20, machine, subsystem);
    const PeImage image = PeImage::parse(bytes).value();
    SecureBootState state;
    state.db = of_entry(guids::kSha256, *image.authenticode_digest(DigestAlgorithm::kSha256));
    EXPECT_EQ(judge_by_firmware(image, state).allowed(), starts) << machine << " " << subsystem;
  }
}

}  // namespace
}  // namespace hf::secure_boot
