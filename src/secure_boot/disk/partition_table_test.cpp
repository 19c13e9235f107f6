#include "secure_boot/disk/partition_table.h"

#include <gtest/gtest.h>

#include <random>

#include "secure_boot/disk/gpt.h"
#include "secure_boot/testing/test_disk.h"

namespace hf::secure_boot {
namespace {

Result<PartitionTable> read(const Bytes& disk) {
  MemorySource source(disk);
  return read_partition_table(source);
}

TEST(Gpt, names_its_partitions) {
  const Bytes disk = gpt_disk(Bytes(100'000));
  Result<PartitionTable> table = read(disk);
  ASSERT_TRUE(table.ok()) << table.error().cause;
  EXPECT_EQ(table->style, PartitionStyle::kGpt);
  EXPECT_TRUE(table->warnings.empty());
  EXPECT_FALSE(table->boot_code);
  ASSERT_EQ(table->partitions.size(), 1U);
  const Partition& partition = table->partitions[0];
  EXPECT_EQ(partition.number, 1U);
  EXPECT_EQ(partition.offset, uint64_t{2048} * 512);
  EXPECT_EQ(partition.size, uint64_t{196} * 512);
  EXPECT_EQ(partition.id, kTestPartition);
  EXPECT_EQ(partition.name, "E");
  EXPECT_TRUE(partition.is_efi_system);
  EXPECT_EQ(table->gpt_event.size(), 92U + 8 + 128);
}

TEST(Gpt, the_backup_serves_when_the_primary_is_damaged) {
  const Bytes whole = gpt_disk(Bytes(100'000));
  for (size_t at : {size_t{512 + 20}, size_t{512 + 56}, size_t{1024 + 32}}) {
    Bytes disk = whole;
    disk[at] ^= std::byte{1};
    Result<PartitionTable> table = read(disk);
    ASSERT_TRUE(table.ok()) << at << table.error().cause;
    ASSERT_EQ(table->warnings.size(), 1U);
    EXPECT_NE(table->warnings[0].find("primary partition table is damaged"), std::string::npos);
    EXPECT_EQ(table->partitions.size(), 1U);
  }
  Bytes disk = whole;
  disk[disk.size() - 512 + 20] ^= std::byte{1};
  Result<PartitionTable> table = read(disk);
  ASSERT_TRUE(table.ok());
  ASSERT_EQ(table->warnings.size(), 1U);
  EXPECT_NE(table->warnings[0].find("backup partition table is damaged"), std::string::npos);
  disk[512 + 20] ^= std::byte{1};
  table = read(disk);
  ASSERT_FALSE(table.ok());
  EXPECT_EQ(table.error().code, ErrorCode::kCorrupt);
}

TEST(Gpt, what_contradicts_itself_is_refused_although_its_checksums_are_right) {
  const Bytes whole = gpt_disk(Bytes(100'000));
  const size_t last = whole.size() - 512;
  struct Case {
    size_t offset;  // in the header
    uint64_t value;
    size_t size;
  };
  for (const Case& c : {Case{12, 91, 4}, Case{12, 4096, 4}, Case{24, 7, 8}, Case{80, 100'000, 4},
                        Case{84, 127, 4}, Case{84, 1 << 20, 4}}) {
    Bytes disk = whole;
    for (size_t header : {size_t{512}, last}) {
      std::byte* at = disk.data() + header + c.offset;
      if (c.size == 4) store_le<uint32_t>(at, static_cast<uint32_t>(c.value));
      if (c.size == 8) store_le<uint64_t>(at, c.value);
    }
    seal_gpt(disk);
    EXPECT_FALSE(read(disk).ok()) << c.offset << " = " << c.value;
  }
}

struct TestEntry {
  uint64_t first;
  uint64_t last;
  uint64_t attributes = 0;
};

// The numbers of the partitions that are offered.
std::vector<uint32_t> offered(const std::vector<TestEntry>& entries, size_t warnings) {
  Bytes disk = gpt_disk(Bytes(4'000'000));
  for (size_t header : {size_t{512}, disk.size() - 512}) {
    std::byte* at = disk.data() + load_le<uint64_t>(disk.data() + header + 72) * 512;
    for (const TestEntry& entry : entries) {
      partition_types::kEfiSystem.store(at);
      store_le<uint64_t>(at + 32, entry.first);
      store_le<uint64_t>(at + 40, entry.last);
      store_le<uint64_t>(at + 48, entry.attributes);
      at += kGptEntrySize;
    }
  }
  seal_gpt(disk);
  Result<PartitionTable> table = read(disk);
  HF_ASSERT(table.ok());
  EXPECT_EQ(table->warnings.size(), warnings) << testing::PrintToString(table->warnings);
  std::vector<uint32_t> numbers;
  for (const Partition& partition : table->partitions) numbers.push_back(partition.number);
  return numbers;
}

TEST(Gpt, single_entries_that_firmware_passes_over_are_named_and_the_others_stay) {
  using Numbers = std::vector<uint32_t>;
  constexpr TestEntry kGood{.first = 5000, .last = 6000};
  EXPECT_EQ(offered({{.first = 2048, .last = 3000}, kGood}, 0), (Numbers{1, 2}));
  EXPECT_EQ(offered({{.first = 33, .last = 3000}, kGood}, 1), (Numbers{2}));
  EXPECT_EQ(offered({{.first = 2048, .last = ~uint64_t{0}}, kGood}, 1), (Numbers{2}));
  EXPECT_EQ(offered({{.first = 1 << 30, .last = 3}, kGood}, 1), (Numbers{2}));
  EXPECT_EQ(offered({{.first = 2048, .last = 3000, .attributes = 2}, kGood}, 1), (Numbers{2}));
  EXPECT_EQ(offered({{.first = 2048, .last = 3000, .attributes = 5}, kGood}, 0), (Numbers{1, 2}));
  EXPECT_EQ(offered({{.first = 2048, .last = 5000}, kGood, {.first = 100, .last = 200}}, 1),
            (Numbers{3}));
  // One that reaches beyond the end takes those before it along, not those behind it.
  EXPECT_EQ(offered({kGood, {.first = 4000, .last = ~uint64_t{0}}}, 2), Numbers{});
  EXPECT_EQ(offered({{.first = 4000, .last = ~uint64_t{0}}, kGood}, 1), (Numbers{2}));
}

TEST(Gpt, sectors_of_another_size_are_named) {
  Bytes disk = gpt_disk(Bytes(100'000));
  std::fill(disk.begin() + 512, disk.begin() + 1024, std::byte{0});
  std::fill(disk.end() - 512, disk.end(), std::byte{0});
  std::ranges::copy(as_bytes("EFI PART"), disk.begin() + 4096);
  Result<PartitionTable> table = read(disk);
  ASSERT_FALSE(table.ok());
  EXPECT_EQ(table.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(table.error().cause.find("4096"), std::string::npos);
}

TEST(Gpt, ten_thousand_mutations_end) {
  const Bytes whole = gpt_disk(Bytes(20'000));
  std::mt19937 random(7);
  size_t refused = 0;
  for (int round = 0; round < 10'000; ++round) {
    Bytes disk = whole;
    for (unsigned edits = 1 + random() % 4; edits > 0; --edits) {
      const size_t area = random() % 3;
      const size_t at = area == 0   ? random() % 1536
                        : area == 1 ? disk.size() - 1 - random() % 20'000
                                    : random() % disk.size();
      disk[at] = static_cast<std::byte>(random());
    }
    if (random() % 2 == 0) seal_gpt(disk);
    if (random() % 8 == 0) disk.resize(random() % disk.size());
    Result<PartitionTable> table = read(disk);
    if (!table.ok()) {
      ++refused;
      continue;
    }
    for (const Partition& partition : table->partitions) {
      if (table->style == PartitionStyle::kGpt) {
        EXPECT_LE(partition.offset + partition.size, disk.size());
      }
    }
  }
  EXPECT_GT(refused, 100U);
}

Bytes mbr_disk() {
  Bytes disk(size_t{1} << 20);
  auto entry = [&](size_t base, size_t index, uint8_t boot, uint8_t type, uint32_t first,
                   uint32_t count) {
    std::byte* raw = disk.data() + base + 446 + index * 16;
    raw[0] = static_cast<std::byte>(boot);
    raw[4] = static_cast<std::byte>(type);
    store_le<uint32_t>(raw + 8, first);
    store_le<uint32_t>(raw + 12, count);
    store_le<uint16_t>(disk.data() + base + 510, 0xAA55);
  };
  entry(0, 0, 0x80, 0x83, 64, 64);
  entry(0, 1, 0, 0xEF, 128, 64);
  entry(0, 2, 0, 0x05, 256, 512);
  entry(256 * 512, 0, 0, 0x83, 8, 16);
  entry(256 * 512, 1, 0, 0x05, 64, 64);
  entry(320 * 512, 0, 0, 0x0C, 8, 16);
  disk[0] = std::byte{0xEB};
  return disk;
}

TEST(Mbr, names_primary_and_logical_partitions) {
  Result<PartitionTable> table = read(mbr_disk());
  ASSERT_TRUE(table.ok()) << table.error().cause;
  EXPECT_EQ(table->style, PartitionStyle::kMbr);
  EXPECT_TRUE(table->boot_code);
  ASSERT_EQ(table->partitions.size(), 4U);
  EXPECT_TRUE(table->partitions[0].active);
  EXPECT_TRUE(table->partitions[1].is_efi_system);
  EXPECT_EQ(table->partitions[2].number, 5U);
  EXPECT_EQ(table->partitions[2].offset, uint64_t{264} * 512);
  EXPECT_EQ(table->partitions[3].number, 6U);
  EXPECT_EQ(table->partitions[3].offset, uint64_t{328} * 512);
}

TEST(Mbr, a_chain_of_extended_records_that_loops_ends) {
  Bytes disk = mbr_disk();
  store_le<uint32_t>(disk.data() + 320 * 512 + 446 + 16 + 8, 64);
  disk[320 * 512 + 446 + 16 + 4] = std::byte{0x05};
  Result<PartitionTable> table = read(disk);
  ASSERT_TRUE(table.ok());
  EXPECT_LE(table->partitions.size(), 2 + kMbrLogicalMax);
  ASSERT_FALSE(table->warnings.empty());
  EXPECT_NE(table->warnings[0].find("does not end"), std::string::npos);
}

TEST(PartitionTable, a_file_system_without_a_table_is_none) {
  const Bytes image = FatBuilder(FatKind::kFat16).add("A", "x").build();
  Result<PartitionTable> table = read(image);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->style, PartitionStyle::kNone);
  EXPECT_FALSE(read(Bytes(512)).ok());
}

TEST(Utf16, surrogates_are_joined_and_strays_replaced) {
  const unsigned char text[] = {'a', 0, 0x3D, 0xD8, 0x00, 0xDE, 0x00, 0xDC, 0xE9, 0, 0, 0, 'x', 0};
  EXPECT_EQ(utf8_from_utf16(std::as_bytes(std::span(text))),
            "a\xF0\x9F\x98\x80\xEF\xBF\xBD\xC3\xA9");
}

}  // namespace
}  // namespace hf::secure_boot
