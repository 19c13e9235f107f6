#include "secure_boot/disk/mbr.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace hf::secure_boot {
namespace {

constexpr size_t kTable = 446;
constexpr size_t kEntrySize = 16;
constexpr uint8_t kProtective = 0xEE;  // PMBR_GPT_PARTITION
constexpr uint8_t kEfiSystem = 0xEF;   // EFI_PARTITION
constexpr uint32_t kLogicalFirst = 5;

// EXTENDED_DOS_PARTITION, EXTENDED_WINDOWS_PARTITION. Linux has another one, 0x85, which firmware
// does not follow.
bool is_extended(uint8_t type) { return type == 0x05 || type == 0x0F; }

Error refused(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

// In 32 bits, as edk2 reckons: what reaches beyond them begins anew at 0.
uint32_t last_of(const MbrEntry& entry) { return entry.first + entry.count - 1; }

Partition partition_of(const MbrEntry& entry, uint32_t number, uint64_t first) {
  return {.number = number,
          .offset = first * kSectorSize,
          .size = uint64_t{entry.count} * kSectorSize,
          .mbr_type = entry.type,
          .active = entry.boot == 0x80,
          .is_efi_system = entry.type == kEfiSystem};
}

}  // namespace

std::array<MbrEntry, 4> mbr_entries(ByteSpan sector) {
  std::array<MbrEntry, 4> entries;
  for (size_t index = 0; index < entries.size(); ++index) {
    const std::byte* raw = sector.data() + kTable + index * kEntrySize;
    entries[index] = {.boot = load_le<uint8_t>(raw),
                      .type = load_le<uint8_t>(raw + 4),
                      .first = load_le<uint32_t>(raw + 8),
                      .count = load_le<uint32_t>(raw + 12)};
  }
  return entries;
}

bool has_mbr_signature(ByteSpan sector) { return load_le<uint16_t>(sector.data() + 510) == 0xAA55; }

Status check_mbr(ByteSpan sector, uint64_t sectors) {
  const Error none{.code = ErrorCode::kNotFound, .cause = "no partition table"};
  if (!has_mbr_signature(sector)) return none;
  const auto entries = mbr_entries(sector);
  if (std::ranges::all_of(entries, &MbrEntry::empty)) return none;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].empty()) continue;
    if (last_of(entries[i]) > sectors - 1) {
      return refused(fmt::format("partition {} ends at sector {}, the disk at {}", i + 1,
                                 last_of(entries[i]), sectors - 1));
    }
    for (size_t k = i + 1; k < entries.size(); ++k) {
      if (entries[k].empty()) continue;
      if (last_of(entries[k]) >= entries[i].first && entries[k].first <= last_of(entries[i])) {
        return refused(fmt::format("partitions {} and {} overlap", i + 1, k + 1));
      }
    }
  }
  return {};
}

std::vector<Partition> mbr_partitions(ByteSpan sector) {
  std::vector<Partition> partitions;
  const auto entries = mbr_entries(sector);
  for (size_t index = 0; index < entries.size(); ++index) {
    const MbrEntry& entry = entries[index];
    if (entry.empty() || entry.type == kProtective) continue;
    partitions.push_back(partition_of(entry, static_cast<uint32_t>(index + 1), entry.first));
  }
  return partitions;
}

Result<std::vector<Partition>> extended_partitions(BlockSource& partition, PartitionTable& table) {
  const uint64_t sectors = partition.size() / kSectorSize;
  std::vector<Partition> partitions;
  std::set<uint32_t> seen;
  // 0 is the first record, and as what a record names the end.
  for (uint32_t at = 0; at == 0 ? seen.empty() : at < sectors;) {
    if (!seen.insert(at).second) {
      table.endless =
          "the chain of extended partitions does not end: it leads back to itself, and firmware "
          "follows it for ever";
      break;
    }
    if (seen.size() > kMbrLogicalMax) {
      table.warnings.emplace_back(
          fmt::format("more than {} logical partitions: no more are looked at", kMbrLogicalMax));
      break;
    }
    const Result<Bytes> sector = partition.read_bytes(at * kSectorSize, kSectorSize);
    // What was found so far stays.
    if (!sector.ok()) {
      if (sector.error().code != ErrorCode::kCorrupt) return sector.error();
      break;
    }
    const auto entries = mbr_entries(*sector);
    if (entries[0].count == 0) break;
    if (is_extended(entries[0].type)) {
      at = entries[0].first;
      continue;
    }
    const uint64_t first = static_cast<uint32_t>(entries[0].first + at);
    if (first == 0 || first + entries[0].count - 1 >= sectors) break;
    partitions.push_back(
        partition_of(entries[0], kLogicalFirst + static_cast<uint32_t>(partitions.size()), first));
    if (!is_extended(entries[1].type)) break;
    at = entries[1].first;
  }
  return partitions;
}

}  // namespace hf::secure_boot
