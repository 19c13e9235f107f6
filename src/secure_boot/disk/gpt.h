// A GUID partition table (UEFI 2.10, 5.3.2 and 5.3.3), as edk2's PartitionDxe/Gpt.c reads it.
#pragma once

#include <optional>

#include "secure_boot/disk/partition_table.h"

namespace hf::secure_boot {

inline constexpr size_t kGptHeaderSize = 92;
inline constexpr size_t kGptEntrySize = 128;

struct GptCopy {
  Bytes header;   // the 92 defined bytes
  Bytes entries;  // the whole array
  uint32_t entry_size = 0;
  uint64_t alternate_lba = 0;
  Guid disk_id;
};

// Whether the first sector is a protective MBR. Its own signature is not asked for
// (PartitionInstallGptChildHandles()).
bool is_protective_mbr(ByteSpan sector);
// PartitionValidGptTable() and PartitionCheckGptEntryArrayCRC(). kNotFound: no signature there;
// kCorrupt: which field is wrong; kLimit.
Result<GptCopy> read_gpt_copy(BlockSource& disk, uint64_t lba);
// The copy that firmware uses (PartitionInstallGptChildHandles()). Nothing: both are damaged, and
// how is in `warnings`.
Result<std::optional<GptCopy>> best_gpt_copy(BlockSource& disk, std::vector<std::string>& warnings);
// The partitions that firmware offers (edk2, PartitionCheckGptEntry()). It passes over entries
// outside of the usable blocks, those that overlap, and those marked as not for block I/O: they are
// named in `warnings`.
std::vector<Partition> partitions_of(const GptCopy& copy, std::vector<std::string>& warnings);
Bytes gpt_event_of(const GptCopy& copy);

// UTF-16LE up to the first NUL; what is not a character becomes U+FFFD.
std::string utf8_from_utf16(ByteSpan utf16);

}  // namespace hf::secure_boot
