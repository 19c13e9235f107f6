// The partition table of a master boot record (UEFI 2.10, 5.2) and the chain of extended ones, as
// edk2's PartitionDxe/Mbr.c reads them.
#pragma once

#include <array>

#include "secure_boot/disk/partition_table.h"

namespace hf::secure_boot {

struct MbrEntry {
  uint8_t boot = 0;
  uint8_t type = 0;
  uint32_t first = 0;
  uint32_t count = 0;

  bool empty() const { return type == 0 || count == 0; }
};

// `sector` has 512 bytes.
std::array<MbrEntry, 4> mbr_entries(ByteSpan sector);
bool has_mbr_signature(ByteSpan sector);

// PartitionValidMbr(). kNotFound: no signature, or no entry; kCorrupt: which entry makes firmware
// pass over the whole table.
Status check_mbr(ByteSpan sector, uint64_t sectors);

// PartitionInstallMbrChildHandles() of a disk. Without the entry that protects a GPT. To be called
// with a table that check_mbr() takes.
std::vector<Partition> mbr_partitions(ByteSpan sector);
// The same of a partition: its first sector begins a chain of extended boot records. Partitions lie
// relative to it. A chain that leads back to itself, which firmware follows for ever, makes the
// table `endless`.
Result<std::vector<Partition>> extended_partitions(BlockSource& partition, PartitionTable& table);

}  // namespace hf::secure_boot
