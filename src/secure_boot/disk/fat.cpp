#include "secure_boot/disk/fat.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <unordered_set>

#include "secure_boot/disk/fat_directory.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kBootSector = 512;
constexpr uint64_t kDirectoryBytesMax = kFatDirectoryEntriesMax * kFatEntrySize;
constexpr uint64_t kRoot = ~uint64_t{0};

// Fat.h: MIN_BLOCK_ALIGNMENT, MAX_BLOCK_ALIGNMENT, MAX_SECTORS_PER_CLUSTER_ALIGNMENT
constexpr uint32_t kSectorMin = 1 << 9;
constexpr uint32_t kSectorMax = 1 << 12;
constexpr uint32_t kPerClusterMax = 1 << 7;
// FatFileSystem.h: FAT_MAX_FAT12_CLUSTER, FAT_MAX_FAT16_CLUSTER
constexpr uint64_t kFat12ClustersEnd = 4085;
constexpr uint64_t kFat16ClustersEnd = 65525;
// Fat.h: FAT_FATCACHE_PAGE_MIN_ALIGNMENT …, FAT_FATCACHE_GROUP_MAX_COUNT
constexpr uint64_t kTablePageFat12 = 1 << 13;
constexpr uint64_t kTablePage = 1 << 15;
constexpr uint64_t kDataPageFat12 = 1 << 13;
constexpr uint64_t kDataPage = 1 << 16;
constexpr uint64_t kTablePagesKept = 16;
// What a chain leads to besides clusters (FAT_CLUSTER_SPECIAL, FAT_END_OF_FAT_CHAIN()).
constexpr uint64_t kBad = ~uint64_t{0} - 8;
constexpr uint64_t kEnd = ~uint64_t{0};

Error corrupt(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = "FAT file system: " + std::move(cause)};
}

Error not_fat() { return Error{.code = ErrorCode::kNotFound, .cause = "no FAT file system"}; }

std::string trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.remove_suffix(1);
  std::string out;
  for (char c : text) out.push_back(c >= 0x20 && c < 0x7F ? c : '?');
  return out;
}

std::vector<std::string_view> parts_of(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const size_t end = std::min(path.find_first_of("/\\"), path.size());
    if (end != 0) parts.push_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return parts;
}

// ASCII only: the names of boot files are.
std::string lower(std::string_view name) {
  std::string out(name);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

}  // namespace

Result<FatVolume> FatVolume::open(BlockSource& source) {
  FatVolume volume(source);
  TRY(volume.parse_boot_sector());
  return volume;
}

std::string_view FatVolume::kind() const {
  if (kind_ == Kind::kFat12) return "FAT12";
  return kind_ == Kind::kFat16 ? "FAT16" : "FAT32";
}

// FatOpenDevice(), Init.c. Neither the jump nor the signature is asked for.
Status FatVolume::parse_boot_sector() {
  if (source_->readable() < kBootSector) return not_fat();
  const Bytes sector = TRY(source_->read_bytes(0, kBootSector));
  const std::byte* raw = sector.data();
  const uint32_t sector_size = load_le<uint16_t>(raw + 11);
  const uint32_t per_cluster = load_le<uint8_t>(raw + 13);
  const uint32_t reserved = load_le<uint16_t>(raw + 14);
  const uint32_t copies = load_le<uint8_t>(raw + 16);
  const uint8_t media = load_le<uint8_t>(raw + 21);
  const uint32_t total16 = load_le<uint16_t>(raw + 19);
  const uint64_t total = total16 != 0 ? total16 : load_le<uint32_t>(raw + 32);
  const uint32_t fat16 = load_le<uint16_t>(raw + 22);
  const bool fat32 = fat16 == 0;
  const uint64_t fat_sectors = fat32 ? load_le<uint32_t>(raw + 36) : fat16;
  if (reserved == 0 || copies == 0 || total == 0) return not_fat();
  if (!std::has_single_bit(sector_size) || sector_size < kSectorMin || sector_size > kSectorMax) {
    return not_fat();
  }
  if (!std::has_single_bit(per_cluster) || per_cluster > kPerClusterMax) return not_fat();
  if (media <= 0xF7 && media != 0xF0 && media != 0x00 && media != 0x01) return not_fat();
  const uint32_t root_entries = fat32 ? 0 : load_le<uint16_t>(raw + 17);
  if (!fat32 && root_entries == 0) return not_fat();
  if (fat32) {
    const bool not_mirrored = (load_le<uint16_t>(raw + 40) & 0x80) != 0;
    if (fat_sectors == 0 || load_le<uint16_t>(raw + 42) != 0 || not_mirrored) return not_fat();
    root_cluster_ = load_le<uint32_t>(raw + 44);
  }
  volume_size_ = total * sector_size;
  cluster_size_ = uint64_t{sector_size} * per_cluster;
  fat_offset_ = uint64_t{reserved} * sector_size;
  fat_size_ = fat_sectors * sector_size;
  root_offset_ = fat_offset_ + copies * fat_size_;
  root_size_ = root_entries * static_cast<uint32_t>(kFatEntrySize);
  const uint64_t root_sectors = (root_size_ + sector_size - 1) / sector_size;
  data_offset_ = root_offset_ + root_sectors * sector_size;
  // Where no room is left for files edk2's number wraps around.
  max_cluster_ = (total - data_offset_ / sector_size) >> std::countr_zero(per_cluster);
  TRY(set_kind(fat32));
  const uint32_t serial = load_le<uint32_t>(raw + (fat32 ? 67 : 39));
  serial_ = fmt::format("{:04X}-{:04X}", serial >> 16, serial & 0xFFFF);
  label_ = trimmed(as_text(ByteSpan(raw + (fat32 ? 71 : 43), 11)));
  return {};
}

// The end of FatOpenDevice(), and FatInitializeDiskCache(), DiskCache.c.
Status FatVolume::set_kind(bool fat32) {
  if (!fat32 && max_cluster_ >= kFat16ClustersEnd) {
    return corrupt(data_offset_ > volume_size_
                       ? "no room is left for files"
                       : fmt::format("{} clusters in a FAT16; firmware takes fewer than {}",
                                     max_cluster_, kFat16ClustersEnd));
  }
  if (fat32 && max_cluster_ < kFat16ClustersEnd) {
    return corrupt(
        fmt::format("{} clusters in a FAT32; firmware takes no fewer than {} (make it FAT16: "
                    "mkfs.vfat -F 16)",
                    max_cluster_, kFat16ClustersEnd));
  }
  const bool fat12 = !fat32 && max_cluster_ < kFat12ClustersEnd;
  kind_ = fat32 ? Kind::kFat32 : (fat12 ? Kind::kFat12 : Kind::kFat16);
  table_page_ = fat12 ? kTablePageFat12 : kTablePage;
  data_page_ = fat12 ? kDataPageFat12 : kDataPage;
  if (fat12) return {};
  // FatAccessVolumeDirty(): the table's second entry.
  const uint64_t entry = fat32 ? 4 : 2;
  const uint64_t end = fat_offset_ + 2 * entry;
  if (end > volume_size_ || end > source_->readable()) {
    return corrupt("its allocation table lies outside of it");
  }
  return {};
}

// FatExchangeCachePage(), DiskCache.c: pages of the table are cut at its end, and the rest of one
// are zeros (behind the 16th, what another page left there); one that begins behind the end is read
// as it stands there.
Result<Bytes> FatVolume::table_page(uint64_t page) {
  const uint64_t at = page * table_page_;
  const uint64_t size = at <= fat_size_ ? std::min(table_page_, fat_size_ - at) : table_page_;
  if (fat_offset_ + at + size > volume_size_) return corrupt("an allocation table beyond its end");
  Bytes bytes = TRY(source_->read_bytes(fat_offset_ + at, size));
  bytes.resize(table_page_);
  return bytes;
}

// Nothing: it cannot be read, which ends a chain (FatLoadFatEntry(), FileSpace.c).
Result<std::optional<Bytes>> FatVolume::table_bytes(uint64_t offset, size_t count) {
  Bytes out;
  for (size_t i = 0; i < count; ++i) {
    const uint64_t page = (offset + i) / table_page_;
    if (offset + i >= fat_size_ && page * table_page_ <= fat_size_ && page >= kTablePagesKept) {
      return Error{.code = ErrorCode::kUnsupported,
                   .cause = "its allocation table is too short; what firmware reads is chance"};
    }
    if (!window_ || window_number_ != page) {
      window_.reset();
      Result<Bytes> bytes = table_page(page);
      if (!bytes.ok() && bytes.error().code == ErrorCode::kCorrupt) return std::optional<Bytes>();
      window_ = TRY(std::move(bytes));
      window_number_ = page;
    }
    out.push_back((*window_)[(offset + i) % table_page_]);
  }
  return std::optional(std::move(out));
}

// FatGetFatEntry(), FileSpace.c.
Result<uint64_t> FatVolume::next_cluster(uint64_t cluster) {
  if (cluster > max_cluster_ + 1) return kEnd;
  const uint64_t at =
      kind_ == Kind::kFat12 ? cluster * 3 / 2 : cluster * (kind_ == Kind::kFat16 ? 2 : 4);
  const std::optional<Bytes> raw = TRY(table_bytes(at, kind_ == Kind::kFat32 ? 4 : 2));
  if (!raw) return kEnd;
  uint64_t next = 0;
  uint64_t bad = 0;
  if (kind_ == Kind::kFat12) {
    const uint16_t pair = load_le<uint16_t>(raw->data());
    next = cluster % 2 == 0 ? pair & 0x0FFFU : static_cast<uint32_t>(pair >> 4);
    bad = 0x0FF7;
  } else if (kind_ == Kind::kFat16) {
    next = load_le<uint16_t>(raw->data());
    bad = 0xFFF7;
  } else {
    next = load_le<uint32_t>(raw->data()) & 0x0FFFFFFF;
    bad = 0x0FFFFFF7;
  }
  if (next < bad) return next;
  return next == bad ? kBad : kEnd;
}

// FatDiskIo(), Misc.c, and FatAccessCache(), DiskCache.c: firmware reads whole pages, counted from
// the root directory, and cut at the volume's end. Of a volume that its disk is too short for it
// reads no file whose last page is not there.
Status FatVolume::read_data(uint64_t position, MutableByteSpan out) {
  if (position + out.size() > volume_size_) return corrupt("a cluster beyond its end");
  const uint64_t begin = (position - root_offset_) / data_page_ * data_page_;
  const uint64_t end =
      (position - root_offset_ + out.size() + data_page_ - 1) / data_page_ * data_page_;
  if (root_offset_ + begin > source_->readable() ||
      std::min(root_offset_ + end, volume_size_) > source_->readable()) {
    return corrupt("a cluster behind the end of its partition or disk");
  }
  return source_->read(position, out);
}

// FatOFilePosition(), FileSpace.c, and FatAccessOFile(), ReadWrite.c.
Result<Bytes> FatVolume::read_chain(uint64_t cluster, uint64_t bytes) {
  Bytes out;
  uint64_t at = cluster;
  while (out.size() < bytes) {
    if (!is_data(at)) return corrupt("a file's chain of clusters is shorter than the file");
    // Neighbours are read at once.
    const uint64_t first = at;
    uint64_t run = 0;
    do {
      run += cluster_size_;
      const uint64_t last = at;
      at = out.size() + run < bytes ? TRY(next_cluster(at)) : 0;
      if (at != last + 1) break;
    } while (out.size() + run < bytes);
    const uint64_t take = std::min<uint64_t>(run, bytes - out.size());
    const size_t before = out.size();
    if (offset_of(first) + take > volume_size_) return corrupt("a cluster beyond its end");
    out.resize(before + take);
    TRY(read_data(offset_of(first), MutableByteSpan(out).subspan(before)));
  }
  return out;
}

// FatPhysicalDirSize(), FileSpace.c. A chain that breaks off makes a directory empty; one that
// leads out of the volume ends there.
Result<std::vector<uint64_t>> FatVolume::directory_chain(uint64_t first) {
  std::vector<uint64_t> chain;
  std::unordered_set<uint64_t> seen;
  if (first == 0) return chain;
  for (uint64_t at = first; at != kEnd; at = TRY(next_cluster(at))) {
    if (at == 0 || at == kBad) return std::vector<uint64_t>();
    if (!seen.insert(at).second) {
      return corrupt("a directory whose chain of clusters does not end");
    }
    if ((chain.size() + 1) * cluster_size_ > kDirectoryBytesMax + cluster_size_) {
      return Error{.code = ErrorCode::kLimit,
                   .cause = fmt::format("a directory of more than {} bytes", kDirectoryBytesMax)};
    }
    chain.push_back(at);
  }
  return chain;
}

// Firmware reads entry by entry: those before what cannot be read are there.
Status FatVolume::read_pieces(uint64_t position, size_t count, RawDirectory& out) {
  constexpr size_t kPiece = 512;
  Bytes bytes(count);
  Status read = read_data(position, bytes);
  size_t got = read.ok() ? count : 0;
  for (; !read.ok() && read.error().code == ErrorCode::kCorrupt && got < count; got += kPiece) {
    const size_t size = std::min(kPiece, count - got);
    if (!read_data(position + got, MutableByteSpan(bytes).subspan(got, size)).ok()) break;
  }
  if (!read.ok()) {
    if (read.error().code != ErrorCode::kCorrupt) return read;
    out.cut = read.error();
  }
  out.bytes.insert(out.bytes.end(), bytes.begin(),
                   bytes.begin() + static_cast<std::ptrdiff_t>(std::min(got, count)));
  return {};
}

Result<FatVolume::RawDirectory> FatVolume::read_directory(const FatEntry& entry) {
  RawDirectory out;
  if (entry.is_root && kind_ != Kind::kFat32) {
    TRY(read_pieces(root_offset_, root_size_, out));
    return out;
  }
  const uint64_t first = entry.is_root ? root_cluster_ : entry.cluster;
  for (uint64_t cluster : TRY(directory_chain(first))) {
    if (!is_data(cluster)) {
      out.cut = corrupt("a directory lies outside of it");
    } else {
      TRY(read_pieces(offset_of(cluster), cluster_size_, out));
    }
    if (out.cut) break;
  }
  return out;
}

Result<std::shared_ptr<const FatVolume::Directory>> FatVolume::directory_at(const FatEntry& entry) {
  const uint64_t key = entry.is_root ? kRoot : entry.cluster;
  if (auto kept = directories_.find(key); kept != directories_.end()) return kept->second;
  RawDirectory raw = TRY(read_directory(entry));
  auto directory = std::make_shared<Directory>();
  bool ended = false;
  directory->entries = parse_fat_directory(raw.bytes, ended);
  if (!ended) directory->cut = std::move(raw.cut);
  for (size_t index = 0; index < directory->entries.size(); ++index) {
    FatEntry& found = directory->entries[index];
    // FAT32's entries have more bits for the first cluster (FatLoadNextDirEnt()).
    if (kind_ != Kind::kFat32) found.cluster &= 0xFFFF;
    // Of two with the same name the first counts (FatSearchODir()).
    directory->by_name.emplace(lower(found.name), index);
    if (found.found_by_short_name) directory->by_name.emplace(lower(found.short_name), index);
  }
  // One more for the directory itself: empty ones can be many.
  const size_t size = directory->entries.size() + 1;
  if (size <= kFatEntriesKeptMax - entries_kept_) {
    entries_kept_ += size;
    directories_.emplace(key, directory);
  }
  return std::shared_ptr<const Directory>(std::move(directory));
}

Result<std::vector<FatEntry>> FatVolume::list(std::string_view path) {
  const FatEntry directory = TRY(find(path));
  if (!directory.is_directory) {
    return Error{.code = ErrorCode::kNotFound, .cause = std::string(path) + " is no directory"};
  }
  return TRY(directory_at(directory))->entries;
}

Result<FatEntry> FatVolume::find(std::string_view path) {
  FatEntry at{.is_directory = true, .is_root = true};
  const std::vector<std::string_view> parts = parts_of(path);
  if (parts.size() > kFatPathDepthMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "a path of more than 32 names"};
  }
  for (std::string_view part : parts) {
    const Error missing{.code = ErrorCode::kNotFound,
                        .cause = "there is no file " + std::string(path)};
    if (!at.is_directory) return missing;
    const std::shared_ptr<const Directory> directory = TRY(directory_at(at));
    auto found = directory->by_name.find(lower(part));
    if (found == directory->by_name.end()) return directory->cut.value_or(missing);
    at = directory->entries[found->second];
  }
  return at;
}

Result<Bytes> FatVolume::read(const FatEntry& file, size_t bytes_max) {
  if (file.is_directory) {
    return Error{.code = ErrorCode::kNotFound, .cause = file.name + " is a directory"};
  }
  if (file.size > bytes_max) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("{} has {} bytes; at most {} are read", file.name, file.size,
                                      bytes_max)};
  }
  return read_chain(file.cluster, file.size);
}

Result<Bytes> FatVolume::read(std::string_view path, size_t bytes_max) {
  return read(TRY(find(path)), bytes_max);
}

}  // namespace hf::secure_boot
