// The vault's wire protocol: small, bounded binary frames over a unix stream socket. All integers
// little-endian. Specification: docs/formats/vault.md, "Protocol".
//
//   offset size
//        0    4  magic "HFVP"
//        4    2  version 1
//        6    2  operation; a reply has bit 15 set
//        8    4  request id, echoed by the reply
//       12    4  length of the body, at most kMaxBody
//       16       body
//
// A reply's body begins with a u16 status: 0 and the result, or 1 + ErrorCode and three strings
// (cause, effect, mend). Strings and blobs are a u32 length and the bytes, each with its bound.
//
// Every reply frame is built, and every reply body received, in a crypto::Secret, whether it holds
// a key or not: one rule that cannot be forgotten.
#pragma once

#include <array>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/secret.h"
#include "vault/protocol/types.h"

namespace hf::vault {

inline constexpr uint32_t kMagic = 0x50564648;  // "HFVP"
inline constexpr uint16_t kVersion = 1;
inline constexpr size_t kHeaderSize = 16;
inline constexpr size_t kMaxBody = 128 * 1024;
inline constexpr uint16_t kReplyBit = 0x8000;

inline constexpr size_t kMaxName = 64;
inline constexpr size_t kMaxPem = 16 * 1024;
inline constexpr size_t kMaxBlob = 16 * 1024;
inline constexpr size_t kMaxErrorText = 2048;
inline constexpr size_t kMaxSubjectNames = 16;
inline constexpr size_t kMaxSubjectName = 253;
inline constexpr size_t kMaxRecipients = 12;      // whose identities together fit a body
inline constexpr size_t kMaxIdentity = 5 * 1024;  // encoded
inline constexpr size_t kMaxTpmArea = 1024;       // of a TPM: public area, name, credential, secret
inline constexpr size_t kMaxCertificate = 4096;   // DER, of an endorsement key
inline constexpr size_t kMaxKeepers = 6000;       // bound at a time
inline constexpr size_t kMaxStatement = 1024;     // of a session
inline constexpr uint32_t kMaxPairingLife = 7 * 86'400;  // seconds

enum class Op : uint16_t {
  // Admin listener: the daemon.
  kSiteIdentity = 0x0101,
  kIssueTls = 0x0102,
  kCreateVm = 0x0103,
  kKeyInfo = 0x0104,
  kRelease = 0x0105,
  kRevoke = 0x0106,
  kRecipients = 0x0109,
  kWrapFor = 0x010a,
  kImportWrap = 0x010b,
  kDeleteKey = 0x010c,
  kReadFreshness = 0x010d,
  kAttestationEnroll = 0x010e,
  kAttestationCertify = 0x010f,
  kAttestationPinned = 0x0110,
  kAttestationAdopt = 0x0111,
  kAttestationForget = 0x0112,
  kAttestationSign = 0x0113,
  kAttestationKeys = 0x0114,
  kProvePairing = 0x0115,
  kCheckPairing = 0x0116,
  kAcceptPairing = 0x0117,
  kTitle = 0x0118,
  kTitleLacking = 0x0119,
  kTitleLearn = 0x011a,
  kTitleAsk = 0x011b,
  kTitleAnswer = 0x011c,
  kTitleTakeAnswer = 0x011d,
  kTitlePropose = 0x011e,
  // Keys listener: keepers, each only for the VM that its uid is bound to.
  kFetchKey = 0x0201,
  kPutFreshness = 0x0202,
  kGetFreshness = 0x0203,
  kIssueEk = 0x0204,
  kAttestationPinnedName = 0x0205,
  kSessionSign = 0x0206,
  kSessionCheck = 0x0207,
  kOpenGate = 0x0208,
  kShowLine = 0x0209,
  // Launcher listener.
  kBindKeepers = 0x0301,
  // Operators' listener.
  kOfferPairing = 0x0401,
  kConfirmPairing = 0x0402,
  kPinnedRecipients = 0x0403,
  kRemoveRecipient = 0x0404,
  kAddMember = 0x0405,
  kRemoveMember = 0x0406,
  kClearMembers = 0x0407,
  kGiveWord = 0x0408,
};

// Who may ask what: each has a socket of its own.
enum class Listener {
  kAdmin,     // the daemon
  kKeys,      // keepers
  kLauncher,  // the launcher
  kOperators,
};

Listener listener_of(Op op);
bool is_known_op(uint16_t op);
std::string_view to_string(Op op);

struct FrameHeader {
  Op op{};
  bool reply = false;
  uint32_t request_id = 0;
  uint32_t body_length = 0;
};

void encode_header(const FrameHeader& header, MutableByteSpan out);  // kHeaderSize bytes
// kCorrupt: not this protocol. kUnsupported: another version or unknown operation. kLimit: too
// long.
Result<FrameHeader> decode_header(ByteSpan bytes);  // kHeaderSize bytes

// Bounded encoding. Encoding more than a bound is a bug of the caller's and asserts.
class Writer {
 public:
  void u8(uint8_t value);
  void u16(uint16_t value);
  void u32(uint32_t value);
  void u64(uint64_t value);
  void raw(ByteSpan bytes);
  void blob(ByteSpan bytes, size_t bound);
  void text(std::string_view text, size_t bound) { blob(as_bytes(text), bound); }
  template <typename Id>
  void id(const Id& id) {
    raw(id.span());
  }
  const Bytes& bytes() const { return out_; }
  Bytes take() { return std::move(out_); }

 private:
  Bytes out_;
};

// Reads what Writer wrote. After the first overrun every read gives zero or empty; finish() tells.
class Reader {
 public:
  explicit Reader(ByteSpan bytes) : rest_(bytes) {}
  uint8_t u8();
  uint16_t u16();
  uint32_t u32();
  uint64_t u64();
  ByteSpan raw(size_t size);  // `size` bytes, or empty if there are fewer
  ByteSpan blob(size_t bound);
  std::string text(size_t bound) { return std::string(as_text(blob(bound))); }
  Bytes bytes(size_t bound) {
    const ByteSpan part = blob(bound);
    return {part.begin(), part.end()};
  }
  template <typename Id>
  Id id() {
    Id id;
    ByteSpan bytes = raw(id.bytes.size());
    if (!bytes.empty()) std::memcpy(id.bytes.data(), bytes.data(), bytes.size());
    return id;
  }
  void fail() { failed_ = true; }
  bool failed() const { return failed_; }
  // kCorrupt if a read overran or bytes are left over; `what` names the message.
  Status finish(std::string_view what) const;

 private:
  ByteSpan rest_;
  bool failed_ = false;
};

// Message parts. Decoders leave `reader` failed on anything out of bounds.
void encode(Writer& to, const SiteIdentity& identity);
void encode(Writer& to, const Recipient& recipient);
void encode(Writer& to, const PairingOffer& offer);
void encode(Writer& to, const PairingConfirmation& word);
void encode(Writer& to, const KeyInfo& info);
void encode(Writer& to, const Freshness& freshness);
void encode(Writer& to, const TlsRequest& request);
void encode(Writer& to, const AttestationPin& pin);
void encode(Writer& to, const AttestationChallenge& challenge);
void encode(Writer& to, const KeeperBindings& bindings);
SiteIdentity decode_site_identity(Reader& reader);
Recipient decode_recipient(Reader& reader);
PairingOffer decode_pairing_offer(Reader& reader);
PairingConfirmation decode_pairing_confirmation(Reader& reader);
KeyInfo decode_key_info(Reader& reader);
Freshness decode_freshness(Reader& reader);
TlsRequest decode_tls_request(Reader& reader);
AttestationPin decode_attestation_pin(Reader& reader);
AttestationChallenge decode_attestation_challenge(Reader& reader);
KeeperBindings decode_keeper_bindings(Reader& reader);

// Whole frames.
Bytes encode_request(Op op, uint32_t request_id, ByteSpan body);
crypto::Secret encode_reply(Op op, uint32_t request_id, ByteSpan result);
crypto::Secret encode_error_reply(Op op, uint32_t request_id, const Error& error);
crypto::Secret encode_fetched_key(Op op, uint32_t request_id, const FetchedKey& key);

// The result part of a reply's body, or the error that it carries. The span points into `body`.
Result<ByteSpan> decode_reply(ByteSpan body);
Result<FetchedKey> decode_fetched_key(ByteSpan result);

}  // namespace hf::vault
