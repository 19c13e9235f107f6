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
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->style, PartitionStyle::kNone);
  EXPECT_TRUE(table->partitions.empty());
  ASSERT_EQ(table->warnings.size(), 1U);
  EXPECT_NE(table->warnings[0].find("passes over the GUID partition table"), std::string::npos);
}

TEST(Gpt, a_backup_that_does_not_say_where_the_primary_stands_is_of_no_use) {
  Bytes disk = gpt_disk(Bytes(100'000));
  store_le<uint64_t>(disk.data() + disk.size() - 512 + 32, uint64_t{1} << 40);
  seal_gpt(disk);
  disk[512 + 20] ^= std::byte{1};
  Result<PartitionTable> table = read(disk);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->style, PartitionStyle::kGpt);
  EXPECT_TRUE(table->partitions.empty());
}

TEST(Gpt, needs_neither_the_signature_of_its_protective_record_nor_its_first_place) {
  Bytes disk = gpt_disk(Bytes(100'000));
  std::copy_n(disk.begin() + 446, 16, disk.begin() + 446 + 48);
  std::fill_n(disk.begin() + 446, 16, std::byte{0x7F});
  store_le<uint16_t>(disk.data() + 510, 0);
  Result<PartitionTable> table = read(disk);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->style, PartitionStyle::kGpt);
  EXPECT_EQ(table->partitions.size(), 1U);
}

TEST(Gpt, firmware_takes_a_short_header_and_no_table_that_contradicts_itself) {
  const Bytes whole = gpt_disk(Bytes(100'000));
  const size_t last = whole.size() - 512;
  struct Case {
    size_t offset;  // in the header
    uint64_t value;
    size_t size;
    bool taken;
  };
  for (const Case& c : {Case{12, 91, 4, true}, Case{12, 20, 4, true}, Case{12, 0, 4, false},
                        Case{12, 513, 4, false}, Case{12, 4096, 4, false}, Case{24, 7, 8, false},
                        Case{80, 0, 4, false}, Case{80, 100'000, 4, false}, Case{84, 127, 4, false},
                        Case{84, 1 << 20, 4, false}}) {
    Bytes disk = whole;
    for (size_t header : {size_t{512}, last}) {
      std::byte* at = disk.data() + header + c.offset;
      if (c.size == 4) store_le<uint32_t>(at, static_cast<uint32_t>(c.value));
      if (c.size == 8) store_le<uint64_t>(at, c.value);
    }
    // The header's size says what its checksum covers.
    for (size_t header : {size_t{512}, last}) {
      const size_t size = load_le<uint32_t>(disk.data() + header + 12);
      store_le<uint32_t>(disk.data() + header + 16, 0);
      if (size > 512) continue;
      store_le<uint32_t>(disk.data() + header + 16,
                         test_crc32(ByteSpan(disk).subspan(header, size)));
    }
    Result<PartitionTable> table = read(disk);
    EXPECT_EQ(table.ok() && !table->partitions.empty(), c.taken) << c.offset << " = " << c.value;
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
    if (!table.ok() || table->style != PartitionStyle::kGpt) ++refused;
    if (!table.ok()) continue;
    MemorySource memory(disk);
    for (const Partition& partition : table->partitions) {
      RangeSource source(memory, partition.offset, partition.size);
      EXPECT_LE(source.readable(), disk.size());
      (void)source.read_bytes(0, std::min<uint64_t>(source.readable(), 512));
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
  EXPECT_NE(table->endless.find("does not end"), std::string::npos);
}

std::byte* mbr_entry(Bytes& disk, size_t index) { return disk.data() + 446 + index * 16; }

std::vector<uint32_t> numbers_of(const Bytes& disk) {
  Result<PartitionTable> table = read(disk);
  HF_ASSERT(table.ok());
  std::vector<uint32_t> numbers;
  for (const Partition& partition : table->partitions) numbers.push_back(partition.number);
  return numbers;
}

// PartitionValidMbr(): one bad entry and firmware passes over all of them.
TEST(Mbr, one_partition_beyond_the_disk_or_over_another_makes_firmware_pass_over_the_table) {
  using Numbers = std::vector<uint32_t>;
  const Bytes whole = mbr_disk();
  EXPECT_EQ(numbers_of(whole), (Numbers{1, 2, 5, 6}));
  Bytes disk = whole;
  store_le<uint32_t>(mbr_entry(disk, 1) + 12, 2048);  // to 2175 of 2048
  Result<PartitionTable> table = read(disk);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->style, PartitionStyle::kNone);
  ASSERT_EQ(table->warnings.size(), 1U);
  EXPECT_NE(table->warnings[0].find("partition 2 ends at sector 2175, the disk at 2047"),
            std::string::npos);
  disk = whole;
  store_le<uint32_t>(mbr_entry(disk, 0) + 12, 65);
  table = read(disk);
  ASSERT_EQ(table->warnings.size(), 1U);
  EXPECT_NE(table->warnings[0].find("partitions 1 and 2 overlap"), std::string::npos);
}

TEST(Mbr, firmware_asks_neither_for_boot_flags_nor_for_where_a_partition_begins) {
  using Numbers = std::vector<uint32_t>;
  Bytes disk = mbr_disk();
  *mbr_entry(disk, 0) = std::byte{0x12};
  EXPECT_EQ(numbers_of(disk), (Numbers{1, 2, 5, 6}));
  store_le<uint32_t>(mbr_entry(disk, 0) + 8, 0);
  EXPECT_EQ(numbers_of(disk), (Numbers{1, 2, 5, 6}));
  // What reaches beyond 32 bits begins anew at 0.
  store_le<uint32_t>(mbr_entry(disk, 0) + 8, 0xFFFFFFF0);
  store_le<uint32_t>(mbr_entry(disk, 0) + 12, 0x20);
  EXPECT_EQ(numbers_of(disk), (Numbers{1, 2, 5, 6}));
  mbr_entry(disk, 2)[4] = std::byte{0x85};  // Linux' extended partition is one like others
  // Inside of any partition stands an extended boot record, if it is one.
  EXPECT_EQ(numbers_of(disk), (Numbers{1, 2, 5, 6}));
  disk[256 * 512 + 510] = std::byte{0};
  EXPECT_EQ(numbers_of(disk), (Numbers{1, 2, 3}));
}

TEST(ElTorito, an_image_that_a_boot_catalog_names_comes_before_an_mbr) {
  Bytes disk(size_t{1} << 20);
  *mbr_entry(disk, 0) = std::byte{0x80};
  mbr_entry(disk, 0)[4] = std::byte{0x17};
  store_le<uint32_t>(mbr_entry(disk, 0) + 12, 100);
  store_le<uint16_t>(disk.data() + 510, 0xAA55);
  const auto descriptor = [&](size_t number, uint8_t type) {
    std::byte* at = disk.data() + (16 + number) * 2048;
    *at = static_cast<std::byte>(type);
    std::ranges::copy(as_bytes("CD001"), at + 1);
    return at;
  };
  store_le<uint32_t>(descriptor(0, 1) + 80, 512);
  std::byte* record = descriptor(1, 0);
  std::ranges::copy(as_bytes("EL TORITO SPECIFICATION"), record + 7);
  store_le<uint32_t>(record + 71, 30);
  descriptor(2, 0xFF);
  std::byte* catalog = disk.data() + 30 * 2048;
  catalog[0] = std::byte{1};
  store_le<uint16_t>(catalog + 30, 0xAA55);
  store_le<uint16_t>(catalog + 28, 0x10000 - 0xAA55 - 1);
  catalog[32] = std::byte{0x88};
  store_le<uint16_t>(catalog + 38, 16);
  store_le<uint32_t>(catalog + 40, 40);
  Result<PartitionTable> table = read(disk);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->style, PartitionStyle::kElTorito);
  ASSERT_EQ(table->partitions.size(), 1U);
  EXPECT_EQ(table->partitions[0].offset, uint64_t{40} * 2048);
  EXPECT_EQ(table->partitions[0].size, uint64_t{64} * 512);
  store_le<uint16_t>(catalog + 38, 1);  // the rest of the CD
  EXPECT_EQ(read(disk)->partitions[0].size, uint64_t{512 - 40} * 2048);
  catalog[28] ^= std::byte{1};
  EXPECT_EQ(read(disk)->style, PartitionStyle::kMbr);
}

TEST(PartitionTable, a_file_system_of_the_whole_disk_comes_before_a_table) {
  Bytes image = FatBuilder(FatKind::kFat16).add("A", "x").build();
  mbr_entry(image, 0)[4] = std::byte{0x83};
  store_le<uint32_t>(mbr_entry(image, 0) + 8, 1);
  store_le<uint32_t>(mbr_entry(image, 0) + 12, 100);
  Result<PartitionTable> table = read(image);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->style, PartitionStyle::kNone);
  EXPECT_TRUE(table->partitions.empty());
  EXPECT_EQ(table->warnings.size(), 1U);
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
