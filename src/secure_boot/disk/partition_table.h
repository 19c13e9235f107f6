// Partition tables as edk2's partition driver reads them (MdeModulePkg/Universal/Disk/PartitionDxe;
// the functions are named where their rules stand): GPT (UEFI 2.10, 5.3) with both headers, El
// Torito's boot catalog, MBR (5.2), or none. It looks for tables inside of partitions, too.
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
// All entries are held against all others, as firmware does.
inline constexpr size_t kGptArrayBytesMax = size_t{256} << 10;
inline constexpr size_t kMbrLogicalMax = 64;
inline constexpr size_t kTablesInTablesMax = 8;
inline constexpr size_t kPartitionsMax = 4096;  // of one disk, in all its tables
inline constexpr size_t kTableWarningsMax = 100;

namespace partition_types {
inline constexpr Guid kEfiSystem = Guid::of("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
inline constexpr Guid kMicrosoftBasicData = Guid::of("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");
inline constexpr Guid kLinuxRootX64 = Guid::of("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
}  // namespace partition_types

enum class PartitionStyle : uint8_t { kNone, kMbr, kGpt, kElTorito, kUdf };

struct Partition {
  // As the operating system counts: GPT entry + 1, MBR 1–4, logical from 5; El Torito's entries
  // from 1. In a table inside of another partition that one's.
  uint32_t number = 0;
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
  // In which firmware looks for a file system, in its order. With no style it is the whole disk.
  std::vector<Partition> partitions;
  std::vector<std::string> warnings;  // a damaged copy, an overlap, …
  bool udf = false;                   // firmware finds a UDF file system, which is not read here
  // Firmware does not come to an end of it, and why; else empty.
  std::string endless;
  // What firmware measures for a GPT disk in PCR 5 (UEFI_GPT_DATA, TCG PC Client PFP 10.2.5).
  Bytes gpt_event;
};

// kCorrupt: no disk. kLimit: a table beyond the bounds above. kUnsupported: a GPT written for
// sectors of another size. A table that firmware passes over is a warning.
Result<PartitionTable> read_partition_table(BlockSource& disk);

}  // namespace hf::secure_boot
