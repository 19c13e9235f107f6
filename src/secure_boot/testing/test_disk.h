// Disks made in memory, for tests and fuzzers only: FAT file systems and partition tables.
#pragma once

#include <isa-l/crc.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "secure_boot/disk/partition_table.h"
#include "secure_boot/efi/guid.h"

namespace hf::secure_boot {

enum class FatKind : uint8_t { kFat12, kFat16, kFat32 };

// Writes files at paths ("EFI/BOOT/BOOTX64.EFI") into a fresh file system. Names that are no plain
// 8.3 upper-case names get long names.
class FatBuilder {
 public:
  explicit FatBuilder(FatKind kind, uint32_t clusters = 0) : kind_(kind) {
    clusters_ =
        clusters != 0
            ? clusters
            : (kind == FatKind::kFat12 ? 4000U : (kind == FatKind::kFat16 ? 8000U : 66000U));
  }

  FatBuilder& add(const std::string& path, ByteSpan content) {
    Directory* at = &root_;
    size_t start = 0;
    for (size_t slash; (slash = path.find('/', start)) != std::string::npos; start = slash + 1) {
      at = &at->directories[path.substr(start, slash - start)];
    }
    at->files[path.substr(start)] = Bytes(content.begin(), content.end());
    return *this;
  }
  FatBuilder& add(const std::string& path, std::string_view text) {
    return add(path, as_bytes(text));
  }

  Bytes build() {
    next_ = 2;
    table_.assign(clusters_ + 2, 0);
    data_.assign(size_t{clusters_} * kCluster, std::byte{0});
    if (kind_ == FatKind::kFat32) root_.cluster = allocate(1);
    const Bytes root = write_directory(root_, root_.cluster);
    const size_t entry_bits = kind_ == FatKind::kFat12 ? 12 : (kind_ == FatKind::kFat16 ? 16 : 32);
    const size_t fat_sectors = (table_.size() * entry_bits / 8 + 1 + 511) / 512;
    const size_t root_sectors = kind_ == FatKind::kFat32 ? 0 : kRootEntries * 32 / 512;
    const size_t reserved = kind_ == FatKind::kFat32 ? 32 : 1;
    const size_t data_at = (reserved + 2 * fat_sectors + root_sectors) * 512;
    Bytes image(data_at + data_.size());
    write_boot_sector(image, reserved, fat_sectors);
    for (size_t copy = 0; copy < 2; ++copy) {
      write_table(MutableByteSpan(image).subspan((reserved + copy * fat_sectors) * 512));
    }
    if (kind_ != FatKind::kFat32) {
      HF_ASSERT(root.size() <= root_sectors * 512);
      std::ranges::copy(
          root, image.begin() + static_cast<std::ptrdiff_t>((reserved + 2 * fat_sectors) * 512));
    }
    std::ranges::copy(data_, image.begin() + static_cast<std::ptrdiff_t>(data_at));
    return image;
  }

 private:
  static constexpr size_t kCluster = 512;
  static constexpr size_t kRootEntries = 512;
  struct Directory {
    uint32_t cluster = 0;
    std::map<std::string, Directory> directories;
    std::map<std::string, Bytes> files;
  };

  // Every second cluster, so that chains are not runs; the last ones are marked.
  uint32_t allocate(size_t count) {
    uint32_t first = 0;
    uint32_t last = 0;
    for (size_t i = 0; i < count; ++i) {
      HF_ASSERT(next_ < table_.size());
      const uint32_t cluster = next_;
      next_ += scattered_ && i % 3 == 2 ? 2 : 1;
      if (last != 0) table_[last] = cluster;
      if (first == 0) first = cluster;
      table_[cluster] = 0x0FFFFFFF;
      last = cluster;
    }
    return first;
  }

  void write_chain(uint32_t cluster, ByteSpan content) {
    while (!content.empty()) {
      const size_t size = std::min(content.size(), kCluster);
      std::ranges::copy(content.first(size),
                        data_.begin() + static_cast<std::ptrdiff_t>((cluster - 2) * kCluster));
      content = content.subspan(size);
      cluster = table_[cluster];
    }
  }

  Bytes write_directory(const Directory& directory, uint32_t own) {
    Bytes raw;
    for (const auto& [name, child] : directory.directories) {
      const uint32_t cluster = allocate(entries_of(child) * 32 / kCluster + 1);
      put_entry(raw, name, 0x10, cluster, 0);
      write_chain(cluster, write_directory(child, 0));
    }
    for (const auto& [name, content] : directory.files) {
      const size_t clusters = (content.size() + kCluster - 1) / kCluster;
      const uint32_t cluster = clusters == 0 ? 0 : allocate(clusters);
      write_chain(cluster, content);
      put_entry(raw, name, 0x20, cluster, static_cast<uint32_t>(content.size()));
    }
    if (own != 0) {
      HF_ASSERT(raw.size() <= kCluster);
      write_chain(own, raw);
    }
    return raw;
  }

  static size_t entries_of(const Directory& directory) {
    size_t count = 0;
    for (const auto& [name, child] : directory.directories) count += 2 + name.size() / 13;
    for (const auto& [name, child] : directory.files) count += 2 + name.size() / 13;
    return count;
  }

  static bool plain(const std::string& name) {
    const size_t dot = name.find('.');
    const size_t base = std::min(dot, name.size());
    return base <= 8 && (dot == std::string::npos || name.size() - dot - 1 <= 3) &&
           std::ranges::none_of(name, [](char c) { return c >= 'a' && c <= 'z'; }) &&
           std::ranges::count(name, '.') <= 1;
  }

  void put_entry(Bytes& raw, const std::string& name, uint8_t attributes, uint32_t cluster,
                 uint32_t size) {
    std::string stem = name.substr(0, name.find('.'));
    std::string extension =
        name.find('.') == std::string::npos ? "" : name.substr(name.rfind('.') + 1);
    const bool is_plain = plain(name);
    if (!is_plain) stem = stem.substr(0, 5) + "~" + std::to_string(++tilde_ % 10);
    std::string short_name = (stem + "        ").substr(0, 8) + (extension + "   ").substr(0, 3);
    for (char& c : short_name) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    if (!is_plain) put_long_name(raw, name, short_name);
    Bytes entry(32);
    std::ranges::copy(as_bytes(short_name), entry.begin());
    entry[11] = static_cast<std::byte>(attributes);
    store_le<uint16_t>(entry.data() + 20, static_cast<uint16_t>(cluster >> 16));
    store_le<uint16_t>(entry.data() + 26, static_cast<uint16_t>(cluster));
    store_le<uint32_t>(entry.data() + 28, size);
    raw.insert(raw.end(), entry.begin(), entry.end());
  }

  static void put_long_name(Bytes& raw, const std::string& name, const std::string& short_name) {
    uint8_t sum = 0;
    for (char c : short_name) {
      sum = static_cast<uint8_t>(((sum & 1) << 7) + (sum >> 1) + static_cast<uint8_t>(c));
    }
    const size_t pieces = name.size() / 13 + 1;
    for (size_t piece = pieces; piece >= 1; --piece) {
      Bytes entry(32);
      entry[0] = static_cast<std::byte>(piece | (piece == pieces ? 0x40 : 0));
      entry[11] = std::byte{0x0F};
      entry[13] = static_cast<std::byte>(sum);
      for (size_t i = 0; i < 13; ++i) {
        const size_t at = (piece - 1) * 13 + i;
        const auto unit =
            static_cast<uint16_t>(at < name.size() ? static_cast<unsigned char>(name[at])
                                                   : (at == name.size() ? 0 : 0xFFFF));
        const size_t offset = i < 5 ? 1 + i * 2 : (i < 11 ? 14 + (i - 5) * 2 : 28 + (i - 11) * 2);
        store_le<uint16_t>(entry.data() + offset, unit);
      }
      raw.insert(raw.end(), entry.begin(), entry.end());
    }
  }

  void write_boot_sector(Bytes& image, size_t reserved, size_t fat_sectors) const {
    std::byte* raw = image.data();
    raw[0] = std::byte{0xEB};
    store_le<uint16_t>(raw + 11, 512);
    raw[13] = std::byte{1};
    store_le<uint16_t>(raw + 14, static_cast<uint16_t>(reserved));
    raw[16] = std::byte{2};
    const bool fat32 = kind_ == FatKind::kFat32;
    store_le<uint16_t>(raw + 17, fat32 ? 0 : static_cast<uint16_t>(kRootEntries));
    raw[21] = std::byte{0xF8};
    store_le<uint16_t>(raw + 22, fat32 ? 0 : static_cast<uint16_t>(fat_sectors));
    store_le<uint32_t>(raw + 32, static_cast<uint32_t>(image.size() / 512));
    if (fat32) {
      store_le<uint32_t>(raw + 36, static_cast<uint32_t>(fat_sectors));
      store_le<uint32_t>(raw + 44, root_.cluster);
    }
    store_le<uint32_t>(raw + (fat32 ? 67 : 39), 0x48464450);
    std::ranges::copy(as_bytes("HOLDFAST   "), image.begin() + (fat32 ? 71 : 43));
    store_le<uint16_t>(raw + 510, 0xAA55);
  }

  void write_table(MutableByteSpan out) const {
    for (size_t cluster = 0; cluster < table_.size(); ++cluster) {
      const uint32_t value = cluster < 2 ? 0x0FFFFFF8 : table_[cluster];
      if (kind_ == FatKind::kFat32) {
        store_le<uint32_t>(out.data() + cluster * 4, value);
      } else if (kind_ == FatKind::kFat16) {
        store_le<uint16_t>(out.data() + cluster * 2, static_cast<uint16_t>(value));
      } else {
        std::byte* at = out.data() + cluster + cluster / 2;
        const uint16_t old = load_le<uint16_t>(at);
        store_le<uint16_t>(
            at, static_cast<uint16_t>(cluster % 2 == 0 ? (old & 0xF000) | (value & 0x0FFF)
                                                       : (old & 0x000F) | (value & 0x0FFF) << 4));
      }
    }
  }

  FatKind kind_;
  uint32_t clusters_;
  bool scattered_ = true;
  uint32_t next_ = 2;
  unsigned tilde_ = 0;
  std::vector<uint32_t> table_;
  Bytes data_;
  Directory root_;
};

inline uint32_t test_crc32(ByteSpan bytes) {
  return crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

inline constexpr Guid kTestPartition = Guid::of("48464450-0000-4000-8000-000000000001");

// Recomputes the checksums of both copies.
inline void seal_gpt(Bytes& disk) {
  const uint64_t last = disk.size() / 512 - 1;
  for (uint64_t lba : {uint64_t{1}, last}) {
    std::byte* header = disk.data() + lba * 512;
    const uint64_t entries = load_le<uint64_t>(header + 72);
    if (entries > last - 32) continue;  // of a mutated table
    store_le<uint32_t>(header + 88, test_crc32(ByteSpan(disk).subspan(entries * 512, 128 * 128)));
    store_le<uint32_t>(header + 16, 0);
    store_le<uint32_t>(header + 16, test_crc32(ByteSpan(header, 92)));
  }
}

// A disk with one EFI system partition that holds `content`.
inline Bytes gpt_disk(ByteSpan content) {
  const uint64_t first = 2048;
  const uint64_t count = (content.size() + 511) / 512;
  Bytes disk((first + count + 34) * 512);
  const uint64_t last = disk.size() / 512 - 1;
  std::ranges::copy(content, disk.begin() + first * 512);
  disk[446 + 4] = std::byte{0xEE};
  store_le<uint32_t>(disk.data() + 446 + 8, 1);
  store_le<uint32_t>(disk.data() + 446 + 12, static_cast<uint32_t>(last));
  store_le<uint16_t>(disk.data() + 510, 0xAA55);
  for (bool backup : {false, true}) {
    const uint64_t lba = backup ? last : 1;
    const uint64_t entries = backup ? last - 32 : 2;
    std::byte* header = disk.data() + lba * 512;
    std::ranges::copy(as_bytes("EFI PART"), header);
    store_le<uint32_t>(header + 8, 0x00010000);
    store_le<uint32_t>(header + 12, 92);
    store_le<uint64_t>(header + 24, lba);
    store_le<uint64_t>(header + 32, backup ? 1 : last);
    store_le<uint64_t>(header + 40, 34);
    store_le<uint64_t>(header + 48, last - 33);
    store_le<uint64_t>(header + 72, entries);
    store_le<uint32_t>(header + 80, 128);
    store_le<uint32_t>(header + 84, 128);
    std::byte* entry = disk.data() + entries * 512;
    partition_types::kEfiSystem.store(entry);
    kTestPartition.store(entry + 16);
    store_le<uint64_t>(entry + 32, first);
    store_le<uint64_t>(entry + 40, first + count - 1);
    store_le<uint16_t>(entry + 56, 'E');
  }
  seal_gpt(disk);
  return disk;
}

}  // namespace hf::secure_boot
