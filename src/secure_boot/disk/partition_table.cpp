#include "secure_boot/disk/partition_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/disk/gpt.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kMbrTable = 446;
constexpr size_t kMbrEntry = 16;
constexpr uint8_t kMbrProtective = 0xEE;
constexpr uint8_t kMbrEfiSystem = 0xEF;

struct MbrEntry {
  uint8_t boot = 0;
  uint8_t type = 0;
  uint32_t first = 0;
  uint32_t count = 0;
};

std::array<MbrEntry, 4> mbr_entries(ByteSpan sector) {
  std::array<MbrEntry, 4> entries;
  for (size_t index = 0; index < entries.size(); ++index) {
    const std::byte* raw = sector.data() + kMbrTable + index * kMbrEntry;
    entries[index] = {.boot = load_le<uint8_t>(raw),
                      .type = load_le<uint8_t>(raw + 4),
                      .first = load_le<uint32_t>(raw + 8),
                      .count = load_le<uint32_t>(raw + 12)};
  }
  return entries;
}

bool is_extended(uint8_t type) { return type == 0x05 || type == 0x0F || type == 0x85; }

bool has_mbr_signature(ByteSpan sector) { return load_le<uint16_t>(sector.data() + 510) == 0xAA55; }

// Of a table, and not of the boot sector of a file system that covers the whole disk.
bool plausible(const std::array<MbrEntry, 4>& entries, uint64_t sectors) {
  bool any = false;
  for (const MbrEntry& entry : entries) {
    if (entry.boot != 0 && entry.boot != 0x80) return false;
    if (entry.type == 0 || entry.count == 0) continue;
    if (entry.first == 0 || entry.first >= sectors) return false;
    any = true;
  }
  return any;
}

Partition partition_of(const MbrEntry& entry, uint32_t number, uint64_t first) {
  return {.number = number,
          .offset = first * kSectorSize,
          .size = uint64_t{entry.count} * kSectorSize,
          .mbr_type = entry.type,
          .active = entry.boot == 0x80,
          .is_efi_system = entry.type == kMbrEfiSystem};
}

// The chain of extended boot records. A loop ends at the bound.
Status add_logical(BlockSource& disk, uint64_t extended, PartitionTable& table) {
  const uint64_t sectors = disk.size() / kSectorSize;
  uint64_t at = extended;
  for (size_t hops = 0; hops < kMbrLogicalMax; ++hops) {
    if (at >= sectors) break;
    const Bytes sector = TRY(disk.read_bytes(at * kSectorSize, kSectorSize));
    if (!has_mbr_signature(sector)) break;
    const auto entries = mbr_entries(sector);
    if (entries[0].type != 0 && entries[0].count != 0 && at + entries[0].first < sectors) {
      table.partitions.push_back(
          partition_of(entries[0], static_cast<uint32_t>(5 + hops), at + entries[0].first));
    }
    if (!is_extended(entries[1].type)) return {};
    at = extended + entries[1].first;
  }
  table.warnings.emplace_back("the chain of extended partitions does not end where it should");
  return {};
}

Result<PartitionTable> read_mbr(BlockSource& disk, ByteSpan sector) {
  PartitionTable table;
  table.style = PartitionStyle::kMbr;
  const auto entries = mbr_entries(sector);
  for (size_t index = 0; index < entries.size(); ++index) {
    const MbrEntry& entry = entries[index];
    if (entry.type == 0 || entry.count == 0) continue;
    if (is_extended(entry.type)) {
      TRY(add_logical(disk, entry.first, table));
    } else {
      table.partitions.push_back(
          partition_of(entry, static_cast<uint32_t>(index + 1), entry.first));
    }
  }
  return table;
}

Result<GptCopy> best_gpt(BlockSource& disk, std::vector<std::string>& warnings) {
  const uint64_t last = disk.size() / kSectorSize - 1;
  Result<GptCopy> primary = read_gpt_copy(disk, 1);
  Result<GptCopy> backup = read_gpt_copy(disk, primary.ok() ? primary->alternate_lba : last);
  if (primary.ok()) {
    if (!backup.ok()) {
      warnings.push_back("the backup partition table is damaged: " + backup.error().cause);
    } else if (primary->alternate_lba != last) {
      warnings.emplace_back("the backup partition table is not at the end of the disk");
    } else if (backup->entries != primary->entries) {
      warnings.emplace_back(
          "primary and backup partition tables differ; firmware uses the primary");
    }
    return primary;
  }
  if (backup.ok()) {
    warnings.push_back("the primary partition table is damaged (" + primary.error().cause +
                       "); firmware uses the backup");
    return backup;
  }
  return Error{.code = ErrorCode::kCorrupt,
               .cause = "the GUID partition table is damaged: primary: " + primary.error().cause +
                        "; backup: " + backup.error().cause};
}

void warn_of_overlaps(PartitionTable& table) {
  std::vector<const Partition*> sorted;
  for (const Partition& partition : table.partitions) sorted.push_back(&partition);
  std::ranges::sort(sorted, {}, [](const Partition* p) { return p->offset; });
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i - 1]->offset + sorted[i - 1]->size > sorted[i]->offset) {
      table.warnings.push_back(
          fmt::format("partitions {} and {} overlap", sorted[i - 1]->number, sorted[i]->number));
    }
  }
}

Result<PartitionTable> read_gpt(BlockSource& disk) {
  PartitionTable table;
  table.style = PartitionStyle::kGpt;
  const GptCopy copy = TRY(best_gpt(disk, table.warnings));
  table.disk_id = copy.disk_id;
  table.partitions = partitions_of(copy, disk.size(), table.warnings);
  table.gpt_event = gpt_event_of(copy);
  return table;
}

bool has_text(BlockSource& disk, uint64_t offset, std::string_view text) {
  Result<Bytes> bytes = disk.read_bytes(offset, text.size());
  return bytes.ok() && as_text(*bytes) == text;
}

}  // namespace

Result<PartitionTable> read_partition_table(BlockSource& disk) {
  if (disk.size() < 4 * kSectorSize) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = "the disk is too small for a partition table"};
  }
  const Bytes sector = TRY(disk.read_bytes(0, kSectorSize));
  const auto entries = mbr_entries(sector);
  const uint64_t sectors = disk.size() / kSectorSize;
  const bool mbr = has_mbr_signature(sector) && plausible(entries, sectors);
  const bool boot_code =
      has_mbr_signature(sector) && std::any_of(sector.begin(), sector.begin() + 440,
                                               [](std::byte b) { return b != std::byte{0}; });
  const bool protective = mbr && std::ranges::any_of(entries, [](const MbrEntry& entry) {
                            return entry.type == kMbrProtective && entry.first == 1;
                          });
  Result<PartitionTable> table = PartitionTable{};
  if (protective) {
    table = read_gpt(disk);
    if (!table.ok() && has_text(disk, 4096, "EFI PART")) {
      return Error{.code = ErrorCode::kUnsupported,
                   .cause =
                       "the partition table was written for sectors of 4096 bytes; the VM's "
                       "disks have 512"};
    }
  } else if (mbr) {
    table = read_mbr(disk, sector);
    if (table.ok()) warn_of_overlaps(*table);
  }
  if (!table.ok()) return table;
  if (!protective && has_text(disk, kSectorSize, "EFI PART")) {
    table->warnings.emplace_back(
        "a GUID partition table without its protective MBR; firmware passes over it");
  }
  table->boot_code = boot_code;
  return table;
}

}  // namespace hf::secure_boot
