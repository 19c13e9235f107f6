// The boot catalog of a CD image, as edk2's PartitionDxe/ElTorito.c reads it off a disk, and the
// marks of a UDF file system (Udf.c).
//
// Source of the format: Phoenix and IBM, "El Torito Bootable CD-ROM Format Specification" 1.0.
#pragma once

#include "secure_boot/disk/partition_table.h"

namespace hf::secure_boot {

// PartitionInstallElToritoChildHandles(). Empty: there is none.
Result<std::vector<Partition>> el_torito_partitions(BlockSource& disk);

// FindUdfVolumeIdentifiers().
Result<bool> has_udf(BlockSource& disk);

}  // namespace hf::secure_boot
