#include "secure_boot/disk/el_torito.h"

#include <algorithm>
#include <optional>

namespace hf::secure_boot {
namespace {

constexpr uint64_t kCdSector = 2048;
constexpr uint64_t kDescriptors = 32 << 10;  // where they begin
constexpr size_t kDescriptorsMax = 256;
constexpr uint32_t kBlocksPerCdSector = kCdSector / kSectorSize;
constexpr size_t kCatalogEntry = 32;
constexpr size_t kCatalogEntriesMax = kSectorSize / kCatalogEntry;  // BlockSize, not the CD's
constexpr uint8_t kTypePrimary = 1;                                 // CDVOL_TYPE_CODED
constexpr uint8_t kTypeEnd = 0xFF;
constexpr std::string_view kId = "CD001";
constexpr std::string_view kElTorito = "EL TORITO SPECIFICATION";
constexpr uint8_t kCatalogId = 1;
constexpr uint8_t kBootable = 0x88;

bool has_text(ByteSpan bytes, size_t at, std::string_view text) {
  return as_text(bytes.subspan(at, text.size())) == text;
}

// Nothing: beyond the end. Errors that are not the disk's own stay errors.
Result<std::optional<Bytes>> read_cd_sector(BlockSource& disk, uint64_t offset) {
  Result<Bytes> bytes = disk.read_bytes(offset, kCdSector);
  if (bytes.ok()) return std::optional(*std::move(bytes));
  if (bytes.error().code != ErrorCode::kCorrupt) return std::move(bytes).error();
  return std::optional<Bytes>();
}

bool is_catalog(ByteSpan catalog) {
  if (load_le<uint8_t>(catalog.data()) != kCatalogId ||
      load_le<uint16_t>(catalog.data() + 30) != 0xAA55) {
    return false;
  }
  uint32_t sum = 0;
  for (size_t at = 0; at < kCatalogEntry; at += 2) sum += load_le<uint16_t>(catalog.data() + at);
  return (sum & 0xFFFF) == 0;
}

// 512-byte sectors of the image that one entry names; `volume`: of the CD, in sectors of 2048.
uint64_t sectors_of(const std::byte* entry, uint32_t first, uint32_t volume, uint64_t disk) {
  uint32_t count = load_le<uint16_t>(entry + 6);
  switch (load_le<uint8_t>(entry + 1) & 0x0F) {
    case 0:  // no emulation
    case 4:  // hard disk
      break;
    case 1:
      count = 80 * 2 * 15;
      break;
    case 2:
      count = 80 * 2 * 18;
      break;
    case 3:
      count = 80 * 2 * 36;
      break;
    default:
      count = 0;
  }
  if (count >= 2) return uint64_t{count} * kBlocksPerCdSector;
  // The rest of the CD, in 32 bits, as edk2 reckons.
  const uint32_t begin = first * kBlocksPerCdSector;
  if (uint64_t{static_cast<uint32_t>(volume * kBlocksPerCdSector)} > disk) {
    return static_cast<uint32_t>(disk - begin);
  }
  return static_cast<uint32_t>((volume - first) * kBlocksPerCdSector);
}

void add_entries(ByteSpan catalog, uint32_t volume, uint64_t disk,
                 std::vector<Partition>& partitions) {
  for (size_t index = 1; index < kCatalogEntriesMax; ++index) {
    const std::byte* entry = catalog.data() + index * kCatalogEntry;
    const uint32_t first = load_le<uint32_t>(entry + 8);
    if (load_le<uint8_t>(entry) != kBootable || first == 0) continue;
    partitions.push_back(
        {.number = static_cast<uint32_t>(partitions.size() + 1),
         .offset = uint64_t{static_cast<uint32_t>(first * kBlocksPerCdSector)} * kSectorSize,
         .size = sectors_of(entry, first, volume, disk) * kSectorSize});
  }
}

}  // namespace

Result<std::vector<Partition>> el_torito_partitions(BlockSource& disk) {
  const uint64_t sectors = disk.size() / kSectorSize;
  std::vector<Partition> partitions;
  uint32_t volume = 0;
  for (size_t number = 0; number < kDescriptorsMax; ++number) {
    const uint64_t at = kDescriptors + number * kCdSector;
    if (at > (sectors - 1) * kSectorSize) break;
    const std::optional<Bytes> descriptor = TRY(read_cd_sector(disk, at));
    if (!descriptor) break;
    const uint8_t type = load_le<uint8_t>(descriptor->data());
    if (type == kTypeEnd || !has_text(*descriptor, 1, kId)) break;
    if (type == kTypePrimary) volume = load_le<uint32_t>(descriptor->data() + 80);
    if (!has_text(*descriptor, 7, kElTorito)) continue;
    const uint32_t catalog_at = load_le<uint32_t>(descriptor->data() + 71);
    if (static_cast<uint32_t>(catalog_at * kBlocksPerCdSector) > sectors - 1) continue;
    const std::optional<Bytes> catalog = TRY(read_cd_sector(disk, catalog_at * kCdSector));
    if (catalog && is_catalog(*catalog)) add_entries(*catalog, volume, sectors, partitions);
  }
  return partitions;
}

Result<bool> has_udf(BlockSource& disk) {
  const uint64_t end = (disk.size() / kSectorSize - 1) * kSectorSize;
  size_t number = 0;
  for (; number < kDescriptorsMax; ++number) {
    const std::optional<Bytes> sector =
        TRY(read_cd_sector(disk, kDescriptors + number * kCdSector));
    if (!sector) return false;
    if (has_text(*sector, 1, "BEA01")) break;
    if (!has_text(*sector, 1, kId)) return false;
  }
  const uint64_t at = kDescriptors + (number + 1) * kCdSector;
  if (at + kCdSector >= end) return false;
  const std::optional<Bytes> space = TRY(read_cd_sector(disk, at));
  if (!space || (!has_text(*space, 1, "NSR02") && !has_text(*space, 1, "NSR03"))) return false;
  const std::optional<Bytes> last = TRY(read_cd_sector(disk, at + kCdSector));
  return last && has_text(*last, 1, "TEA01");
}

}  // namespace hf::secure_boot
