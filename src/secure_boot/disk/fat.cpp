#include "secure_boot/disk/fat.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "secure_boot/disk/fat_directory.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kBootSector = 512;
constexpr uint64_t kWindow = 4096;
constexpr uint64_t kDirectoryBytesMax = kFatDirectoryEntriesMax * kFatEntrySize;

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

Status FatVolume::parse_boot_sector() {
  if (source_->size() < kBootSector) return not_fat();
  const Bytes sector = TRY(source_->read_bytes(0, kBootSector));
  const std::byte* raw = sector.data();
  const uint8_t jump = load_le<uint8_t>(raw);
  const uint32_t sector_size = load_le<uint16_t>(raw + 11);
  const uint32_t per_cluster = load_le<uint8_t>(raw + 13);
  const uint32_t reserved = load_le<uint16_t>(raw + 14);
  const uint32_t copies = load_le<uint8_t>(raw + 16);
  const uint8_t media = load_le<uint8_t>(raw + 21);
  // What edk2's FAT driver asks before it takes a volume.
  if ((jump != 0xE9 && jump != 0xEB && jump != 0x49) || !std::has_single_bit(sector_size) ||
      sector_size < 512 || sector_size > 4096 || !std::has_single_bit(per_cluster) ||
      reserved == 0 || copies == 0 || (media <= 0xF7 && media != 0xF0)) {
    return not_fat();
  }
  const uint32_t root_entries = load_le<uint16_t>(raw + 17);
  const uint32_t fat16 = load_le<uint16_t>(raw + 22);
  const uint64_t fat_sectors = fat16 != 0 ? fat16 : load_le<uint32_t>(raw + 36);
  const uint32_t total16 = load_le<uint16_t>(raw + 19);
  const uint64_t total = total16 != 0 ? total16 : load_le<uint32_t>(raw + 32);
  const bool fat32 = fat16 == 0;
  if (fat_sectors == 0 || (fat32 && root_entries != 0) || (!fat32 && root_entries == 0)) {
    return not_fat();
  }
  cluster_size_ = sector_size * per_cluster;
  fat_offset_ = uint64_t{reserved} * sector_size;
  fat_size_ = fat_sectors * sector_size;
  root_offset_ = fat_offset_ + copies * fat_size_;
  root_size_ = root_entries * static_cast<uint32_t>(kFatEntrySize);
  const uint64_t root_sectors = (root_size_ + sector_size - 1) / sector_size;
  data_offset_ = root_offset_ + root_sectors * sector_size;
  if (total * sector_size > source_->size()) {
    return corrupt("it is larger than its partition (cut short?)");
  }
  if (data_offset_ >= total * sector_size) return corrupt("no room is left for files");
  const uint64_t clusters = (total * sector_size - data_offset_) / cluster_size_;
  if (clusters > 0x0FFFFFF5) return corrupt("more clusters than there can be");
  clusters_ = static_cast<uint32_t>(clusters);
  kind_ = fat32 ? Kind::kFat32 : (clusters_ < 4085 ? Kind::kFat12 : Kind::kFat16);
  const uint64_t bits = kind_ == Kind::kFat12 ? 12 : (kind_ == Kind::kFat16 ? 16 : 32);
  if ((uint64_t{clusters_} + 2) * bits / 8 > fat_size_) {
    return corrupt("its allocation table is too short");
  }
  root_cluster_ = fat32 ? load_le<uint32_t>(raw + 44) & 0x0FFFFFFF : 0;
  if (fat32 && !is_data(root_cluster_)) return corrupt("its root directory lies outside of it");
  const uint32_t serial = load_le<uint32_t>(raw + (fat32 ? 67 : 39));
  serial_ = fmt::format("{:04X}-{:04X}", serial >> 16, serial & 0xFFFF);
  label_ = trimmed(as_text(ByteSpan(raw + (fat32 ? 71 : 43), 11)));
  return {};
}

Result<Bytes> FatVolume::fat_bytes(uint64_t offset, size_t count) {
  if (offset + count > fat_size_) return corrupt("a cluster beyond its allocation table");
  const uint64_t start = offset / kWindow * kWindow;
  if (offset + count > start + kWindow) {  // an entry of 12 bits may lie across two pieces
    return source_->read_bytes(fat_offset_ + offset, count);
  }
  if (window_.empty() || window_offset_ != start) {
    window_ = TRY(source_->read_bytes(fat_offset_ + start,
                                      static_cast<size_t>(std::min(kWindow, fat_size_ - start))));
    window_offset_ = start;
  }
  auto from = window_.begin() + static_cast<std::ptrdiff_t>(offset - start);
  return Bytes(from, from + static_cast<std::ptrdiff_t>(count));
}

// 0: the chain ends here.
Result<uint32_t> FatVolume::next_cluster(uint32_t cluster) {
  uint32_t next = 0;
  uint32_t end = 0;
  if (kind_ == Kind::kFat12) {
    const Bytes raw = TRY(fat_bytes(cluster + cluster / 2, 2));
    const uint16_t pair = load_le<uint16_t>(raw.data());
    next = cluster % 2 == 0 ? pair & 0x0FFFU : static_cast<uint32_t>(pair >> 4);
    end = 0x0FF8;
  } else if (kind_ == Kind::kFat16) {
    const Bytes raw = TRY(fat_bytes(uint64_t{cluster} * 2, 2));
    next = load_le<uint16_t>(raw.data());
    end = 0xFFF8;
  } else {
    const Bytes raw = TRY(fat_bytes(uint64_t{cluster} * 4, 4));
    next = load_le<uint32_t>(raw.data()) & 0x0FFFFFFF;
    end = 0x0FFFFFF8;
  }
  if (next >= end) return uint32_t{0};
  if (!is_data(next)) return corrupt("a chain of clusters leads out of it");
  return next;
}

Result<Bytes> FatVolume::read_chain(uint32_t cluster, uint64_t bytes) {
  if (bytes > uint64_t{clusters_} * cluster_size_) return corrupt("a file larger than the volume");
  Bytes out;
  out.reserve(bytes);
  uint32_t at = cluster;
  while (out.size() < bytes) {
    if (!is_data(at)) return corrupt("a file's chain of clusters is shorter than the file");
    // Neighbours are read at once.
    const uint32_t first = at;
    uint64_t run = 0;
    do {
      run += cluster_size_;
      const uint32_t last = at;
      at = out.size() + run < bytes ? TRY(next_cluster(at)) : 0;
      if (at != last + 1) break;
    } while (out.size() + run < bytes);
    const uint64_t take = std::min<uint64_t>(run, bytes - out.size());
    const size_t before = out.size();
    out.resize(before + take);
    TRY(source_->read(data_offset_ + uint64_t{first - 2} * cluster_size_,
                      MutableByteSpan(out).subspan(before)));
  }
  return out;
}

// A directory has no size: its chain is followed to its end or to the format's bound.
Result<Bytes> FatVolume::read_directory(uint32_t cluster) {
  if (cluster == 0 && kind_ != Kind::kFat32) return source_->read_bytes(root_offset_, root_size_);
  uint32_t at = cluster == 0 ? root_cluster_ : cluster;
  Bytes out;
  while (at != 0) {
    if (!is_data(at)) return corrupt("a directory lies outside of it");
    if (out.size() + cluster_size_ > kDirectoryBytesMax + cluster_size_) {
      return corrupt("a directory whose chain of clusters does not end");
    }
    const Bytes piece =
        TRY(source_->read_bytes(data_offset_ + uint64_t{at - 2} * cluster_size_, cluster_size_));
    out.insert(out.end(), piece.begin(), piece.end());
    at = TRY(next_cluster(at));
  }
  return out;
}

Result<std::shared_ptr<const FatVolume::Directory>> FatVolume::directory_at(uint32_t cluster) {
  if (auto kept = directories_.find(cluster); kept != directories_.end()) return kept->second;
  const Bytes raw = TRY(read_directory(cluster));
  auto directory = std::make_shared<Directory>();
  directory->entries = parse_fat_directory(raw);
  for (size_t index = 0; index < directory->entries.size(); ++index) {
    FatEntry& entry = directory->entries[index];
    // FAT32's entries have more bits for the first cluster.
    if (kind_ != Kind::kFat32) entry.cluster &= 0xFFFF;
    // Of two with the same name the first counts.
    directory->by_name.emplace(lower(entry.name), index);
    directory->by_name.emplace(lower(entry.short_name), index);
  }
  // One more for the directory itself: empty ones can be many.
  const size_t size = directory->entries.size() + 1;
  if (size <= kFatEntriesKeptMax - entries_kept_) {
    entries_kept_ += size;
    directories_.emplace(cluster, directory);
  }
  return std::shared_ptr<const Directory>(std::move(directory));
}

Result<std::vector<FatEntry>> FatVolume::list(std::string_view path) {
  const FatEntry directory = TRY(find(path));
  if (!directory.is_directory) {
    return Error{.code = ErrorCode::kNotFound, .cause = std::string(path) + " is no directory"};
  }
  return TRY(directory_at(directory.cluster))->entries;
}

Result<FatEntry> FatVolume::find(std::string_view path) {
  FatEntry at{.is_directory = true};
  const std::vector<std::string_view> parts = parts_of(path);
  if (parts.size() > kFatPathDepthMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "a path of more than 32 names"};
  }
  for (std::string_view part : parts) {
    const Error missing{.code = ErrorCode::kNotFound,
                        .cause = "there is no file " + std::string(path)};
    if (!at.is_directory) return missing;
    const std::shared_ptr<const Directory> directory = TRY(directory_at(at.cluster));
    auto found = directory->by_name.find(lower(part));
    if (found == directory->by_name.end()) return missing;
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
