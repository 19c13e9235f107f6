// Frames between two sites (docs/formats/replication.md). This header is the specification of
// their bytes; every number is little-endian. Nothing is believed of whoever carries them: a
// session (session.h) begins with signatures of both sites' vaults, and then each frame has a MAC;
// records prove themselves besides (chain, digests, closes).
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
#include "crypto/x25519.h"
#include "journal/format/lineage.h"
#include "journal/ship/seed.h"

namespace hf::replication {

inline constexpr uint32_t kFrameMagic = 0x50524648;  // "HFRP"
inline constexpr uint16_t kFrameVersion = 2;
inline constexpr size_t kFrameHeaderSize = 32;
inline constexpr size_t kRecordsBytesMax = 4u << 20;  // of records in one frame
inline constexpr size_t kRecordsPrefixSize = 48;
inline constexpr size_t kFrameBodyMax = kRecordsPrefixSize + kRecordsBytesMax;
inline constexpr size_t kErrorTextMax = 1024;  // of each of the three texts
inline constexpr size_t kSessionNonceSize = 32;
inline constexpr size_t kMacSize = 32;
static_assert(kRecordsBytesMax >= journal::kRecordSizeMax);
static_assert(kFrameBodyMax >= journal::kSeedDescriptionMax + kMacSize);

// HMAC-SHA256 under a session's key; what it covers is session.h's.
using Mac = StrongBytes<struct MacTag, kMacSize>;
using SessionNonce = std::array<std::byte, kSessionNonceSize>;

enum class FrameType : uint8_t {
  kHello = 1,
  kAnswer = 2,
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
  kAuth = 13,
  kBegin = 14,
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
  SiteId home;     // the source's
  SiteId replica;  // whom it means
  crypto::PublicKey
      public_key{};  // the VM's journal key; the receiver compares with its pinned one
  crypto::X25519PublicKey ephemeral{};
  SessionNonce nonce{};
  bool operator==(const Hello&) const = default;
};
inline constexpr size_t kHelloSize = 136;

// The receiver's answer. Its vault signs; an epoch above the hello's is the session's last word.
struct Answer {
  Epoch epoch;  // the highest that either knows
  crypto::X25519PublicKey ephemeral{};
  SessionNonce nonce{};
  crypto::Signature signature{};
  bool operator==(const Answer&) const = default;
};
inline constexpr size_t kAnswerSize = 136;

// The source's vault signs too.
struct Auth {
  crypto::Signature signature{};
  bool operator==(const Auth&) const = default;
};
inline constexpr size_t kAuthSize = 64;

// Where to go on: the receiver's durable position.
struct Begin {
  static constexpr FrameType kType = FrameType::kBegin;
  journal::LineEnd durable;   // zeroes: nothing received yet
  uint32_t window_bytes = 0;  // records sent and not acknowledged, at most
  Mac mac;
  bool operator==(const Begin&) const = default;
};
inline constexpr size_t kBeginSize = 112;

// Whole sealed records, in order.
struct Records {
  static constexpr FrameType kType = FrameType::kRecords;
  Sequence home_durable;  // of the source, when this was sent
  ByteSpan records;
  Mac mac;
};

// The receiver has everything up to here durably.
struct Ack {
  static constexpr FrameType kType = FrameType::kAck;
  journal::LineEnd durable;
  Mac mac;  // of kStopped: zeroes
  bool operator==(const Ack&) const = default;
};
inline constexpr size_t kAckSize = 104;

// Base files follow, because the records that the receiver lacks are merged away at the source. The
// description is journal::encode_seed()'s.
struct Seed {
  static constexpr FrameType kType = FrameType::kSeed;
  ByteSpan description;
  Mac mac;
};
inline constexpr size_t kSeedPrefixSize = kMacSize;

// Of the description's files, one after the other as one stream of bytes.
struct SeedBytes {
  static constexpr FrameType kType = FrameType::kSeedBytes;
  uint64_t offset = 0;  // in the stream
  ByteSpan bytes;
  Mac mac;
};
inline constexpr size_t kSeedBytesPrefixSize = 8 + kMacSize;

// So much of the seed is taken; or it is now the replica, and the connection ends.
struct SeedAck {
  static constexpr FrameType kType = FrameType::kSeedAck;
  uint64_t taken = 0;
  uint64_t total = 0;
  bool installed = false;
  Mac mac;
  bool operator==(const SeedAck&) const = default;
};
inline constexpr size_t kSeedAckSize = 24 + kMacSize;

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
  kUnproven = 11,    // one of the sites could not prove itself
};
const char* to_string(Refusal refusal);
// True where trying again cannot help until someone acts.
bool is_final(Refusal refusal);

// Without a MAC it may be anybody's: a reason to try again later and to show, and nothing more.
struct ErrorFrame {
  static constexpr FrameType kType = FrameType::kError;
  Refusal refusal = Refusal::kProtocol;
  Epoch epoch;  // the one its writer knows
  std::string cause, effect, mend;
  Mac mac;  // zeroes: none, because there was no session yet
  bool operator==(const ErrorFrame&) const = default;
};
inline constexpr size_t kErrorPrefixSize = 24 + kMacSize;

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
Bytes encode(const VmId& vm, const Answer& body);
Bytes encode(const VmId& vm, const Auth& body);
Bytes encode(const VmId& vm, const Begin& body);
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
Result<Answer> decode_answer(ByteSpan body);
Result<Auth> decode_auth(ByteSpan body);
Result<Begin> decode_begin(ByteSpan body);
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
  // No part of a frame is held.
  bool empty() const { return at_ == buffer_.size(); }

 private:
  Bytes buffer_;
  size_t at_ = 0;
};

}  // namespace hf::replication
