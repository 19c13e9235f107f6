// The entries of a FAT directory, long names put together, as edk2's
// FatPkg/EnhancedFatDxe/DirectoryManage.c does it.
#pragma once

#include "secure_boot/disk/fat.h"

namespace hf::secure_boot {

inline constexpr size_t kFatEntrySize = 32;

// `raw` is the directory's content. Long names that do not belong to the short entry behind them
// (by checksum or order) are passed over. `ended`: the mark of its end was found.
std::vector<FatEntry> parse_fat_directory(ByteSpan raw, bool& ended);

}  // namespace hf::secure_boot
