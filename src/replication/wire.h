// Frames between two sites (docs/formats/replication.md). This header is the specification of
// their bytes; every number is little-endian. They travel inside mutual TLS 1.3, which gives them
// integrity and names the peer; records prove themselves (chain, digests, closes).
//
//   frame = header (32 bytes) ‖ body (length bytes)
//
//   0       4         6      7       8        12         16      32
//   ├ magic ┼ version ┼ type ┼ flags ┼ length ┼ reserved ┼ vm id ┤
//
// Decoders take bytes from a stranger: every length is bounded before it is believed.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "crypto/crypto.h"
#include "journal/format/lineage.h"
#include "journal/ship/seed.h"

namespace hf::replication {

inline constexpr uint32_t kFrameMagic = 0x50524648;  // "HFRP"
inline constexpr uint16_t kFrameVersion = 1;
inline constexpr size_t kFrameHeaderSize = 32;
inline constexpr size_t kRecordsBytesMax = 4u << 20;  // of records in one frame
inline constexpr size_t kRecordsPrefixSize = 16;
inline constexpr size_t kFrameBodyMax = kRecordsPrefixSize + kRecordsBytesMax;
inline constexpr size_t kErrorTextMax = 1024;  // of each of the three texts
static_assert(kRecordsBytesMax >= journal::kRecordSizeMax);
static_assert(kFrameBodyMax >= journal::kSeedDescriptionMax);

enum class FrameType : uint8_t {
  kHello = 1,
  kHelloReply = 2,
  kRecords = 3,
  kAck = 4,
  kError = 5,
  kEpochQuery = 6,
  kEpochReply = 7,
  kStop = 8,
  kStopped = 9,
  kSeed = 10,
  kSeedBytes = 11,
  kSeedAck = 12,
};
const char* to_string(FrameType type);

struct FrameHeaderLayout {
  uint8_t magic[4];
  uint8_t version[2];
  uint8_t type;
  uint8_t flags;  // zero
  uint8_t length[4];
  uint8_t reserved[4];  // zero
  uint8_t vm[16];
};
static_assert(sizeof(FrameHeaderLayout) == kFrameHeaderSize);
static_assert(offsetof(FrameHeaderLayout, type) == 6);
static_assert(offsetof(FrameHeaderLayout, length) == 8);
static_assert(offsetof(FrameHeaderLayout, vm) == 16);

struct FrameHeader {
  FrameType type = FrameType::kError;
  uint32_t length = 0;  // of the body, bytes
  VmId vm;
  bool operator==(const FrameHeader&) const = default;
};
void encode_frame_header(const FrameHeader& header, std::span<std::byte, kFrameHeaderSize> to);
// kCorrupt unless it is one that encode_frame_header could have written; kUnsupported for another
// version.
Result<FrameHeader> decode_frame_header(ByteSpan from);

// ---- Bodies ----

// First frame of a source.
struct Hello {
  Epoch epoch;
  SiteId site;
  crypto::PublicKey
      public_key{};  // the VM's journal key; the receiver compares with its pinned one
  bool operator==(const Hello&) const = default;
};
inline constexpr size_t kHelloSize = 56;

// The receiver's answer: where to go on.
struct HelloReply {
  Epoch epoch;
  journal::LineEnd durable;   // zeroes: nothing received yet
  uint32_t window_bytes = 0;  // records sent and not acknowledged, at most
  bool operator==(const HelloReply&) const = default;
};
inline constexpr size_t kHelloReplySize = 88;

// Whole sealed records, in order.
struct Records {
  Sequence home_durable;  // of the source, when this was sent
  ByteSpan records;
};

// The receiver has everything up to here durably.
struct Ack {
  journal::LineEnd durable;
  bool operator==(const Ack&) const = default;
};
inline constexpr size_t kAckSize = 72;

// Base files follow, because the records that the receiver lacks are merged away at the source. The
// description is journal::encode_seed()'s.
struct Seed {
  ByteSpan description;
};

// Of the description's files, one after the other as one stream of bytes.
struct SeedBytes {
  uint64_t offset = 0;  // in the stream
  ByteSpan bytes;
};
inline constexpr size_t kSeedBytesPrefixSize = 8;

// So much of the seed is taken; or it is now the replica, and the connection ends.
struct SeedAck {
  uint64_t taken = 0;
  uint64_t total = 0;
  bool installed = false;
  bool operator==(const SeedAck&) const = default;
};
inline constexpr size_t kSeedAckSize = 24;

enum class Refusal : uint32_t {
  kUnknownVm = 1,
  kWrongKey = 2,     // not the journal key pinned for this VM
  kStaleEpoch = 3,   // the other side knows a higher epoch
  kDiverged = 4,     // the positions are not on one line
  kMergedAway = 5,   // the records the replica lacks are merged at the source
  kBadRecords = 6,   // records that do not check
  kProtocol = 7,     // a frame that does not belong here
  kStorage = 8,      // the replica's disk failed or is full
  kBusy = 9,         // another connection carries this VM
  kNotReplica = 10,  // this site is not a replica of the VM (any more)
};
const char* to_string(Refusal refusal);
// True where trying again cannot help until someone acts.
bool is_final(Refusal refusal);

struct ErrorFrame {
  Refusal refusal = Refusal::kProtocol;
  Epoch epoch;  // the one its writer knows
  std::string cause, effect, mend;
  bool operator==(const ErrorFrame&) const = default;
};
inline constexpr size_t kErrorPrefixSize = 24;

enum class SiteRole : uint8_t { kPrimary = 1, kReplica = 2, kSuperseded = 3 };
const char* to_string(SiteRole role);

// Asked before a start from cold, and answered in kind.
struct EpochInfo {
  Epoch epoch;
  SiteId site;
  SiteRole role = SiteRole::kReplica;
  bool running = false;      // a keeper has the VM open there
  journal::LineEnd durable;  // zeroes where there is none or it is not known
  bool operator==(const EpochInfo&) const = default;
};
inline constexpr size_t kEpochInfoSize = 104;

// "Stop this VM: I am about to take over under `epoch`." Answered by kStopped or kError.
struct Stop {
  Epoch epoch;
  SiteId site;
  bool operator==(const Stop&) const = default;
};
inline constexpr size_t kStopSize = 24;

Bytes encode(const VmId& vm, const Hello& body);
Bytes encode(const VmId& vm, const HelloReply& body);
Bytes encode(const VmId& vm, const Records& body);  // at most kRecordsBytesMax of records
Bytes encode(const VmId& vm, const Ack& body);
Bytes encode(const VmId& vm, const ErrorFrame& body);  // longer texts are cut
Bytes encode_epoch_query(const VmId& vm, const EpochInfo& body);
Bytes encode_epoch_reply(const VmId& vm, const EpochInfo& body);
Bytes encode_stop(const VmId& vm, const Stop& body);
Bytes encode_stopped(const VmId& vm, const Ack& body);  // the source's last durable position

Bytes encode(const VmId& vm, const Seed& body);
Bytes encode(const VmId& vm, const SeedBytes& body);  // at most journal::kSeedReadMax of bytes
Bytes encode(const VmId& vm, const SeedAck& body);

Result<Hello> decode_hello(ByteSpan body);
Result<HelloReply> decode_hello_reply(ByteSpan body);
Result<Records> decode_records(ByteSpan body);  // spans point into `body`
Result<Ack> decode_ack(ByteSpan body);          // of kAck and kStopped
Result<ErrorFrame> decode_error(ByteSpan body);
Result<EpochInfo> decode_epoch_info(ByteSpan body);  // of kEpochQuery and kEpochReply
Result<Stop> decode_stop(ByteSpan body);

Result<Seed> decode_seed_frame(ByteSpan body);  // spans point into `body`
Result<SeedBytes> decode_seed_bytes(ByteSpan body);
Result<SeedAck> decode_seed_ack(ByteSpan body);

struct Frame {
  FrameType type = FrameType::kError;
  VmId vm;
  ByteSpan body;
};
// The frame at the start of `bytes`, which must hold all of it.
Result<Frame> decode_frame(ByteSpan bytes);

// Cuts a stream of bytes into frames. Holds at most one frame and one push.
class FrameReader {
 public:
  static constexpr size_t kPushMax = 1u << 20;
  // At most kPushMax bytes, and only after next() has returned nothing (asserted).
  void push(ByteSpan bytes);
  // The next whole frame, valid until the next call of either; nothing: push more. After an error
  // the stream is lost: close the connection.
  Result<std::optional<Frame>> next();

 private:
  Bytes buffer_;
  size_t at_ = 0;
};

}  // namespace hf::replication
