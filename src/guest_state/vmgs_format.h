// VMGS v3, the VM guest state format of Hyper-V and OpenHCL: the bytes.
//
//   byte 0          sector          block 2 ...
//   +---------------+---------------+----------------------------------------------+
//   | header copy 0 | header copy 1 | file table, extended file table, file data   |
//   +---------------+---------------+----------------------------------------------+
//
// All integers little-endian; blocks of 4096 bytes; blocks 0 and 1 belong to the headers. There is
// no written specification: this is the format as openvmm implements it
// (github.com/microsoft/openvmm, vm/vmgs/vmgs_format), restated in docs/formats/vmgs.md.
#pragma once

#include <array>
#include <optional>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/crypto.h"

namespace hf::guest_state {

inline constexpr size_t kVmgsBlock = 4096;
inline constexpr size_t kVmgsSector = 512;  // logical sector of a fixed VHD
inline constexpr size_t kVmgsHeaderSize = 168;
inline constexpr uint32_t kVmgsVersion3 = 0x00030000;
inline constexpr uint32_t kVmgsFirstBlock = 2;
inline constexpr uint32_t kVmgsFiles = 64;
inline constexpr uint64_t kVmgsCapacityMax = uint64_t{64} << 20;  // ours; the format allows more

enum class VmgsAlgorithm : uint16_t { kNone = 0, kAes256Gcm = 1 };

// File ids. Content that is standard has its standard id; ours start at 32.
namespace vmgs_id {
inline constexpr uint32_t kFileTable = 0;
inline constexpr uint32_t kProvisioningMarker = 18;
inline constexpr uint32_t kHoldfastTpm = 32;          // docs/formats/vtpm-state.md
inline constexpr uint32_t kHoldfastUefiStore = 33;    // OVMF variable store image
inline constexpr uint32_t kHoldfastGeneration = 34;   // docs/formats/vmgs.md, "Generation record"
inline constexpr uint32_t kHoldfastAttestation = 35;  // the daemon's attestation record
inline constexpr uint32_t kExtendedFileTable = 63;
}  // namespace vmgs_id

// One slot of the header: the metadata key wrapped by a datastore key. In use iff `wrapped` is not
// all zero.
struct VmgsKeySlot {
  crypto::Nonce nonce{};
  std::array<std::byte, crypto::kTagSize> tag{};
  std::array<std::byte, crypto::kKeySize> wrapped{};
  bool in_use() const;
};

struct VmgsHeader {
  uint32_t sequence = 0;
  uint32_t file_table_block = 0;
  VmgsAlgorithm algorithm = VmgsAlgorithm::kNone;
  uint16_t markers = 0;
  std::array<VmgsKeySlot, 2> keys;
};

inline constexpr uint32_t kVmgsEncrypted = 1;  // attribute bits of a file
inline constexpr uint32_t kVmgsAuthenticated = 2;

// An entry of the file table, with the two columns of the extended file table beside it.
struct VmgsFile {
  uint32_t block = 0;
  uint32_t blocks = 0;  // 0: the file does not exist
  uint64_t size = 0;    // valid bytes
  crypto::Nonce nonce{};
  std::array<std::byte, crypto::kTagSize> tag{};
  uint32_t attributes = 0;
  crypto::Secret key;  // empty for plaintext files and locked stores
  bool exists() const { return blocks != 0; }
  bool encrypted() const { return (attributes & (kVmgsEncrypted | kVmgsAuthenticated)) != 0; }
};

using VmgsFileTable = std::array<VmgsFile, kVmgsFiles>;

// `out` is one sector; the rest of it is zeroed.
void encode_vmgs_header(const VmgsHeader& header, MutableByteSpan out);
// Checks signature, version, size, table place, algorithm and CRC, in this order.
Result<VmgsHeader> decode_vmgs_header(ByteSpan raw);

// Which copy is the newer one (0 or 1). kCorrupt if both are valid and neither follows the other.
Result<int> choose_vmgs_header(const std::optional<VmgsHeader>& first,
                               const std::optional<VmgsHeader>& second);

void encode_vmgs_file_table(const VmgsFileTable& files, MutableByteSpan out);
// Checks every extent against `capacity_blocks`, and that none overlap (stricter than upstream).
Result<VmgsFileTable> decode_vmgs_file_table(ByteSpan raw, uint64_t capacity_blocks);

// Attributes and keys only; entry 63 is written as zero and ignored when read.
void encode_vmgs_extended_table(const VmgsFileTable& files, MutableByteSpan out);
void decode_vmgs_extended_table(ByteSpan raw, VmgsFileTable& files);

// The 512-byte footer that makes raw data of `size` bytes a fixed VHD (Microsoft, "Virtual Hard
// Disk Image Format Specification", 1.0).
Bytes fixed_vhd_footer(uint64_t size, ByteSpan unique_id);

}  // namespace hf::guest_state
