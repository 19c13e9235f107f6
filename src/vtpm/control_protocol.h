// swtpm's control protocol as QEMU's `-tpmdev emulator`, swtpm_ioctl and tss2-tcti-swtpm speak it:
// sizes, decoding, answers. Pure: no sockets. Source: swtpm's tpm_ioctl.h and man swtpm_ioctls(3),
// QEMU's backends/tpm/tpm_emulator.c.
//
// Request: u32 command, then a body of a fixed size per command; HASH_DATA and SET_STATEBLOB carry
// a length of their own. Answer: the response half only. All integers big-endian. There is no
// framing besides the command id; a client sends one request and waits. One that does not wait
// gets one answer, as from swtpm (what_follows()).
//
//   1 GET_CAPABILITY       -                        u64 capabilities
//   2 INIT                 u32 flags                u32 result
//   3 SHUTDOWN             -                        u32
//   4 GET_TPMESTABLISHED   -                        u32, u8 bit, u8 pad[3]
//   5 SET_LOCALITY         u8 locality, [pad[3]]    u32
//   6 HASH_START           -                        u32
//   7 HASH_DATA            u32 length, data         u32
//   8 HASH_END             -                        u32
//   9 CANCEL_TPM_CMD       -                        u32
//  10 STORE_VOLATILE       -                        u32
//  11 RESET_TPMESTABLISHED u8 locality, [pad[3]]    u32
//  12 GET_STATEBLOB        u32 flags, type, offset  u32, u32 flags, u32 total, u32 length, data
//  13 SET_STATEBLOB        u32 flags, type, length, data   u32
//  14 STOP                 -                        u32
//  15 GET_CONFIG           -                        u32, u32 flags
//  16 SET_DATAFD           - (SCM_RIGHTS)           u32
//  17 SET_BUFFERSIZE       u32 size (0: only ask)   u32, u32 size, u32 min, u32 max
//  18 GET_INFO             u64 flags, u32 offset, u32 pad  u32, u32 total, u32 length, text
//  19 LOCK_STORAGE         u32 retries              u32
//
// An answer with an error is the u32 alone, as swtpm's; GET_STATEBLOB's is always whole, as
// QEMU 7.2 reads it whole.
#pragma once

#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "vtpm/engine.h"

namespace hf::vtpm {

enum class ControlCommand : uint32_t {
  kGetCapability = 1,
  kInit = 2,
  kShutdown = 3,
  kGetTpmEstablished = 4,
  kSetLocality = 5,
  kHashStart = 6,
  kHashData = 7,
  kHashEnd = 8,
  kCancelTpmCommand = 9,
  kStoreVolatile = 10,
  kResetTpmEstablished = 11,
  kGetStateBlob = 12,
  kSetStateBlob = 13,
  kStop = 14,
  kGetConfig = 15,
  kSetDataFd = 16,
  kSetBufferSize = 17,
  kGetInfo = 18,
  kLockStorage = 19,
};

inline constexpr uint64_t kCapInit = 1ULL << 0;
inline constexpr uint64_t kCapShutdown = 1ULL << 1;
inline constexpr uint64_t kCapGetTpmEstablished = 1ULL << 2;
inline constexpr uint64_t kCapSetLocality = 1ULL << 3;
inline constexpr uint64_t kCapHashing = 1ULL << 4;
inline constexpr uint64_t kCapCancel = 1ULL << 5;
inline constexpr uint64_t kCapStoreVolatile = 1ULL << 6;
inline constexpr uint64_t kCapResetTpmEstablished = 1ULL << 7;
inline constexpr uint64_t kCapGetStateBlob = 1ULL << 8;
inline constexpr uint64_t kCapSetStateBlob = 1ULL << 9;
inline constexpr uint64_t kCapStop = 1ULL << 10;
inline constexpr uint64_t kCapGetConfig = 1ULL << 11;
inline constexpr uint64_t kCapSetDataFd = 1ULL << 12;
inline constexpr uint64_t kCapSetBufferSize = 1ULL << 13;
inline constexpr uint64_t kCapGetInfo = 1ULL << 14;
// Bit 15, SEND_COMMAND_HEADER, is swtpm's framing for its TCP data port; there is none here.
inline constexpr uint64_t kCapLockStorage = 1ULL << 16;

// Without these two QEMU blocks migration, which is right if state cannot be sealed.
inline constexpr uint64_t kCapsForMigration = kCapGetStateBlob | kCapSetStateBlob;
inline constexpr uint64_t kCaps =
    kCapInit | kCapShutdown | kCapGetTpmEstablished | kCapSetLocality | kCapHashing | kCapCancel |
    kCapStoreVolatile | kCapResetTpmEstablished | kCapsForMigration | kCapStop | kCapGetConfig |
    kCapSetDataFd | kCapSetBufferSize | kCapGetInfo | kCapLockStorage;

inline constexpr uint32_t kStateFlagEncrypted = 2;  // PTM_STATE_FLAG_ENCRYPTED, on a response
inline constexpr uint32_t kConfigMigrationKey = 2;  // GET_CONFIG flags

// HASH_DATA may carry more, of any length: it is then hashed as it comes and never stands in
// memory.
inline constexpr size_t kHashDataWhole = 4096;
// What is sealed may be longer than the state itself (blob_sealer.h).
inline constexpr size_t kControlBlobMax = kStateBlobSizeMax + 256;
inline constexpr size_t kControlFrameMax = 16 + kControlBlobMax;
inline constexpr size_t kInfoChunkMax = 3072;  // swtpm_ioctl's buffer less the header

enum class FrameState {
  kIncomplete,
  // Whole, but a client may still send up to three bytes of padding (SET_LOCALITY: QEMU sends
  // them, swtpm_ioctl does not). Wait a moment, then take what is there.
  kPaddingMayFollow,
  kComplete,
  kLongHashData,  // the head of a HASH_DATA that is taken piece by piece
  kInvalid,       // a length no client may send: answer, then give up the connection
};
struct FrameSize {
  FrameState state;
  size_t size = 0;         // of the frame, where complete; of its head
  uint32_t data_size = 0;  // what comes behind the head of a long HASH_DATA
};
// `buffered` is all that has come since the last answer. An unknown command has no known length:
// it is taken with all that came with it.
FrameSize measure_frame(ByteSpan buffered);

struct ControlRequest {
  ControlCommand command{};
  uint64_t flags = 0;      // INIT, GET/SET_STATEBLOB, GET_INFO
  uint32_t number = 0;     // SET_BUFFERSIZE: size; LOCK_STORAGE: retries
  uint32_t blob_type = 0;  // as sent; 1..3 are known
  uint32_t offset = 0;     // GET_STATEBLOB, GET_INFO
  uint8_t locality = 0;
  ByteSpan data;  // HASH_DATA, SET_STATEBLOB; points into the frame
};
// What a client sends behind a frame without having waited for its answer. Swtpm takes all that
// came for one request, so no answer may be made of it.
enum class WhatFollows {
  kIgnored,  // dropped, the request is executed
  kRefused,  // all of it: TPM_BAD_PARAMETER, nothing is executed
};
WhatFollows what_follows(ControlCommand command);

// `frame` as measured. kUnsupported: unknown command.
Result<ControlRequest> parse_frame(ByteSpan frame);

Bytes capability_answer(uint64_t capabilities);
Bytes result_answer(TpmResult result);
Bytes established_answer(bool bit);
Bytes config_answer(uint32_t flags);
Bytes buffer_size_answer(const BufferSizes& sizes);
// What is left of `blob` from `offset` on; of an empty one for an error.
Bytes state_blob_answer(TpmResult result, ByteSpan blob, uint32_t offset);
// A piece of `text` with its final NUL from `offset` on; TPM_BAD_PARAMETER past its end.
Bytes info_answer(std::string_view text, uint32_t offset);

}  // namespace hf::vtpm
