// Partition tables: GPT (UEFI 2.10, 5.3) with both headers, MBR (5.2), or none.
//
// Sectors are of 512 bytes, as the VM's disks have them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "secure_boot/disk/disk_reader.h"
#include "secure_boot/efi/guid.h"

namespace hf::secure_boot {

inline constexpr uint64_t kSectorSize = 512;
inline constexpr uint32_t kGptEntriesMax = 1024;
inline constexpr size_t kMbrLogicalMax = 64;

namespace partition_types {
inline constexpr Guid kEfiSystem = Guid::of("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
inline constexpr Guid kMicrosoftBasicData = Guid::of("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");
inline constexpr Guid kLinuxRootX64 = Guid::of("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
}  // namespace partition_types

enum class PartitionStyle : uint8_t { kNone, kMbr, kGpt };

struct Partition {
  uint32_t number = 0;  // as the operating system counts: GPT entry + 1, MBR 1–4, logical from 5
  uint64_t offset = 0;  // bytes
  uint64_t size = 0;
  Guid type;             // GPT
  Guid id;               // GPT
  uint8_t mbr_type = 0;  // MBR
  bool active = false;   // MBR's boot flag
  std::string name;      // GPT, UTF-8
  // The type of an EFI system partition, by either table.
  bool is_efi_system = false;
};

struct PartitionTable {
  PartitionStyle style = PartitionStyle::kNone;
  Guid disk_id;            // GPT
  bool boot_code = false;  // the first sector holds BIOS boot code
  std::vector<Partition> partitions;
  std::vector<std::string> warnings;  // a damaged copy, an overlap, …
  // What firmware measures for a GPT disk in PCR 5 (UEFI_GPT_DATA, TCG PC Client PFP 10.2.5).
  Bytes gpt_event;
};

// kCorrupt: both copies of a GPT are damaged, or a table contradicts itself, and how.
// kUnsupported: a GPT written for sectors of another size.
Result<PartitionTable> read_partition_table(BlockSource& disk);

}  // namespace hf::secure_boot
