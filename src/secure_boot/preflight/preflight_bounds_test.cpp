// What a hostile disk may cost a preflight.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "secure_boot/image/boot_program.h"
#include "secure_boot/testing/test_pe.h"
#include "secure_boot/testing/test_preflight.h"

namespace hf::secure_boot {
namespace {

using testing::HasSubstr;

TEST(Preflight, reads_no_more_than_its_bound_and_says_so) {
  Disk disk;
  disk.standard().input.bytes_max = size_t{10} << 20;  // less than the kernel
  const PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kAsFarAsSeen);
  EXPECT_THAT(report.warnings.back(), HasSubstr("refer to more than is read"));
}

// Two KiB of file whose sections would be 5 GiB of memory.
Bytes hollow_uki(uint32_t size_of_image) {
  std::vector<TestSection> sections;
  for (std::string_view name : kUkiSections) {
    sections.push_back({.name = std::string(name.substr(0, 8)), .virtual_size = 512U << 20});
  }
  return test_program(sections, size_of_image);
}

TEST(Preflight, sections_larger_than_the_image_are_not_filled_up) {
  Disk disk;
  disk.input.state.enforced = false;
  disk.files.add("EFI/BOOT/BOOTX64.EFI", hollow_uki(1U << 20));
  disk.input.hashed_bytes_max = uint64_t{1} << 20;  // enough for the file
  const PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kYes) << report.summary;
  EXPECT_TRUE(report.warnings.empty());
}

TEST(Preflight, hashing_is_bounded_however_large_sections_say_they_are) {
  Disk disk;
  disk.input.state.enforced = false;
  disk.files.add("EFI/BOOT/BOOTX64.EFI", hollow_uki(2U << 30));
  disk.input.hashed_bytes_max = uint64_t{100} << 20;
  const PreflightReport report = disk.check();
  EXPECT_THAT(report.warnings.back(), HasSubstr("take too long to check"));
}

TEST(Preflight, can_be_stopped_while_it_reads_and_hashes) {
  Disk disk;
  disk.standard();
  const Bytes image = gpt_disk(disk.files.build());
  size_t asked = 0;
  disk.input.stop = [&] { return ++asked > 50; };
  MemorySource source(image);
  Result<PreflightReport> report = preflight(source, disk.input);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, ErrorCode::kUnavailable);
  EXPECT_LT(asked, 200U);
}

TEST(Preflight, a_signature_that_is_none_is_not_kept) {
  Disk disk;
  Bytes loader = test_program({{.name = ".data", .content = Bytes(16)}});
  const size_t table = loader.size();
  loader.resize(table + (size_t{1} << 20));
  store_le<uint32_t>(loader.data() + table, 1U << 20);
  store_le<uint16_t>(loader.data() + table + 6, WinCertificate::kPkcsSignedData);
  store_le<uint32_t>(loader.data() + 64 + 24 + 112 + 32, static_cast<uint32_t>(table));
  store_le<uint32_t>(loader.data() + 64 + 24 + 112 + 36, 1U << 20);
  disk.files.add("EFI/BOOT/BOOTX64.EFI", loader);
  const PreflightReport report = disk.check();
  EXPECT_EQ(report.paths[0].parts[0].verdict.verdict, Verdict::kDamaged);
  EXPECT_TRUE(report.paths[0].parts[0].pkcs7.empty());
}

class CountingSource final : public BlockSource {
 public:
  explicit CountingSource(ByteSpan bytes) : source_(bytes) {}
  uint64_t size() const override { return source_.size(); }
  Status read(uint64_t offset, MutableByteSpan out) override {
    bytes += out.size();
    return source_.read(offset, out);
  }
  uint64_t bytes = 0;

 private:
  MemorySource source_;
};

TEST(Preflight, what_two_boot_paths_share_is_read_once) {
  Disk disk;
  disk.standard();
  const Bytes image = gpt_disk(disk.files.build());
  CountingSource once(image);
  ASSERT_TRUE(preflight(once, disk.input).ok());
  for (uint16_t number = 1; number < 5; ++number) {
    disk.input.boot_order.push_back(
        {.number = number, .partition = kTestPartition, .path = "EFI/BOOT/bootx64.efi"});
  }
  CountingSource often(image);
  const PreflightReport report = preflight(often, disk.input).value();
  ASSERT_EQ(report.paths.size(), 5U);
  for (const BootPath& path : report.paths) {
    EXPECT_EQ(path.boots, Boots::kYes);
    EXPECT_EQ(path.parts.size(), 3U);
  }
  EXPECT_EQ(report.paths[0].parts[0].path, "EFI/BOOT/bootx64.efi");
  EXPECT_LT(often.bytes, once.bytes + 100'000);
}

}  // namespace
}  // namespace hf::secure_boot
