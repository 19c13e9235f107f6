// FAT12, FAT16 and FAT32, read-only, with long names.
//
// Source: Microsoft, "FAT: General Overview of On-Disk Format" 1.03 (the UEFI specification's FAT,
// UEFI 2.10, 13.3). Every number of the file system is checked against the volume; a chain of
// clusters is followed no further than the file's size, so that a loop ends. Directories are kept
// once they are read: the volume is looked at as it is at one time.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "secure_boot/disk/disk_reader.h"

namespace hf::secure_boot {

inline constexpr size_t kFatDirectoryEntriesMax = 65536;  // the format's own bound: 2 MiB
inline constexpr size_t kFatPathDepthMax = 32;
inline constexpr size_t kFatEntriesKeptMax = 2 * kFatDirectoryEntriesMax;  // of all directories

struct FatEntry {
  std::string name;        // the long name where there is one, UTF-8
  std::string short_name;  // "BOOTX6~1.EFI"
  bool is_directory = false;
  uint32_t size = 0;  // bytes; 0 for directories
  uint32_t cluster = 0;
};

class FatVolume {
 public:
  // `source` must outlive it. kNotFound: no FAT file system there; kCorrupt: a damaged one.
  static Result<FatVolume> open(BlockSource& source);

  std::string_view kind() const;  // "FAT32"
  const std::string& label() const { return label_; }
  const std::string& serial() const { return serial_; }  // "4846-4450"

  // Paths have '/' or '\' between names; names are compared without case. The root is "".
  // kNotFound; kCorrupt.
  Result<FatEntry> find(std::string_view path);
  // Without "." and "..", deleted entries and volume labels.
  Result<std::vector<FatEntry>> list(std::string_view path);
  // kLimit if the file has more than `bytes_max`, read or not.
  Result<Bytes> read(const FatEntry& file, size_t bytes_max);
  Result<Bytes> read(std::string_view path, size_t bytes_max);

 private:
  enum class Kind : uint8_t { kFat12, kFat16, kFat32 };

  explicit FatVolume(BlockSource& source) : source_(&source) {}
  Status parse_boot_sector();
  Result<uint32_t> next_cluster(uint32_t cluster);
  Result<Bytes> fat_bytes(uint64_t offset, size_t count);
  Result<Bytes> read_chain(uint32_t cluster, uint64_t bytes);
  Result<Bytes> read_directory(uint32_t cluster);
  struct Directory {
    std::vector<FatEntry> entries;
    std::unordered_map<std::string, size_t> by_name;  // in lower case, long and short
  };
  Result<std::shared_ptr<const Directory>> directory_at(uint32_t cluster);
  bool is_data(uint32_t cluster) const { return cluster >= 2 && cluster < clusters_ + 2; }

  BlockSource* source_;
  Kind kind_ = Kind::kFat32;
  std::string label_;
  std::string serial_;
  uint32_t cluster_size_ = 0;  // bytes
  uint64_t fat_offset_ = 0;    // bytes, of the first copy
  uint64_t fat_size_ = 0;      // bytes of one copy
  uint64_t root_offset_ = 0;   // FAT12 and FAT16: the root directory's own area
  uint32_t root_size_ = 0;     // bytes
  uint32_t root_cluster_ = 0;  // FAT32
  uint64_t data_offset_ = 0;   // bytes, of cluster 2
  uint32_t clusters_ = 0;
  uint64_t window_offset_ = 0;  // the piece of the table that was read last
  Bytes window_;
  // By first cluster. A path is looked up once for each command that names it: what was read once
  // is not read again, up to a bound.
  std::map<uint32_t, std::shared_ptr<const Directory>> directories_;
  size_t entries_kept_ = 0;
};

}  // namespace hf::secure_boot
