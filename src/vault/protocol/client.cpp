#include "vault/protocol/client.h"

#include <algorithm>
#include <thread>

#include "vault/protocol/ask.h"

namespace hf::vault {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

Result<KeyInfo> parse_key_info(ByteSpan result) {
  Reader reader(result);
  KeyInfo info = decode_key_info(reader);
  TRY(reader.finish("key info"));
  return info;
}

Result<Bytes> parse_blob(ByteSpan result) {
  Reader reader(result);
  const ByteSpan blob = reader.blob(kMaxBlob);
  TRY(reader.finish("vault reply"));
  return Bytes(blob.begin(), blob.end());
}

Result<std::string> parse_name(ByteSpan result) {
  Reader reader(result);
  std::string name = reader.text(kMaxName);
  TRY(reader.finish("a site's name"));
  return name;
}

Result<AttestationPin> parse_pin(ByteSpan result) {
  Reader reader(result);
  AttestationPin pin = decode_attestation_pin(reader);
  TRY(reader.finish("attestation key"));
  return pin;
}

bool fits(const TlsRequest& request) {
  if (request.common_name.size() > kMaxName || request.key_pem.size() > kMaxPem) return false;
  for (const auto* names : {&request.dns_names, &request.ip_addresses}) {
    if (names->size() > kMaxSubjectNames) return false;
    for (const std::string& name : *names) {
      if (name.size() > kMaxSubjectName) return false;
    }
  }
  return true;
}

}  // namespace

Result<SiteIdentity> AdminClient::site_identity() {
  return ask(options_, Op::kSiteIdentity, Writer(), [](ByteSpan result) -> Result<SiteIdentity> {
    Reader reader(result);
    SiteIdentity identity = decode_site_identity(reader);
    TRY(reader.finish("site identity"));
    return identity;
  });
}

Result<std::string> AdminClient::issue_tls(const TlsRequest& request) {
  if (!fits(request)) return too_long("the certificate request");
  Writer body;
  encode(body, request);
  return ask(options_, Op::kIssueTls, body, [](ByteSpan result) -> Result<std::string> {
    Reader reader(result);
    std::string pem = reader.text(kMaxPem);
    TRY(reader.finish("certificate"));
    return pem;
  });
}

Result<KeyInfo> AdminClient::create_vm() {
  return ask(options_, Op::kCreateVm, Writer(), parse_key_info);
}

Result<KeyInfo> AdminClient::key_info(VmId vm) {
  return ask(options_, Op::kKeyInfo, body_of(vm), parse_key_info);
}

Status AdminClient::release(VmId vm) {
  return ask(options_, Op::kRelease, body_of(vm), expect_empty);
}

Status AdminClient::revoke(VmId vm) {
  return ask(options_, Op::kRevoke, body_of(vm), expect_empty);
}

Status AdminClient::delete_key(VmId vm) {
  return ask(options_, Op::kDeleteKey, body_of(vm), expect_empty);
}

Result<std::vector<SiteIdentity>> AdminClient::recipients() {
  using List = std::vector<SiteIdentity>;
  return ask(options_, Op::kRecipients, Writer(), [](ByteSpan result) -> Result<List> {
    Reader reader(result);
    const uint32_t count = reader.u32();
    if (count > kMaxRecipients) reader.fail();
    List list;
    for (uint32_t i = 0; i < count && !reader.failed(); ++i) {
      list.push_back(decode_site_identity(reader));
    }
    TRY(reader.finish("recipients"));
    return list;
  });
}

Result<Digest> AdminClient::prove_pairing(PairingTokenId token, const Digest& context) {
  Writer body = body_of(token);
  body.id(context);
  return ask(options_, Op::kProvePairing, body, [](ByteSpan result) -> Result<Digest> {
    Reader reader(result);
    const auto proof = reader.id<Digest>();
    TRY(reader.finish("pairing proof"));
    return proof;
  });
}

namespace {

bool fits(const SiteIdentity& peer) {
  return peer.name.size() <= kMaxName && peer.ca_certificate_pem.size() <= kMaxPem &&
         peer.recipient_public_key_pem.size() <= kMaxPem;
}

Writer body_of(const PairingProof& said) {
  Writer body;
  body.id(said.token);
  body.id(said.context);
  encode(body, said.peer);
  body.id(said.proof);
  return body;
}

}  // namespace

Result<std::string> AdminClient::check_pairing(const PairingProof& said) {
  if (!fits(said.peer)) return too_long("the peer's identity");
  return ask(options_, Op::kCheckPairing, body_of(said), parse_name);
}

Result<std::string> AdminClient::accept_pairing(const PairingProof& said) {
  if (!fits(said.peer)) return too_long("the peer's identity");
  return ask(options_, Op::kAcceptPairing, body_of(said), parse_name);
}

Result<Bytes> AdminClient::wrap_for(VmId vm, SiteId recipient) {
  Writer body = body_of(vm);
  body.id(recipient);
  return ask(options_, Op::kWrapFor, body, parse_blob);
}

Result<ImportOutcome> AdminClient::import_wrap(VmId vm, ByteSpan wrap) {
  if (wrap.size() > kMaxBlob) return too_long("the key wrap");
  Writer body = body_of(vm);
  body.blob(wrap, kMaxBlob);
  return ask(options_, Op::kImportWrap, body, [](ByteSpan result) -> Result<ImportOutcome> {
    Reader reader(result);
    const uint8_t outcome = reader.u8();
    if (outcome < 1 || outcome > 2) reader.fail();
    TRY(reader.finish("import reply"));
    return static_cast<ImportOutcome>(outcome);
  });
}

Result<Freshness> AdminClient::read_freshness(VmId vm) {
  return ask(options_, Op::kReadFreshness, body_of(vm), [](ByteSpan result) -> Result<Freshness> {
    Reader reader(result);
    const Freshness freshness = decode_freshness(reader);
    TRY(reader.finish("freshness"));
    return freshness;
  });
}

Result<AttestationChallenge> AdminClient::attestation_enroll(VmId vm, ByteSpan ek_public,
                                                             ByteSpan ek_certificate,
                                                             ByteSpan ak_public) {
  if (ek_public.size() > kMaxTpmArea || ak_public.size() > kMaxTpmArea ||
      ek_certificate.size() > kMaxCertificate) {
    return too_long("a key or certificate of the TPM");
  }
  Writer body = body_of(vm);
  body.blob(ek_public, kMaxTpmArea);
  body.blob(ek_certificate, kMaxCertificate);
  body.blob(ak_public, kMaxTpmArea);
  return ask(options_, Op::kAttestationEnroll, body,
             [](ByteSpan result) -> Result<AttestationChallenge> {
               Reader reader(result);
               AttestationChallenge challenge = decode_attestation_challenge(reader);
               TRY(reader.finish("attestation challenge"));
               return challenge;
             });
}

Result<AttestationPin> AdminClient::attestation_certify(VmId vm, ChallengeId challenge,
                                                        ByteSpan secret) {
  if (secret.size() > kMaxTpmArea) return too_long("the secret");
  Writer body = body_of(vm);
  body.id(challenge);
  body.blob(secret, kMaxTpmArea);
  return ask(options_, Op::kAttestationCertify, body, parse_pin);
}

Result<AttestationPin> AdminClient::attestation_pinned(VmId vm) {
  return ask(options_, Op::kAttestationPinned, body_of(vm), parse_pin);
}

Result<AttestationPin> AdminClient::attestation_adopt(VmId vm, std::string_view certificate_pem,
                                                      ByteSpan ak_public) {
  if (certificate_pem.size() > kMaxPem || ak_public.size() > kMaxTpmArea) {
    return too_long("the attestation key or its certificate");
  }
  Writer body = body_of(vm);
  body.text(certificate_pem, kMaxPem);
  body.blob(ak_public, kMaxTpmArea);
  return ask(options_, Op::kAttestationAdopt, body, parse_pin);
}

Status AdminClient::attestation_forget(VmId vm) {
  return ask(options_, Op::kAttestationForget, body_of(vm), expect_empty);
}

Result<std::string> AdminClient::attestation_sign(const VerdictClaims& claims) {
  if (!within_bounds(claims)) return too_long("the verdict");
  Writer body;
  encode(body, claims);
  return ask(options_, Op::kAttestationSign, body, [](ByteSpan result) -> Result<std::string> {
    Reader reader(result);
    std::string token = reader.text(kMaxToken);
    TRY(reader.finish("attestation result"));
    return token;
  });
}

Result<std::string> AdminClient::attestation_keys() {
  return ask(options_, Op::kAttestationKeys, Writer(), [](ByteSpan result) -> Result<std::string> {
    Reader reader(result);
    std::string keys = reader.text(kMaxBlob);
    TRY(reader.finish("attestation keys"));
    return keys;
  });
}

Result<FetchedKey> KeyClient::await_key(VmId vm, milliseconds limit) {
  const SteadyClock::time_point until = SteadyClock::now() + limit;
  for (milliseconds pause(2);; pause = std::min(pause * 2, milliseconds(100))) {
    Result<FetchedKey> key = fetch_key(vm);
    if (key.ok() || key.error().code != ErrorCode::kUnavailable) return key;
    if (SteadyClock::now() + pause >= until) return key;
    std::this_thread::sleep_for(pause);
  }
}

Result<FetchedKey> KeyClient::fetch_key(VmId vm) {
  return ask(options_, Op::kFetchKey, body_of(vm), decode_fetched_key);
}

Status KeyClient::put_freshness(VmId vm, const Freshness& freshness) {
  Writer body = body_of(vm);
  encode(body, freshness);
  return ask(options_, Op::kPutFreshness, body, expect_empty);
}

Result<std::optional<Freshness>> KeyClient::get_freshness(VmId vm) {
  using Maybe = std::optional<Freshness>;
  return ask(options_, Op::kGetFreshness, body_of(vm), [](ByteSpan result) -> Result<Maybe> {
    Reader reader(result);
    const uint8_t present = reader.u8();
    if (present > 1) reader.fail();
    Maybe freshness;
    if (present == 1) freshness = decode_freshness(reader);
    TRY(reader.finish("freshness"));
    return freshness;
  });
}

Result<Bytes> KeyClient::issue_ek_certificate(VmId vm, EkKind kind, ByteSpan public_key) {
  if (public_key.size() > kMaxBlob) return too_long("the endorsement key");
  Writer body = body_of(vm);
  body.u8(static_cast<uint8_t>(kind));
  body.blob(public_key, kMaxBlob);
  return ask(options_, Op::kIssueEk, body, parse_blob);
}

Result<std::optional<Bytes>> KeyClient::attestation_pinned_name(VmId vm) {
  using Maybe = std::optional<Bytes>;
  return ask(options_, Op::kAttestationPinnedName, body_of(vm),
             [](ByteSpan result) -> Result<Maybe> {
               Reader reader(result);
               const uint8_t present = reader.u8();
               if (present > 1) reader.fail();
               Maybe name;
               if (present == 1) name = reader.bytes(kMaxTpmArea);
               TRY(reader.finish("attestation key's name"));
               return name;
             });
}

Result<crypto::Signature> KeyClient::session_sign(VmId vm, ByteSpan statement) {
  if (statement.size() > kMaxStatement) return too_long("the session statement");
  Writer body = body_of(vm);
  body.blob(statement, kMaxStatement);
  return ask(options_, Op::kSessionSign, body, [](ByteSpan result) -> Result<crypto::Signature> {
    Reader reader(result);
    const ByteSpan raw = reader.raw(crypto::kSignatureSize);
    TRY(reader.finish("session signature"));
    crypto::Signature signature;
    std::ranges::copy(raw, signature.begin());
    return signature;
  });
}

Status KeyClient::session_check(VmId vm, SiteId peer, ByteSpan statement,
                                const crypto::Signature& signature) {
  if (statement.size() > kMaxStatement) return too_long("the session statement");
  Writer body = body_of(vm);
  body.id(peer);
  body.blob(statement, kMaxStatement);
  body.raw(signature);
  return ask(options_, Op::kSessionCheck, body, expect_empty);
}

}  // namespace hf::vault
