#include "attestation/baseline/disk_knowledge.h"

#include <gtest/gtest.h>

namespace hf::attestation {
namespace {

TEST(DiskKnowledge, survives_text) {
  DiskKnowledge known;
  known.files = {{.digest = Bytes(32, std::byte{1}),
                  .what = "GRUB 2.06",
                  .path = "EFI/debian/grubx64.efi",
                  .signers = {"Debian Secure Boot Signer"}}};
  known.programs = {
      {.path = "EFI/BOOT/BOOTX64.EFI",
       .judged_by = "firmware",
       .sha256 = Bytes(32, std::byte{2}),
       .signatures = {Bytes(5, std::byte{3})},
       .vouched = secure_boot::Authority{.variable = "db", .data = Bytes(9, std::byte{4})}}};
  Result<DiskKnowledge> again = parse_disk_knowledge(to_text(known));
  ASSERT_TRUE(again.ok()) << again.error().describe();
  ASSERT_EQ(again->files.size(), 1U);
  EXPECT_EQ(again->files[0].digest, known.files[0].digest);
  EXPECT_EQ(again->files[0].signers, known.files[0].signers);
  ASSERT_EQ(again->programs.size(), 1U);
  EXPECT_EQ(again->programs[0].signatures, known.programs[0].signatures);
  EXPECT_EQ(again->programs[0].vouched->data, known.programs[0].vouched->data);
  EXPECT_TRUE(parse_disk_knowledge("")->files.empty());
  EXPECT_FALSE(parse_disk_knowledge("{}").ok());
}

// What a guest puts on its disk decides how much there is: it must stay readable for whoever keeps
// it.
TEST(DiskKnowledge, of_a_disk_made_to_be_large_stays_within_its_bounds) {
  DiskKnowledge known;
  for (int i = 0; i < 2000; ++i) {
    known.files.push_back(
        {.digest = Bytes(32, std::byte{7}), .what = std::string(400, 'w'), .path = "a"});
  }
  for (size_t i = 0; i < secure_boot::kSignedProgramsMax; ++i) {
    known.programs.push_back({.path = "p", .judged_by = "shim", .signatures = {Bytes(200'000)}});
  }
  const std::string text = to_text(known);
  EXPECT_LE(text.size(), kDiskKnowledgeBytesMax);
  Result<DiskKnowledge> again = parse_disk_knowledge(text);
  ASSERT_TRUE(again.ok()) << again.error().describe();
  EXPECT_FALSE(again->files.empty());
  EXPECT_LE(again->files.size(), kFileExplanationsMax);
}

TEST(DiskKnowledge, names_only_who_signed_these_bytes_and_says_who_is_not_trusted) {
  secure_boot::PreflightReport report;
  secure_boot::BootPart part{.kind = secure_boot::ProgramKind::kGrub,
                             .path = "EFI/BOOT/grubx64.efi",
                             .authenticode_sha256 = std::string(64, 'a')};
  part.signatures = {{.signer = "of other bytes"}, {.signer = "Debian", .covers_image = true}};
  report.paths.push_back({.name = "default", .parts = {part}});
  DiskKnowledge untrusted = disk_knowledge_of(report, HashAlg::kSha256);
  ASSERT_EQ(untrusted.files.size(), 1U);
  EXPECT_EQ(untrusted.files[0].signers,
            std::vector<std::string>{"Debian (whom the VM's keys do not trust)"});

  report.paths[0].parts[0].verdict.authority = secure_boot::Authority{.variable = "db"};
  EXPECT_EQ(disk_knowledge_of(report, HashAlg::kSha256).files[0].signers,
            std::vector<std::string>{"Debian"});
}

}  // namespace
}  // namespace hf::attestation
