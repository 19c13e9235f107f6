// The NBD protocol's numbers, from
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md All integers on the wire are
// big-endian. docs/formats/nbd.md says which parts we serve.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hf::volume::nbd {

inline constexpr uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kChunkMagic = 0x668e33ef;

// Server greeting and client flags.
inline constexpr uint16_t kFixedNewstyle = 1 << 0;
inline constexpr uint16_t kNoZeroes = 1 << 1;

enum class Option : uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
};

enum class OptionReply : uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kUnsupported = 0x80000001,
  kInvalid = 0x80000003,
  kUnknownExport = 0x80000006,
  kTooBig = 0x80000009,
};

enum class Info : uint16_t { kExport = 0, kName = 1, kDescription = 2, kBlockSize = 3 };

// Transmission flags.
inline constexpr uint16_t kHasFlags = 1 << 0;
inline constexpr uint16_t kSendFlush = 1 << 2;
inline constexpr uint16_t kSendFua = 1 << 3;
inline constexpr uint16_t kSendTrim = 1 << 5;
inline constexpr uint16_t kSendWriteZeroes = 1 << 6;
inline constexpr uint16_t kSendDf = 1 << 7;
inline constexpr uint16_t kCanMultiConn = 1 << 8;
inline constexpr uint16_t kSendFastZero = 1 << 11;

enum class Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};

inline constexpr uint16_t kCommandFua = 1 << 0;
inline constexpr uint16_t kCommandNoHole = 1 << 1;
inline constexpr uint16_t kCommandDf = 1 << 2;
inline constexpr uint16_t kCommandFastZero = 1 << 4;

inline constexpr uint16_t kChunkDone = 1 << 0;
inline constexpr uint16_t kChunkNone = 0;
inline constexpr uint16_t kChunkOffsetData = 1;
inline constexpr uint16_t kChunkError = 0x8001;

enum class WireError : uint32_t {
  kNone = 0,
  kIo = 5,
  kNoMemory = 12,
  kInvalid = 22,
  kNoSpace = 28,
  kOverflow = 75,
  kNotSupported = 95,
  kShutdown = 108,
};

inline constexpr size_t kGreetingSize = 18;
inline constexpr size_t kOptionHeaderSize = 16;
inline constexpr size_t kRequestHeaderSize = 28;
inline constexpr size_t kSimpleReplySize = 16;
inline constexpr size_t kChunkHeaderSize = 20;
inline constexpr size_t kChunkDataHeaderSize = kChunkHeaderSize + 8;  // with the offset
inline constexpr size_t kChunkErrorSize = kChunkHeaderSize + 6;       // error, empty message

inline constexpr uint32_t kNameMax = 4096;  // the protocol's
inline constexpr uint32_t kPayloadMax = uint32_t{32}
                                        << 20;  // of a read or write; the protocol's advice

}  // namespace hf::volume::nbd
