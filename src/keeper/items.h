// Volume 0: guest state. A sparse byte space in the VM's journal, so that TPM and UEFI variable
// commits stand in the same order as the disks' writes and one index serves them all.
//
// Item k begins at k << 32 and is read and written like any range of a volume.
#pragma once

#include "base/ids.h"

namespace hf::keeper {

inline constexpr VolumeId kGuestStateVolume{0};

// The flash image of the UEFI variable store, as QEMU's second pflash sees it.
inline constexpr uint64_t kUefiStoreOffset = uint64_t{1} << 32;
inline constexpr uint64_t kUefiStoreSizeMax = uint64_t{4} << 20;

// One vTPM state blob (docs/formats/vtpm-state.md), written whole in one record. It tells its own
// length; what is behind it is left over from longer ones.
inline constexpr uint64_t kTpmStateOffset = uint64_t{2} << 32;

// What the keeper must know before it can serve: sizes, fixed when the VM was created.
// magic u32 "HFGI", version u32 = 1, UEFI store size u64 (0: none), flags u32 (bit 0 vTPM),
// reserved u32.
inline constexpr uint64_t kInventoryOffset = uint64_t{3} << 32;
inline constexpr size_t kInventorySize = 24;
inline constexpr uint32_t kInventoryMagic = 0x49474648;
inline constexpr uint32_t kInventoryVersion = 1;

}  // namespace hf::keeper
