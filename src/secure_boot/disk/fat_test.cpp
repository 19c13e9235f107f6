#include "secure_boot/disk/fat.h"

#include <gtest/gtest.h>

#include <random>

#include "secure_boot/disk/fat_directory.h"
#include "secure_boot/testing/test_disk.h"

namespace hf::secure_boot {
namespace {

Bytes pattern(size_t size) {
  Bytes out(size);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i * 31 + i / 512);
  return out;
}

class Fat : public testing::TestWithParam<FatKind> {
 protected:
  Bytes sample() {
    return FatBuilder(GetParam())
        .add("EFI/BOOT/BOOTX64.EFI", pattern(20'000))
        .add("EFI/debian/grub.cfg", "set timeout=0\n")
        .add("EFI/Linux/debian-6.1.0-56-cloud-amd64.efi", pattern(1234))
        .add("loader/entries/a name with blanks and more than twenty-six letters.conf",
             "linux /k\n")
        .add("EMPTY", "")
        .build();
  }
};

TEST_P(Fat, reads_files_by_long_and_short_names_without_case) {
  const Bytes image = sample();
  MemorySource source(image);
  Result<FatVolume> volume = FatVolume::open(source);
  ASSERT_TRUE(volume.ok()) << volume.error().cause;
  EXPECT_EQ(volume->kind(), GetParam() == FatKind::kFat12   ? "FAT12"
                            : GetParam() == FatKind::kFat16 ? "FAT16"
                                                            : "FAT32");
  EXPECT_EQ(volume->label(), "HOLDFAST");
  EXPECT_EQ(volume->serial(), "4846-4450");
  Result<Bytes> loader = volume->read("\\efi\\boot\\bootx64.efi", 1 << 20);
  ASSERT_TRUE(loader.ok()) << loader.error().cause;
  EXPECT_EQ(*loader, pattern(20'000));
  Result<Bytes> kernel = volume->read("EFI/Linux/debian-6.1.0-56-cloud-amd64.efi", 1 << 20);
  ASSERT_TRUE(kernel.ok());
  EXPECT_EQ(*kernel, pattern(1234));
  Result<Bytes> entry =
      volume->read("loader/entries/A Name with blanks and more than twenty-six letters.conf", 100);
  ASSERT_TRUE(entry.ok()) << entry.error().cause;
  Result<std::vector<FatEntry>> entries = volume->list("loader/entries");
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 1U);
  EXPECT_TRUE(volume->find("loader/entries/" + (*entries)[0].short_name).ok());
  EXPECT_EQ((*entries)[0].name.size(), 56U);
  Result<Bytes> empty = volume->read("EMPTY", 10);
  ASSERT_TRUE(empty.ok());
  EXPECT_TRUE(empty->empty());
}

TEST_P(Fat, says_what_is_not_there_and_what_is_too_large) {
  const Bytes image = sample();
  MemorySource source(image);
  Result<FatVolume> volume = FatVolume::open(source);
  ASSERT_TRUE(volume.ok());
  EXPECT_EQ(volume->read("EFI/nothing", 10).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(volume->read("EMPTY/below/a/file", 10).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(volume->read("EFI", 10).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(volume->list("EMPTY").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(volume->read("EFI/BOOT/BOOTX64.EFI", 19'999).error().code, ErrorCode::kLimit);
  EXPECT_TRUE(volume->read("EFI/BOOT/BOOTX64.EFI", 20'000).ok());
}

TEST_P(Fat, a_chain_that_loops_or_ends_early_is_an_error_and_not_a_hang) {
  const Bytes image = sample();
  MemorySource source(image);
  const FatEntry file = *FatVolume::open(source)->find("EFI/BOOT/BOOTX64.EFI");
  std::mt19937 random(1);
  size_t refused = 0;
  const int rounds = image.size() > (size_t{10} << 20) ? 200 : 3000;
  const size_t reserved = load_le<uint16_t>(image.data() + 14) * size_t{512};
  for (int round = 0; round < rounds; ++round) {
    Bytes edited = image;
    edited[reserved + random() % 128] = static_cast<std::byte>(random());  // the table
    edited[512 + random() % (size_t{48} << 10)] = static_cast<std::byte>(random());
    MemorySource edited_source(edited);
    Result<FatVolume> volume = FatVolume::open(edited_source);
    if (!volume.ok()) continue;
    Result<Bytes> content = volume->read("EFI/BOOT/BOOTX64.EFI", 1 << 20);
    if (!content.ok()) ++refused;
    (void)volume->list("loader/entries");
  }
  EXPECT_GT(refused, 0U);
  EXPECT_EQ(file.size, 20'000U);
}

// FatOpenDevice() does not ask for the partition's size.
TEST_P(Fat, of_a_volume_cut_short_that_is_read_which_is_there) {
  Bytes image = sample();
  image.resize(image.size() / 2);
  MemorySource source(image);
  Result<FatVolume> volume = FatVolume::open(source);
  ASSERT_TRUE(volume.ok()) << volume.error().cause;
  EXPECT_GT(volume->size(), source.size());
  EXPECT_TRUE(volume->read("EFI/BOOT/BOOTX64.EFI", 1 << 20).ok());
  // Firmware reads pages of 64 KiB, of FAT12 of 8 KiB: the last one that the file has a part of is
  // not whole.
  const size_t end = GetParam() == FatKind::kFat32 ? 580'000 : 40'000;
  MemorySource shorter(ByteSpan(image).first(end));
  volume = FatVolume::open(shorter);
  ASSERT_TRUE(volume.ok()) << volume.error().cause;
  EXPECT_EQ(volume->read("EFI/BOOT/BOOTX64.EFI", 1 << 20).error().code, ErrorCode::kCorrupt);
}

class CountingSource final : public BlockSource {
 public:
  explicit CountingSource(ByteSpan bytes) : source_(bytes) {}
  uint64_t size() const override { return source_.size(); }
  Status read(uint64_t offset, MutableByteSpan out) override {
    ++reads;
    return source_.read(offset, out);
  }
  size_t reads = 0;

 private:
  MemorySource source_;
};

TEST_P(Fat, a_directory_is_read_once) {
  const Bytes image = sample();
  CountingSource source(image);
  FatVolume volume = FatVolume::open(source).value();
  ASSERT_TRUE(volume.find("EFI/BOOT/BOOTX64.EFI").ok());
  const size_t reads = source.reads;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(volume.find("EFI/BOOT/BOOTX64.EFI").ok());
    ASSERT_FALSE(volume.find("EFI/BOOT/other.efi").ok());
    ASSERT_FALSE(volume.find("EFI/BOOT/BOOTX64.EFI/below").ok());
  }
  EXPECT_EQ(source.reads, reads);
}

TEST(BudgetSource, many_tiny_reads_use_it_up) {
  const Bytes bytes(8192);
  MemorySource memory(bytes);
  ReadBudget budget{.bytes_left = 10 * kReadCostMin};
  BudgetSource source(memory, budget);
  Bytes one(1);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(source.read(0, one).ok());
  EXPECT_EQ(source.read(0, one).error().code, ErrorCode::kLimit);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Fat,
                         testing::Values(FatKind::kFat12, FatKind::kFat16, FatKind::kFat32));

TEST(FatVolume, other_content_is_not_fat) {
  const Bytes zeros(4096);
  const Bytes ones(4096, std::byte{0xFF});
  for (const Bytes* bytes : {&zeros, &ones}) {
    MemorySource source(*bytes);
    EXPECT_EQ(FatVolume::open(source).error().code, ErrorCode::kNotFound);
  }
}

// Field by field as FatOpenDevice() asks.
TEST(FatVolume, is_taken_and_refused_as_firmware_does) {
  struct Case {
    FatKind kind;
    size_t offset;
    size_t size;
    uint32_t value;
    bool taken;
  };
  constexpr FatKind k12 = FatKind::kFat12;
  constexpr FatKind k16 = FatKind::kFat16;
  constexpr FatKind k32 = FatKind::kFat32;
  for (const Case& c : {Case{k16, 0, 1, 0x90, true},      Case{k16, 510, 2, 0, true},
                        Case{k16, 11, 2, 0, false},       Case{k16, 11, 2, 3, false},
                        Case{k16, 11, 2, 256, false},     Case{k16, 11, 2, 8192, false},
                        Case{k16, 13, 1, 0, false},       Case{k16, 13, 1, 3, false},
                        Case{k16, 14, 2, 0, false},       Case{k16, 16, 1, 0, false},
                        Case{k16, 21, 1, 0x00, true},     Case{k16, 21, 1, 0x01, true},
                        Case{k16, 21, 1, 0x02, false},    Case{k16, 21, 1, 0xF0, true},
                        Case{k16, 21, 1, 0xF1, false},    Case{k16, 17, 2, 0, false},
                        Case{k16, 32, 4, 0, false},       Case{k16, 32, 4, 1, false},
                        Case{k16, 32, 4, 1 << 24, false}, Case{k12, 32, 4, 1 << 24, false},
                        Case{k32, 17, 2, 512, true},      Case{k32, 40, 2, 0x80, false},
                        Case{k32, 40, 2, 0x0F, true},     Case{k32, 42, 2, 1, false},
                        Case{k32, 36, 4, 0, false},       Case{k32, 44, 4, 0, true},
                        Case{k32, 32, 4, 1 << 24, true},  Case{k32, 32, 4, 66000, false}}) {
    Bytes image = FatBuilder(c.kind).add("A", "x").build();
    for (size_t i = 0; i < c.size; ++i) {
      image[c.offset + i] = static_cast<std::byte>(c.value >> (8 * i));
    }
    MemorySource source(image);
    EXPECT_EQ(FatVolume::open(source).ok(), c.taken)
        << static_cast<int>(c.kind) << ": " << c.value << " at " << c.offset;
  }
}

TEST(FatVolume, the_number_of_clusters_says_which_kind_it_is_and_fat32_has_at_least_65525) {
  const auto kind = [](FatKind made, uint32_t clusters) -> std::string {
    const Bytes image = FatBuilder(made, clusters).add("A", "x").build();
    MemorySource source(image);
    Result<FatVolume> volume = FatVolume::open(source);
    return volume.ok() ? std::string(volume->kind()) : volume.error().cause;
  };
  EXPECT_EQ(kind(FatKind::kFat12, 4084), "FAT12");
  EXPECT_EQ(kind(FatKind::kFat16, 4085), "FAT16");
  EXPECT_EQ(kind(FatKind::kFat16, 65524), "FAT16");
  EXPECT_NE(kind(FatKind::kFat16, 65525).find("65525 clusters in a FAT16"), std::string::npos);
  EXPECT_EQ(kind(FatKind::kFat32, 65525), "FAT32");
  EXPECT_NE(kind(FatKind::kFat32, 65524).find("65524 clusters in a FAT32"), std::string::npos);
  EXPECT_NE(kind(FatKind::kFat32, 4000).find("4000 clusters in a FAT32"), std::string::npos);
}

TEST(FatVolume, a_directory_of_no_cluster_is_empty_and_not_the_root) {
  Bytes image = FatBuilder(FatKind::kFat16).add("A/B", "x").add("C", "y").build();
  const std::string needle = "A          ";
  auto at =
      std::search(image.begin(), image.end(), as_bytes(needle).begin(), as_bytes(needle).end());
  store_le<uint16_t>(&*at + 26, 0);
  MemorySource source(image);
  Result<FatVolume> volume = FatVolume::open(source);
  EXPECT_TRUE(volume->find("C").ok());
  EXPECT_EQ(volume->find("A/C").error().code, ErrorCode::kNotFound);
}

TEST(FatDirectory, a_label_does_not_end_it_and_a_long_name_is_one_by_every_field) {
  Bytes raw(32 * 4);
  raw[11] = std::byte{0x08};  // no name, but a label: no end
  std::ranges::copy(as_bytes("ODDNAM~1EFI"), raw.begin() + 64);
  const std::string name = "bootx64.efi";
  uint8_t sum = 0;
  for (char c : std::string_view("ODDNAM~1EFI")) {
    sum = static_cast<uint8_t>(((sum & 1) << 7) + (sum >> 1) + static_cast<uint8_t>(c));
  }
  raw[32] = std::byte{0x41};
  raw[32 + 11] = std::byte{0x0F};
  raw[32 + 13] = static_cast<std::byte>(sum);
  for (size_t i = 0; i < name.size(); ++i) {
    raw[32 + (i < 5 ? 1 + i * 2 : 14 + (i - 5) * 2)] = static_cast<std::byte>(name[i]);
  }
  const auto name_of = [](const Bytes& directory) {
    bool ended = false;
    const std::vector<FatEntry> entries = parse_fat_directory(directory, ended);
    EXPECT_TRUE(ended);
    return entries.size() == 1 ? entries[0].name : std::string();
  };
  EXPECT_EQ(name_of(raw), name);
  for (size_t field : {0, 11, 13, 26}) {
    Bytes other = raw;
    other[32 + field] ^= std::byte{field == 11 ? uint8_t{0x20} : uint8_t{2}};
    EXPECT_EQ(name_of(other), "ODDNAM~1.EFI") << field;
  }
}

TEST(FatVolume, a_directory_that_is_its_own_parent_ends) {
  Bytes image = FatBuilder(FatKind::kFat16).add("A/B/C", "x").build();
  // Make A's entry for B lead back to A.
  const std::string needle = "B          ";
  auto at =
      std::search(image.begin(), image.end(), as_bytes(needle).begin(), as_bytes(needle).end());
  ASSERT_NE(at, image.end());
  store_le<uint16_t>(&*at + 26, 2);
  MemorySource source(image);
  Result<FatVolume> volume = FatVolume::open(source);
  ASSERT_TRUE(volume.ok());
  EXPECT_TRUE(volume->find("A/B/B/B/B").ok());
  std::string deep = "A";
  for (int i = 0; i < 40; ++i) deep += "/B";
  EXPECT_EQ(volume->find(deep).error().code, ErrorCode::kLimit);
}

}  // namespace
}  // namespace hf::secure_boot
