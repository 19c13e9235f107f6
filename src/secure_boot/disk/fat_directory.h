// The entries of a FAT directory, long names put together.
#pragma once

#include "secure_boot/disk/fat.h"

namespace hf::secure_boot {

inline constexpr size_t kFatEntrySize = 32;

// `raw` is the directory's content. Long names that do not belong to the short entry behind them
// (by checksum or order) are passed over, as every reader of FAT does.
std::vector<FatEntry> parse_fat_directory(ByteSpan raw);

}  // namespace hf::secure_boot
