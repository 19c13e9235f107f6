// One copy of a GUID partition table (UEFI 2.10, 5.3.2 and 5.3.3).
#pragma once

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

// kNotFound: no signature there; kCorrupt: which field is wrong.
Result<GptCopy> read_gpt_copy(BlockSource& disk, uint64_t lba);
// The partitions that firmware offers (edk2, PartitionCheckGptEntry()). It passes over entries
// outside of the usable blocks, those that overlap, and those marked as not for block I/O: they are
// named in `warnings`.
std::vector<Partition> partitions_of(const GptCopy& copy, uint64_t disk_size,
                                     std::vector<std::string>& warnings);
Bytes gpt_event_of(const GptCopy& copy);

// UTF-16LE up to the first NUL; what is not a character becomes U+FFFD.
std::string utf8_from_utf16(ByteSpan utf16);

}  // namespace hf::secure_boot
