// The bytes of docs/formats/uefi-variable-store.md; variable_store.h is what reads and edits them.
#pragma once

#include <array>
#include <optional>

#include "base/bytes.h"
#include "base/result.h"
#include "secure_boot/efi/efi_time.h"
#include "secure_boot/efi/guid.h"

namespace hf::secure_boot::store_format {

inline constexpr std::byte kErased{0xff};
inline constexpr uint32_t kErasedWord = 0xffffffff;

// EFI_FIRMWARE_VOLUME_HEADER with a block map of one entry and its end.
inline constexpr Guid kVolumeGuid = Guid::of("fff12b8d-7696-4c8b-a985-2747075b4f50");
inline constexpr size_t kVolumeGuidAt = 16, kVolumeLengthAt = 32, kVolumeSignatureAt = 40;
inline constexpr size_t kVolumeHeaderLengthAt = 48, kVolumeChecksumAt = 50, kBlockMapAt = 56;
inline constexpr size_t kVolumeHeaderSize = 72;
static_assert(kBlockMapAt + 2 * 8 == kVolumeHeaderSize);

// VARIABLE_STORE_HEADER, right behind it.
inline constexpr Guid kAuthenticatedStoreGuid = Guid::of("aaf32c78-947b-439a-a180-2e144ec37792");
inline constexpr Guid kPlainStoreGuid = Guid::of("ddcf3616-3275-4164-98b6-fe85707ffe7d");
inline constexpr size_t kStoreSizeAt = 16, kStoreFormatAt = 20, kStoreStateAt = 21;
inline constexpr size_t kStoreHeaderSize = 28;
inline constexpr std::byte kStoreFormatted{0x5a}, kStoreHealthy{0xfe};
inline constexpr size_t kFirstRecordAt = kVolumeHeaderSize + kStoreHeaderSize;
static_assert(kFirstRecordAt == 0x64);

// AUTHENTICATED_VARIABLE_HEADER, at the beginning of each record.
inline constexpr uint16_t kRecordStart = 0x55aa;
inline constexpr size_t kStateAt = 2, kAttributesAt = 4, kMonotonicAt = 8, kTimeAt = 16;
inline constexpr size_t kPublicKeyAt = 32, kNameSizeAt = 36, kDataSizeAt = 40, kVendorAt = 44;
inline constexpr size_t kRecordHeaderSize = 60;
static_assert(kTimeAt + EfiTime::kSize == kPublicKeyAt);
static_assert(kVendorAt + Guid::kSize == kRecordHeaderSize);

// States: each step clears one more bit, as flash can without an erase.
inline constexpr std::byte kAdded{0x3f};         // header and data are there
inline constexpr std::byte kInTransition{0x3e};  // added, and about to be replaced
inline constexpr std::byte kDeletedMask{0xfd};

constexpr size_t align(size_t size) { return (size + 3) & ~size_t{3}; }

// What OVMF's builds put where (OvmfPkg/Include/Fdf/VarStore.fdf.inc), and how large a variable
// they take (PcdMaxVariableSize, PcdMaxAuthVariableSize).
inline constexpr size_t kBlock = 0x1000;
struct Layout {
  size_t image_size = 0;
  size_t region_end = 0;
  size_t working_at = 0;
  size_t spare_at = 0;
  size_t variable_bytes_max = 0;
  size_t authenticated_bytes_max = 0;
};
inline constexpr std::array<Layout, 2> kLayouts = {{
    {0x84000, 0x40000, 0x41000, 0x42000, 0x8400, 0x8400},  // 4 MiB builds
    {0x20000, 0xe000, 0xf000, 0x10000, 0x2000, 0x2800},    // 1 and 2 MiB builds
}};

// Brings an interrupted reclaim to its end: if the copy in the spare blocks is complete and its
// destination is not, copies it there and empties the queue. True if it changed the image.
// kCorrupt: a queue that makes no sense, or a pending write to anything but the variables.
Result<bool> recover_reclaim(MutableByteSpan image, const Layout& layout);

}  // namespace hf::secure_boot::store_format
