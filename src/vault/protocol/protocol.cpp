#include "vault/protocol/protocol.h"

#include <algorithm>
#include <utility>

namespace hf::vault {
namespace {

constexpr std::pair<Op, std::string_view> kOps[] = {
    {Op::kSiteIdentity, "site_identity"},
    {Op::kIssueTls, "issue_tls"},
    {Op::kCreateVm, "create_vm"},
    {Op::kKeyInfo, "key_info"},
    {Op::kRelease, "release"},
    {Op::kRevoke, "revoke"},
    {Op::kRecipients, "recipients"},
    {Op::kWrapFor, "wrap_for"},
    {Op::kImportWrap, "import_wrap"},
    {Op::kDeleteKey, "delete_key"},
    {Op::kReadFreshness, "read_freshness"},
    {Op::kAttestationEnroll, "attestation_enroll"},
    {Op::kAttestationCertify, "attestation_certify"},
    {Op::kAttestationPinned, "attestation_pinned"},
    {Op::kAttestationAdopt, "attestation_adopt"},
    {Op::kAttestationForget, "attestation_forget"},
    {Op::kAttestationSign, "attestation_sign"},
    {Op::kAttestationKeys, "attestation_keys"},
    {Op::kFetchKey, "fetch_key"},
    {Op::kPutFreshness, "put_freshness"},
    {Op::kGetFreshness, "get_freshness"},
    {Op::kIssueEk, "issue_ek_certificate"},
    {Op::kAttestationPinnedName, "attestation_pinned_name"},
    {Op::kSessionSign, "session_sign"},
    {Op::kSessionCheck, "session_check"},
    {Op::kBindKeepers, "bind_keepers"},
    {Op::kProvePairing, "prove_pairing"},
    {Op::kCheckPairing, "check_pairing"},
    {Op::kAcceptPairing, "accept_pairing"},
    {Op::kOfferPairing, "offer_pairing"},
    {Op::kConfirmPairing, "confirm_pairing"},
    {Op::kPinnedRecipients, "pinned_recipients"},
    {Op::kRemoveRecipient, "remove_recipient"},
    {Op::kAddMember, "add_member"},
    {Op::kRemoveMember, "remove_member"},
    {Op::kClearMembers, "clear_members"},
    {Op::kTitle, "title"},
    {Op::kTitleLacking, "title_lacking"},
    {Op::kTitleLearn, "title_learn"},
    {Op::kTitleAsk, "title_ask"},
    {Op::kTitleAnswer, "title_answer"},
    {Op::kTitleTakeAnswer, "title_take_answer"},
    {Op::kTitlePropose, "title_propose"},
    {Op::kOpenGate, "open_gate"},
    {Op::kShowLine, "show_line"},
    {Op::kGiveWord, "give_word"},
};

constexpr auto kLastErrorCode = static_cast<uint16_t>(ErrorCode::kInternal);

Error corrupt(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

void put_frame_header(MutableByteSpan out, Op op, bool reply, uint32_t id, size_t body) {
  HF_ASSERT(body <= kMaxBody);
  encode_header(
      {.op = op, .reply = reply, .request_id = id, .body_length = static_cast<uint32_t>(body)},
      out.first(kHeaderSize));
}

}  // namespace

Listener listener_of(Op op) {
  switch (static_cast<uint16_t>(op) >> 8) {
    case 1:
      return Listener::kAdmin;
    case 2:
      return Listener::kKeys;
    case 3:
      return Listener::kLauncher;
    default:
      return Listener::kOperators;
  }
}

bool is_known_op(uint16_t op) {
  return std::any_of(std::begin(kOps), std::end(kOps),
                     [op](const auto& entry) { return static_cast<uint16_t>(entry.first) == op; });
}

std::string_view to_string(Op op) {
  for (const auto& [known, name] : kOps) {
    if (known == op) return name;
  }
  return "unknown";
}

void encode_header(const FrameHeader& header, MutableByteSpan out) {
  HF_ASSERT(out.size() == kHeaderSize && header.body_length <= kMaxBody);
  const auto op = static_cast<uint16_t>(header.op);
  store_le<uint32_t>(out.data(), kMagic);
  store_le<uint16_t>(out.data() + 4, kVersion);
  store_le<uint16_t>(out.data() + 6, header.reply ? static_cast<uint16_t>(op | kReplyBit) : op);
  store_le<uint32_t>(out.data() + 8, header.request_id);
  store_le<uint32_t>(out.data() + 12, header.body_length);
}

Result<FrameHeader> decode_header(ByteSpan bytes) {
  HF_ASSERT(bytes.size() == kHeaderSize);
  if (load_le<uint32_t>(bytes.data()) != kMagic) return corrupt("not a vault frame");
  if (load_le<uint16_t>(bytes.data() + 4) != kVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "a vault frame of another version"};
  }
  const auto raw = load_le<uint16_t>(bytes.data() + 6);
  const auto op = static_cast<uint16_t>(raw & ~kReplyBit);
  if (!is_known_op(op)) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "an unknown vault operation"};
  }
  FrameHeader header{.op = static_cast<Op>(op),
                     .reply = (raw & kReplyBit) != 0,
                     .request_id = load_le<uint32_t>(bytes.data() + 8),
                     .body_length = load_le<uint32_t>(bytes.data() + 12)};
  if (header.body_length > kMaxBody) {
    return Error{.code = ErrorCode::kLimit, .cause = "a vault frame over 128 KiB"};
  }
  return header;
}

void Writer::u8(uint8_t value) { out_.push_back(static_cast<std::byte>(value)); }
void Writer::u16(uint16_t value) {
  std::byte bytes[2];
  store_le(bytes, value);
  raw(bytes);
}
void Writer::u32(uint32_t value) {
  std::byte bytes[4];
  store_le(bytes, value);
  raw(bytes);
}
void Writer::u64(uint64_t value) {
  std::byte bytes[8];
  store_le(bytes, value);
  raw(bytes);
}
void Writer::raw(ByteSpan bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
void Writer::blob(ByteSpan bytes, size_t bound) {
  HF_ASSERT(bytes.size() <= bound);
  u32(static_cast<uint32_t>(bytes.size()));
  raw(bytes);
}

ByteSpan Reader::raw(size_t size) {
  if (failed_ || rest_.size() < size) {
    failed_ = true;
    return {};
  }
  const ByteSpan out = rest_.first(size);
  rest_ = rest_.subspan(size);
  return out;
}
uint8_t Reader::u8() {
  const ByteSpan bytes = raw(1);
  return bytes.empty() ? uint8_t{0} : static_cast<uint8_t>(bytes[0]);
}
uint16_t Reader::u16() {
  const ByteSpan bytes = raw(2);
  return bytes.empty() ? uint16_t{0} : load_le<uint16_t>(bytes.data());
}
uint32_t Reader::u32() {
  const ByteSpan bytes = raw(4);
  return bytes.empty() ? 0 : load_le<uint32_t>(bytes.data());
}
uint64_t Reader::u64() {
  const ByteSpan bytes = raw(8);
  return bytes.empty() ? 0 : load_le<uint64_t>(bytes.data());
}
ByteSpan Reader::blob(size_t bound) {
  const uint32_t size = u32();
  if (size > bound) failed_ = true;
  return failed_ ? ByteSpan{} : raw(size);
}
Status Reader::finish(std::string_view what) const {
  if (failed_) return corrupt(std::string(what) + ": too short or a field over its bound");
  if (!rest_.empty()) return corrupt(std::string(what) + ": bytes left over");
  return {};
}

void encode(Writer& to, const SiteIdentity& identity) {
  to.id(identity.site);
  to.text(identity.name, kMaxName);
  to.text(identity.ca_certificate_pem, kMaxPem);
  to.text(identity.recipient_public_key_pem, kMaxPem);
  to.raw(identity.signing_public_key);
}

SiteIdentity decode_site_identity(Reader& reader) {
  SiteIdentity identity;
  identity.site = reader.id<SiteId>();
  identity.name = reader.text(kMaxName);
  identity.ca_certificate_pem = reader.text(kMaxPem);
  identity.recipient_public_key_pem = reader.text(kMaxPem);
  const ByteSpan key = reader.raw(crypto::kPublicKeySize);
  std::copy(key.begin(), key.end(), identity.signing_public_key.begin());
  return identity;
}

void encode(Writer& to, const Recipient& recipient) {
  encode(to, recipient.identity);
  to.text(recipient.name, kMaxName);
}

Recipient decode_recipient(Reader& reader) {
  Recipient recipient;
  recipient.identity = decode_site_identity(reader);
  recipient.name = reader.text(kMaxName);
  return recipient;
}

void encode(Writer& to, const PairingOffer& offer) {
  HF_ASSERT(offer.secret.size() == crypto::kKeySize);
  to.raw(offer.secret.span());
  to.u64(offer.expires.value);
  encode(to, offer.identity);
}

PairingOffer decode_pairing_offer(Reader& reader) {
  PairingOffer offer;
  offer.secret = crypto::Secret::copy_of(reader.raw(crypto::kKeySize));
  offer.expires = Micros(reader.u64());
  offer.identity = decode_site_identity(reader);
  return offer;
}

void encode(Writer& to, const PairingConfirmation& word) {
  HF_ASSERT(word.secret.size() == crypto::kKeySize);
  to.id(word.site);
  to.id(word.ca_fingerprint);
  to.id(word.identity);
  to.raw(word.secret.span());
  to.text(word.name, kMaxName);
}

PairingConfirmation decode_pairing_confirmation(Reader& reader) {
  PairingConfirmation word;
  word.site = reader.id<SiteId>();
  word.ca_fingerprint = reader.id<Digest>();
  word.identity = reader.id<Digest>();
  word.secret = crypto::Secret::copy_of(reader.raw(crypto::kKeySize));
  word.name = reader.text(kMaxName);
  return word;
}

void encode(Writer& to, const KeyInfo& info) {
  to.id(info.vm);
  to.u32(info.version.value);
  to.id(info.key_id);
  to.id(info.minted_at);
  to.u64(info.created.value);
  to.raw(info.journal_public_key);
  to.blob(info.certificate, kMaxBlob);
  to.u8(info.released ? 1 : 0);
}

KeyInfo decode_key_info(Reader& reader) {
  KeyInfo info;
  info.vm = reader.id<VmId>();
  info.version = KeyVersion(reader.u32());
  info.key_id = reader.id<KeyId>();
  info.minted_at = reader.id<SiteId>();
  info.created = Micros(reader.u64());
  const ByteSpan key = reader.raw(crypto::kPublicKeySize);
  std::copy(key.begin(), key.end(), info.journal_public_key.begin());
  const ByteSpan certificate = reader.blob(kMaxBlob);
  info.certificate.assign(certificate.begin(), certificate.end());
  const uint8_t released = reader.u8();
  if (released > 1) reader.fail();
  info.released = released == 1;
  return info;
}

void encode(Writer& to, const Freshness& freshness) {
  to.id(freshness.position.incarnation);
  to.u64(freshness.position.sequence.value);
  to.id(freshness.chain);
  to.u64(freshness.time.value);
}

Freshness decode_freshness(Reader& reader) {
  Freshness freshness;
  freshness.position.incarnation = reader.id<IncarnationId>();
  freshness.position.sequence = Sequence(reader.u64());
  freshness.chain = reader.id<Digest>();
  freshness.time = Micros(reader.u64());
  return freshness;
}

void encode(Writer& to, const TlsRequest& request) {
  HF_ASSERT(request.dns_names.size() <= kMaxSubjectNames);
  HF_ASSERT(request.ip_addresses.size() <= kMaxSubjectNames);
  to.text(request.common_name, kMaxName);
  for (const auto* names : {&request.dns_names, &request.ip_addresses}) {
    to.u8(static_cast<uint8_t>(names->size()));
    for (const std::string& name : *names) to.text(name, kMaxSubjectName);
  }
  to.text(request.key_pem, kMaxPem);
}

TlsRequest decode_tls_request(Reader& reader) {
  TlsRequest request;
  request.common_name = reader.text(kMaxName);
  for (auto* names : {&request.dns_names, &request.ip_addresses}) {
    const uint8_t count = reader.u8();
    if (count > kMaxSubjectNames) reader.fail();
    for (uint8_t i = 0; i < count && !reader.failed(); ++i) {
      names->push_back(reader.text(kMaxSubjectName));
    }
  }
  request.key_pem = reader.text(kMaxPem);
  return request;
}

void encode(Writer& to, const AttestationPin& pin) {
  to.id(pin.vm);
  to.blob(pin.ak_name, kMaxTpmArea);
  to.blob(pin.ak_public, kMaxTpmArea);
  to.text(pin.certificate_pem, kMaxPem);
  to.id(pin.certified_by);
  to.u64(pin.pinned.value);
}

AttestationPin decode_attestation_pin(Reader& reader) {
  AttestationPin pin;
  pin.vm = reader.id<VmId>();
  pin.ak_name = reader.bytes(kMaxTpmArea);
  pin.ak_public = reader.bytes(kMaxTpmArea);
  pin.certificate_pem = reader.text(kMaxPem);
  pin.certified_by = reader.id<SiteId>();
  pin.pinned = Micros(reader.u64());
  return pin;
}

void encode(Writer& to, const AttestationChallenge& challenge) {
  to.id(challenge.id);
  to.blob(challenge.id_object, kMaxTpmArea);
  to.blob(challenge.encrypted_secret, kMaxTpmArea);
}

AttestationChallenge decode_attestation_challenge(Reader& reader) {
  AttestationChallenge challenge;
  challenge.id = reader.id<ChallengeId>();
  challenge.id_object = reader.bytes(kMaxTpmArea);
  challenge.encrypted_secret = reader.bytes(kMaxTpmArea);
  return challenge;
}

void encode(Writer& to, const KeeperBindings& bindings) {
  HF_ASSERT(bindings.keepers.size() <= kMaxKeepers);
  to.u64(bindings.generation);
  to.u32(static_cast<uint32_t>(bindings.keepers.size()));
  for (const KeeperBinding& keeper : bindings.keepers) {
    to.id(keeper.vm);
    to.u32(keeper.uid);
    to.u8(static_cast<uint8_t>((keeper.keeper ? 1U : 0U) | (keeper.guest ? 2U : 0U)));
  }
}

KeeperBindings decode_keeper_bindings(Reader& reader) {
  KeeperBindings bindings;
  bindings.generation = reader.u64();
  const uint32_t count = reader.u32();
  if (count > kMaxKeepers) reader.fail();
  for (uint32_t i = 0; i < count && !reader.failed(); ++i) {
    KeeperBinding keeper;
    keeper.vm = reader.id<VmId>();
    keeper.uid = reader.u32();
    const uint8_t has = reader.u8();
    keeper.keeper = (has & 1U) != 0;
    keeper.guest = (has & 2U) != 0;
    if (has == 0 || has > 3) reader.fail();
    bindings.keepers.push_back(keeper);
  }
  return bindings;
}

Bytes encode_request(Op op, uint32_t request_id, ByteSpan body) {
  Bytes frame(kHeaderSize + body.size());
  put_frame_header(frame, op, false, request_id, body.size());
  std::copy(body.begin(), body.end(), frame.begin() + kHeaderSize);
  return frame;
}

crypto::Secret encode_reply(Op op, uint32_t request_id, ByteSpan result) {
  crypto::Secret frame(kHeaderSize + 2 + result.size());
  MutableByteSpan out = frame.mutable_span();
  put_frame_header(out, op, true, request_id, 2 + result.size());
  store_le<uint16_t>(out.data() + kHeaderSize, 0);
  std::copy(result.begin(), result.end(), out.begin() + kHeaderSize + 2);
  return frame;
}

crypto::Secret encode_error_reply(Op op, uint32_t request_id, const Error& error) {
  Writer body;
  body.u16(static_cast<uint16_t>(1 + static_cast<uint16_t>(error.code)));
  for (const std::string* text : {&error.cause, &error.effect, &error.mend}) {
    body.text(std::string_view(*text).substr(0, kMaxErrorText), kMaxErrorText);
  }
  crypto::Secret frame(kHeaderSize + body.bytes().size());
  MutableByteSpan out = frame.mutable_span();
  put_frame_header(out, op, true, request_id, body.bytes().size());
  std::copy(body.bytes().begin(), body.bytes().end(), out.begin() + kHeaderSize);
  return frame;
}

crypto::Secret encode_fetched_key(Op op, uint32_t request_id, const FetchedKey& key) {
  HF_ASSERT(key.key.size() == crypto::kKeySize);
  crypto::Secret result(crypto::kKeySize + 4 + sizeof(KeyId::bytes));
  std::byte* out = result.mutable_span().data();
  std::memcpy(out, key.key.span().data(), crypto::kKeySize);
  store_le<uint32_t>(out + crypto::kKeySize, key.version.value);
  std::memcpy(out + crypto::kKeySize + 4, key.key_id.bytes.data(), sizeof(KeyId::bytes));
  return encode_reply(op, request_id, result.span());
}

Result<ByteSpan> decode_reply(ByteSpan body) {
  Reader reader(body);
  const uint16_t status = reader.u16();
  if (reader.failed()) return corrupt("a vault reply without a status");
  if (status == 0) return body.subspan(2);
  if (status > kLastErrorCode + 1) return corrupt("a vault reply with an unknown status");
  Error error{.code = static_cast<ErrorCode>(status - 1), .cause = reader.text(kMaxErrorText)};
  error.effect = reader.text(kMaxErrorText);
  error.mend = reader.text(kMaxErrorText);
  TRY(reader.finish("vault error reply"));
  return error;
}

Result<FetchedKey> decode_fetched_key(ByteSpan result) {
  Reader reader(result);
  const ByteSpan key = reader.raw(crypto::kKeySize);
  FetchedKey fetched;
  fetched.version = KeyVersion(reader.u32());
  fetched.key_id = reader.id<KeyId>();
  TRY(reader.finish("fetched key"));
  fetched.key = crypto::Secret::copy_of(key);
  return fetched;
}

}  // namespace hf::vault
