// FAT12, FAT16 and FAT32, read-only, with long names, by the rules of edk2's FatPkg/EnhancedFatDxe:
// what firmware takes is taken, what it refuses is refused. Its functions are named where their
// rules stand.
//
// Source of the format: Microsoft, "FAT: General Overview of On-Disk Format" 1.03 (the UEFI
// specification's FAT, UEFI 2.10, 13.3). Firmware does not ask whether the volume fits into its
// partition: what lies behind the end cannot be read. A chain of clusters is followed no further
// than the file's size, so that a loop ends. Directories are kept once they are read: the volume is
// looked at as it is at one time.
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
  bool is_root = false;
  // The short name is compared by its bytes on the disk with the name asked for in capitals: one
  // that has small letters there is never found.
  bool found_by_short_name = true;
};

class FatVolume {
 public:
  // `source` must outlive it. kNotFound: no FAT file system there; kCorrupt: firmware takes it for
  // a damaged one.
  static Result<FatVolume> open(BlockSource& source);

  std::string_view kind() const;                  // "FAT32"
  uint64_t size() const { return volume_size_; }  // bytes that its boot sector says it has
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
  // What a directory's chain leads to, and what a name in it that was not found may mean.
  struct Directory {
    std::vector<FatEntry> entries;
    std::unordered_map<std::string, size_t> by_name;  // in lower case, long and short
    std::optional<Error> cut;                         // it could be read no further
  };
  struct RawDirectory {
    Bytes bytes;
    std::optional<Error> cut;
  };

  Status parse_boot_sector();
  Status set_kind(bool fat32);
  Result<Bytes> table_page(uint64_t page);
  Result<std::optional<Bytes>> table_bytes(uint64_t offset, size_t count);
  Result<uint64_t> next_cluster(uint64_t cluster);
  Status read_data(uint64_t position, MutableByteSpan out);
  Status read_pieces(uint64_t position, size_t count, RawDirectory& out);
  Result<Bytes> read_chain(uint64_t cluster, uint64_t bytes);
  Result<std::vector<uint64_t>> directory_chain(uint64_t first);
  Result<RawDirectory> read_directory(const FatEntry& entry);
  Result<std::shared_ptr<const Directory>> directory_at(const FatEntry& entry);
  bool is_data(uint64_t cluster) const { return cluster >= 2 && cluster <= max_cluster_ + 1; }
  uint64_t offset_of(uint64_t cluster) const {
    return data_offset_ + (cluster - 2) * cluster_size_;
  }

  BlockSource* source_;
  Kind kind_ = Kind::kFat32;
  std::string label_;
  std::string serial_;
  uint64_t volume_size_ = 0;    // bytes
  uint64_t cluster_size_ = 0;   // bytes
  uint64_t fat_offset_ = 0;     // bytes, of the first copy
  uint64_t fat_size_ = 0;       // bytes of one copy
  uint64_t root_offset_ = 0;    // FAT12 and FAT16: the root directory's own area; begin of the data
  uint32_t root_size_ = 0;      // bytes
  uint32_t root_cluster_ = 0;   // FAT32
  uint64_t data_offset_ = 0;    // bytes, of cluster 2
  uint64_t max_cluster_ = 0;    // how many clusters; modulo 2^64, as edk2 reckons
  uint64_t table_page_ = 1;     // bytes that firmware reads of the table at once
  uint64_t data_page_ = 1;      // and of all else
  uint64_t window_number_ = 0;  // the page of the table that was read last
  std::optional<Bytes> window_;
  // By first cluster; the root as kRoot. A path is looked up once for each command that names it:
  // what was read once is not read again, up to a bound.
  std::map<uint64_t, std::shared_ptr<const Directory>> directories_;
  size_t entries_kept_ = 0;
};

}  // namespace hf::secure_boot
