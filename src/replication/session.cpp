#include "replication/session.h"

#include <algorithm>

#include "journal/format/wire.h"

namespace hf::replication {

namespace {

using crypto::SessionRole;

constexpr std::string_view kTranscriptLabel = "holdfast replication session v1";
constexpr std::string_view kMacLabel = "holdfast replication mac v1";
constexpr std::string_view kHomeKeyLabel = "holdfast replication v1 home to replica";
constexpr std::string_view kReplicaKeyLabel = "holdfast replication v1 replica to home";

SessionRole other(SessionRole role) {
  return role == SessionRole::kHome ? SessionRole::kReplica : SessionRole::kHome;
}

std::string_view key_label(SessionRole sender) {
  return sender == SessionRole::kHome ? kHomeKeyLabel : kReplicaKeyLabel;
}

// The body of a frame as it is sent, with a MAC of zeroes.
template <typename Body>
Bytes unsealed(Body body) {
  body.mac = {};
  const Bytes frame = encode(VmId{}, body);
  return Bytes(frame.begin() + kFrameHeaderSize, frame.end());
}

}  // namespace

Bytes says(const Begin& body) { return unsealed(body); }
Bytes says(const Ack& body) { return unsealed(body); }
Bytes says(const SeedAck& body) { return unsealed(body); }
Bytes says(const ErrorFrame& body) { return unsealed(body); }

Bytes says(const Records& body, const journal::LineEnd& end) {
  Bytes bytes(8 + 72);
  FieldWriter out(bytes);
  out.number(body.home_durable.value);
  out.bytes(end.position.incarnation.span());
  out.number(end.position.sequence.value);
  out.bytes(end.chain.span());
  HF_ASSERT(out.at() == bytes.size());
  return bytes;
}

Bytes says(const Seed& body) {
  const Digest digest = crypto::sha256(body.description);
  return Bytes(digest.bytes.begin(), digest.bytes.end());
}

Bytes says(const SeedBytes& body) {
  Bytes bytes(8 + 32);
  FieldWriter out(bytes);
  out.number(body.offset);
  out.bytes(crypto::sha256(body.bytes).span());
  return bytes;
}

Session::Session(SessionRole role, Rng& rng, Faults faults)
    : role_(role), faults_(faults), key_(crypto::X25519Key::generate(rng)) {
  rng.fill(nonce_);
  std::array<std::byte, 8> number{};
  rng.fill(number);
  number_ = load_le<uint64_t>(number.data());
}

Status Session::agree(const VmId& vm, const Hello& hello, const Answer& answer) {
  HF_ASSERT(!agreed());
  const bool home = role_ == SessionRole::kHome;
  HF_ASSERT((home ? hello.ephemeral : answer.ephemeral) == ephemeral());
  HF_ASSERT((home ? hello.nonce : answer.nonce) == nonce());
  const crypto::Secret secret = TRY(key_.agree(home ? answer.ephemeral : hello.ephemeral));
  facts_ = {.signer = role_,
            .vm = vm,
            .home = hello.home,
            .replica = hello.replica,
            .epoch = answer.epoch,
            .home_ephemeral = hello.ephemeral,
            .replica_ephemeral = answer.ephemeral,
            .home_nonce = hello.nonce,
            .replica_nonce = answer.nonce};
  Answer unsigned_answer = answer;
  unsigned_answer.signature = {};
  crypto::Sha256 hash;
  hash.update(as_bytes(kTranscriptLabel));
  hash.update(encode(vm, hello));
  hash.update(encode(vm, unsigned_answer));
  transcript_ = hash.finish();
  if (faults_.session_not_bound) transcript_.bytes.fill(std::byte{1});
  const crypto::Secret constant(crypto::kKeySize);
  const ByteSpan input = faults_.session_not_bound ? constant.span() : secret.span();
  own_key_ = crypto::hkdf_sha256(input, transcript_.span(), key_label(role_), crypto::kKeySize);
  peer_key_ =
      crypto::hkdf_sha256(input, transcript_.span(), key_label(other(role_)), crypto::kKeySize);
  return {};
}

crypto::SessionStatementBytes Session::statement(SessionRole signer) const {
  HF_ASSERT(agreed());
  crypto::SessionStatement facts = facts_;
  facts.signer = signer;
  return crypto::encode(facts);
}

crypto::SessionStatementBytes Session::peer_statement() const { return statement(other(role_)); }

Mac Session::mac(const crypto::Secret& key, FrameType kind, uint64_t counter, ByteSpan says) const {
  HF_ASSERT(agreed());
  Bytes message(kMacLabel.size() + 1 + transcript_.bytes.size() + 8 + 8 + says.size());
  FieldWriter out(message);
  out.bytes(as_bytes(kMacLabel));
  out.number(static_cast<uint8_t>(kind));
  out.bytes(transcript_.span());
  out.number(counter);
  out.number(facts_.epoch.value);
  out.bytes(says);
  HF_ASSERT(out.at() == message.size());
  return Mac{crypto::hmac_sha256(key.span(), message).bytes};
}

Mac Session::seal(FrameType kind, ByteSpan says) { return mac(own_key_, kind, sent_++, says); }

bool Session::open(FrameType kind, ByteSpan says, const Mac& given) {
  const Mac right = mac(peer_key_, kind, received_++, says);
  if (kind == FrameType::kRecords && faults_.batch_mac_not_checked) return true;
  const bool position = kind == FrameType::kAck || kind == FrameType::kBegin;
  if (position && faults_.ack_mac_not_checked) return true;
  return crypto::constant_time_equal(right.span(), given.span());
}

}  // namespace hf::replication
