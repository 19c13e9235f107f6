#include "secure_boot/disk/gpt.h"

#include <fmt/format.h>
#include <isa-l/crc.h>

#include <algorithm>

namespace hf::secure_boot {
namespace {

constexpr uint8_t kMbrProtective = 0xEE;  // PMBR_GPT_PARTITION

Error corrupt(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

// Of a copy that firmware cannot use either; else it was not read here.
bool is_damage(const Error& error) {
  return error.code == ErrorCode::kCorrupt || error.code == ErrorCode::kNotFound;
}

// CRC-32 of IEEE 802.3, as zlib's crc32().
uint32_t crc32(ByteSpan bytes) {
  return crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xC0 | code >> 6));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | code >> 12));
    out.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | code >> 18));
    out.push_back(static_cast<char>(0x80 | (code >> 12 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

bool in_use(const std::byte* entry) {
  return std::any_of(entry, entry + Guid::kSize, [](std::byte b) { return b != std::byte{0}; });
}

// PartitionCheckCrcAltSize(): any size but 0 that fits into the sector, less than the defined
// fields have, too.
Status check_header(ByteSpan sector, uint64_t lba) {
  const uint32_t size = load_le<uint32_t>(sector.data() + 12);
  if (size == 0 || size > kSectorSize) return corrupt("its header has a wrong size");
  Bytes checked(sector.begin(), sector.end());
  store_le<uint32_t>(checked.data() + 16, 0);
  if (crc32(ByteSpan(checked).first(size)) != load_le<uint32_t>(sector.data() + 16)) {
    return corrupt("its header's checksum differs");
  }
  if (load_le<uint64_t>(sector.data() + 24) != lba) {
    return corrupt("its header says that it stands elsewhere");
  }
  return {};
}

enum class Fault : uint8_t { kNone, kOutside, kOverlap, kNoBlockIo };

std::string_view words(Fault fault) {
  if (fault == Fault::kOutside) return "lie outside of the usable blocks";
  return fault == Fault::kOverlap ? "overlap" : "are marked as not for block I/O";
}

struct Entry {
  size_t index = 0;
  uint64_t first = 0;
  uint64_t last = 0;
  Fault fault = Fault::kNone;
};

// PartitionCheckGptEntry(): an entry outside of the usable blocks takes those before it along that
// it overlaps, but not those behind it. The disk's own size is not asked for.
std::vector<Entry> check_entries(const GptCopy& copy) {
  constexpr uint64_t kNoBlockIoProtocol = 2;
  const uint64_t usable_first = load_le<uint64_t>(copy.header.data() + 40);
  const uint64_t usable_last = load_le<uint64_t>(copy.header.data() + 48);
  std::vector<Entry> entries;
  for (size_t index = 0; index * copy.entry_size < copy.entries.size(); ++index) {
    const std::byte* raw = copy.entries.data() + index * copy.entry_size;
    if (!in_use(raw)) continue;
    entries.push_back({.index = index,
                       .first = load_le<uint64_t>(raw + 32),
                       .last = load_le<uint64_t>(raw + 40)});
  }
  for (size_t i = 0; i < entries.size(); ++i) {
    Entry& entry = entries[i];
    const uint64_t flags =
        load_le<uint64_t>(copy.entries.data() + entry.index * copy.entry_size + 48);
    if (entry.first > entry.last || entry.first < usable_first || entry.last > usable_last) {
      entry.fault = Fault::kOutside;
      continue;
    }
    if (entry.fault == Fault::kNone && (flags & kNoBlockIoProtocol) != 0) {
      entry.fault = Fault::kNoBlockIo;
    }
    for (size_t k = i + 1; k < entries.size(); ++k) {
      if (entries[k].last < entry.first || entries[k].first > entry.last) continue;
      entry.fault = entries[k].fault = Fault::kOverlap;
    }
  }
  return entries;
}

}  // namespace

std::string utf8_from_utf16(ByteSpan utf16) {
  std::string out;
  for (size_t at = 0; at + 2 <= utf16.size(); at += 2) {
    uint32_t code = load_le<uint16_t>(utf16.data() + at);
    if (code == 0) break;
    if (code >= 0xD800 && code < 0xDC00 && at + 4 <= utf16.size()) {
      const uint32_t low = load_le<uint16_t>(utf16.data() + at + 2);
      if (low >= 0xDC00 && low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        at += 2;
      }
    }
    append_utf8(out, code >= 0xD800 && code < 0xE000 ? 0xFFFD : code);
  }
  return out;
}

bool is_protective_mbr(ByteSpan sector) {
  for (size_t index = 0; index < 4; ++index) {
    const std::byte* entry = sector.data() + 446 + index * 16;
    if (load_le<uint8_t>(entry + 4) == kMbrProtective && load_le<uint32_t>(entry + 8) == 1) {
      return true;
    }
  }
  return false;
}

Result<GptCopy> read_gpt_copy(BlockSource& disk, uint64_t lba) {
  if (lba > disk.size() / kSectorSize - 1) {
    return corrupt("it would lie beyond the end of the disk");
  }
  const Bytes sector = TRY(disk.read_bytes(lba * kSectorSize, kSectorSize));
  if (as_text(ByteSpan(sector).first(8)) != "EFI PART") {
    return Error{.code = ErrorCode::kNotFound, .cause = "there is none"};
  }
  TRY(check_header(sector, lba));
  GptCopy copy;
  copy.header.assign(sector.begin(), sector.begin() + kGptHeaderSize);
  copy.alternate_lba = load_le<uint64_t>(sector.data() + 32);
  copy.disk_id = Guid::load(sector.data() + 56);
  const uint64_t entries_lba = load_le<uint64_t>(sector.data() + 72);
  const uint32_t count = load_le<uint32_t>(sector.data() + 80);
  copy.entry_size = load_le<uint32_t>(sector.data() + 84);
  if (copy.entry_size < kGptEntrySize) return corrupt("its entries have a wrong size");
  // No checksum is made of nothing (CoreCalculateCrc32()).
  if (count == 0) return corrupt("it has no entries");
  const uint64_t size = uint64_t{count} * copy.entry_size;
  if (size > kGptArrayBytesMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("a partition table of {} bytes; at most {} are read", size,
                                      kGptArrayBytesMax)};
  }
  if (entries_lba >= disk.size() / kSectorSize) {
    return corrupt("its entries lie outside of the disk");
  }
  copy.entries = TRY(disk.read_bytes(entries_lba * kSectorSize, size));
  if (crc32(copy.entries) != load_le<uint32_t>(sector.data() + 88)) {
    return corrupt("the checksum of its entries differs");
  }
  return copy;
}

Result<std::optional<GptCopy>> best_gpt_copy(BlockSource& disk,
                                             std::vector<std::string>& warnings) {
  const uint64_t last = disk.size() / kSectorSize - 1;
  Result<GptCopy> primary = read_gpt_copy(disk, 1);
  if (!primary.ok() && !is_damage(primary.error())) return primary.error();
  Result<GptCopy> backup = read_gpt_copy(disk, primary.ok() ? primary->alternate_lba : last);
  if (!primary.ok() && !backup.ok() && !is_damage(backup.error())) return backup.error();
  if (primary.ok()) {
    if (!backup.ok()) {
      warnings.push_back("the backup partition table is damaged: " + backup.error().cause);
    } else if (primary->alternate_lba != last) {
      warnings.emplace_back("the backup partition table is not at the end of the disk");
    } else if (backup->entries != primary->entries) {
      warnings.emplace_back(
          "primary and backup partition tables differ; firmware uses the primary");
    }
    return std::optional(*std::move(primary));
  }
  if (!backup.ok()) {
    warnings.push_back(
        "firmware passes over the GUID partition table, which is damaged: primary: " +
        primary.error().cause + "; backup: " + backup.error().cause);
    return std::optional<GptCopy>();
  }
  // Firmware writes the primary anew, where the backup says that it stands, and reads that
  // (PartitionRestoreGptTable()). Where it cannot, it goes on with nothing.
  if (backup->alternate_lba > last) {
    warnings.push_back("the primary partition table is damaged (" + primary.error().cause +
                       ") and the backup does not say where it stands; firmware offers nothing");
    backup->entries.clear();
    return std::optional(*std::move(backup));
  }
  warnings.push_back("the primary partition table is damaged (" + primary.error().cause +
                     "); firmware uses the backup");
  return std::optional(*std::move(backup));
}

std::vector<Partition> partitions_of(const GptCopy& copy, std::vector<std::string>& warnings) {
  const std::vector<Entry> entries = check_entries(copy);
  for (Fault fault : {Fault::kOutside, Fault::kOverlap, Fault::kNoBlockIo}) {
    std::string numbers;
    for (const Entry& entry : entries) {
      if (entry.fault != fault) continue;
      numbers += (numbers.empty() ? "" : ", ") + std::to_string(entry.index + 1);
    }
    if (numbers.empty()) continue;
    warnings.push_back(
        fmt::format("firmware passes over partitions that {}: {}", words(fault), numbers));
  }
  std::vector<Partition> partitions;
  for (const Entry& entry : entries) {
    if (entry.fault != Fault::kNone) continue;
    const std::byte* raw = copy.entries.data() + entry.index * copy.entry_size;
    Partition partition;
    partition.number = static_cast<uint32_t>(entry.index + 1);
    partition.offset = entry.first * kSectorSize;
    partition.size = (entry.last - entry.first + 1) * kSectorSize;
    partition.type = Guid::load(raw);
    partition.id = Guid::load(raw + 16);
    partition.name = utf8_from_utf16(ByteSpan(raw + 56, 72));
    partition.is_efi_system = partition.type == partition_types::kEfiSystem;
    partitions.push_back(std::move(partition));
  }
  return partitions;
}

Bytes gpt_event_of(const GptCopy& copy) {
  Bytes event(copy.header);
  event.resize(kGptHeaderSize + 8);
  uint64_t count = 0;
  for (size_t at = 0; at < copy.entries.size(); at += copy.entry_size) {
    const std::byte* raw = copy.entries.data() + at;
    if (!in_use(raw)) continue;
    ++count;
    event.insert(event.end(), raw, raw + copy.entry_size);
  }
  store_le<uint64_t>(event.data() + kGptHeaderSize, count);
  return event;
}

}  // namespace hf::secure_boot
