// The TPM's state as one self-describing blob: what the engine commits and starts from.
// docs/formats/vtpm-state.md is the specification; this header and it change together.
//
// Both parts are secret (seeds, private keys). The blob has no integrity check of its own: it is
// only ever stored sealed and authenticated (journal, VMGS). Decoding still trusts no length.
#pragma once

#include "base/bytes.h"
#include "base/result.h"

namespace hf::vtpm {

inline constexpr uint32_t kStateBlobMagic = 0x50544648;  // "HFTP"
inline constexpr uint16_t kStateBlobVersion = 1;
inline constexpr size_t kStateBlobHeaderSize = 32;
inline constexpr size_t kStateBlobSizeMax = 512 * 1024;
// libtpms calls the generation of its state format "StateFormatLevel" (from 0.10 on); all that
// 0.9 writes is level 1, the only one this build may accept.
inline constexpr uint32_t kStateLevelSupported = 1;

#pragma pack(push, 1)
struct StateBlobHeader {      // little-endian
  uint32_t magic;             //  0
  uint16_t version;           //  4
  uint16_t header_size;       //  6  32; more is skipped by a reader of version 1
  uint32_t libtpms_version;   //  8  major << 16 | minor << 8 | micro, of the writer
  uint32_t state_level;       // 12
  uint32_t permanent_length;  // 16  bytes, > 0
  uint32_t volatile_length;   // 20  bytes, 0 if the TPM was powered off
  uint64_t reserved;          // 24  0
};
#pragma pack(pop)
static_assert(sizeof(StateBlobHeader) == kStateBlobHeaderSize);
static_assert(offsetof(StateBlobHeader, permanent_length) == 16);

struct StateBlob {
  uint32_t libtpms_version = 0;
  uint32_t state_level = kStateLevelSupported;
  Bytes permanent;       // libtpms' "permall"
  Bytes volatile_state;  // libtpms' VolatileAll; empty if the TPM was off
};

// kLimit beyond kStateBlobSizeMax; asserts a non-empty permanent part.
Result<Bytes> encode_state_blob(const StateBlob& state);
// kCorrupt for what is not a state blob, kUnsupported for a newer version or state level.
Result<StateBlob> decode_state_blob(ByteSpan bytes);

// "0.9.2" from 0x000902.
std::string libtpms_version_text(uint32_t version);

}  // namespace hf::vtpm
