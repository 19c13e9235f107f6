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

// Copies of the variable store, kept under a name: what "one command back" goes back to.
//
//   0        directory: magic "HFSV", version u32 = 1, count u32, reserved u32; then 128 bytes an
//            entry: name [64] (zero-padded), slot u32, reserved u32, size u64, time u64
//            (microseconds), SHA-256 of the image [32], reserved [8]
//   1 MiB    slot 0; each slot is kUefiStoreSizeMax long
//
// An image goes into a slot that the directory does not name, and then the directory names it: it
// is written whole in one record, so a crash leaves the old directory or the new one.
inline constexpr uint64_t kSavedStoresOffset = uint64_t{4} << 32;
inline constexpr uint64_t kSavedStoresSlots = uint64_t{1} << 20;
inline constexpr size_t kSavedStoresMax = 8;
inline constexpr size_t kSavedStoreNameMax = 64;
inline constexpr uint32_t kSavedStoresMagic = 0x56534648;
inline constexpr uint32_t kSavedStoresVersion = 1;

// The attestation record: the daemon's, opaque here. Policy, baseline, the enrolled key and the
// history travel in it with every recovery point. magic u32 "HFAR", version u32 = 1, length u64,
// SHA-256 of the data [32], the data; written whole in one record.
inline constexpr uint64_t kAttestationOffset = uint64_t{5} << 32;
inline constexpr size_t kAttestationHeaderSize = 48;
inline constexpr size_t kAttestationDataMax = (size_t{1} << 20) - kAttestationHeaderSize;
inline constexpr uint32_t kAttestationMagic = 0x52414648;
inline constexpr uint32_t kAttestationVersion = 1;

}  // namespace hf::keeper
