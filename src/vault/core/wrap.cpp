#include "vault/core/wrap.h"

#include <algorithm>

#include "vault/core/signing_labels.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

constexpr uint32_t kWrapMagic = 0x42574648;  // "HFWB"
constexpr uint16_t kWrapVersion = 1;
constexpr uint16_t kRsaOaepSha256 = 1;
constexpr std::string_view kKeyIdDomain = "holdfast gsp key id v1";

Bytes encode_wrap_header(const WrapFacts& facts, size_t ciphertext_size) {
  Writer out;
  out.u32(kWrapMagic);
  out.u16(kWrapVersion);
  out.u16(kRsaOaepSha256);
  out.id(facts.vm);
  out.id(facts.key_id);
  out.u32(facts.version.value);
  out.u32(static_cast<uint32_t>(ciphertext_size));
  out.id(facts.from);
  out.id(facts.recipient);
  out.id(facts.recipient_key);
  out.u64(facts.time.value);
  out.u64(0);
  HF_ASSERT(out.bytes().size() == kWrapHeaderSize);
  return out.take();
}

}  // namespace

KeyId key_id_of(const crypto::Secret& key) {
  const Digest digest = crypto::sha256(as_bytes(kKeyIdDomain), key.span());
  KeyId id;
  std::copy_n(digest.bytes.begin(), id.bytes.size(), id.bytes.begin());
  return id;
}

Result<Bytes> seal_wrap(WrapFacts facts, const crypto::Secret& key,
                        const crypto::RsaPublicKey& recipient, const crypto::SigningKey& signer) {
  HF_ASSERT(key.size() == crypto::kKeySize && key_id_of(key) == facts.key_id);
  facts.recipient_key = recipient.fingerprint();
  const auto modulus_size = static_cast<size_t>((recipient.bits() + 7) / 8);
  Bytes blob = encode_wrap_header(facts, modulus_size);
  const Digest label = crypto::sha256(blob);
  const Bytes ciphertext = TRY(crypto::rsa_oaep_seal(recipient, label.span(), key.span()));
  HF_ASSERT(ciphertext.size() == modulus_size);
  blob.insert(blob.end(), ciphertext.begin(), ciphertext.end());
  const crypto::Signature signature = signer.sign(labelled(kWrapLabel, blob));
  blob.insert(blob.end(), signature.begin(), signature.end());
  return blob;
}

Result<ParsedWrap> parse_wrap(ByteSpan blob) {
  const auto corrupt = [](std::string_view why) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "a key wrap " + std::string(why)};
  };
  if (blob.size() > kMaxWrapSize) return corrupt("that is too long");
  Reader reader(blob);
  if (reader.u32() != kWrapMagic) return corrupt("without its magic number");
  const uint16_t version = reader.u16();
  const uint16_t algorithm = reader.u16();
  ParsedWrap wrap;
  wrap.facts.vm = reader.id<VmId>();
  wrap.facts.key_id = reader.id<KeyId>();
  wrap.facts.version = KeyVersion(reader.u32());
  const uint32_t ciphertext_size = reader.u32();
  wrap.facts.from = reader.id<SiteId>();
  wrap.facts.recipient = reader.id<SiteId>();
  wrap.facts.recipient_key = reader.id<Digest>();
  wrap.facts.time = Micros(reader.u64());
  const uint64_t zero = reader.u64();
  if (!reader.failed() && (version != kWrapVersion || algorithm != kRsaOaepSha256)) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "a key wrap of another version"};
  }
  wrap.ciphertext = reader.raw(ciphertext_size);
  const ByteSpan signature = reader.raw(crypto::kSignatureSize);
  if (!reader.finish("key wrap").ok() || zero != 0) return corrupt("that is cut off or altered");
  wrap.header = blob.first(kWrapHeaderSize);
  std::copy(signature.begin(), signature.end(), wrap.signature.begin());
  return wrap;
}

bool wrap_signed_by(const ParsedWrap& wrap, const crypto::PublicKey& signer) {
  Bytes body(wrap.header.begin(), wrap.header.end());
  body.insert(body.end(), wrap.ciphertext.begin(), wrap.ciphertext.end());
  return crypto::verify(signer, labelled(kWrapLabel, body), wrap.signature);
}

Result<crypto::Secret> open_wrap(const ParsedWrap& wrap, const crypto::KeyPair& recipient) {
  const Digest label = crypto::sha256(wrap.header);
  crypto::Secret key = TRY(crypto::rsa_oaep_open(recipient, label.span(), wrap.ciphertext));
  if (key.size() != crypto::kKeySize || key_id_of(key) != wrap.facts.key_id) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the wrapped key is not the one its header names"};
  }
  return key;
}

}  // namespace hf::vault
