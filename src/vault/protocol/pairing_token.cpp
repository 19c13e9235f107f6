#include "vault/protocol/pairing_token.h"

#include "base/base64.h"
#include "crypto/crypto.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {
namespace {

constexpr uint32_t kTokenMagic = 0x54504648;  // "HFPT"
constexpr std::byte kTokenVersion{2};
constexpr size_t kFixedSize = 118;
constexpr size_t kCheckSize = 4;

Error bad_token(std::string cause) {
  return {.code = ErrorCode::kInvalidArgument,
          .cause = std::move(cause),
          .effect = "the sites are not paired",
          .mend =
              "copy the whole token, or make a new one: holdfast site pair --new-token at the "
              "other site"};
}

}  // namespace

std::string encode_token(const PairingToken& token) {
  HF_ASSERT(token.address.size() <= kTokenAddressMax && token.secret.size() == kTokenSecretSize);
  Bytes raw(kFixedSize);
  store_le<uint32_t>(raw.data(), kTokenMagic);
  raw[4] = kTokenVersion;
  raw[5] = static_cast<std::byte>(token.address.size());
  std::memcpy(&raw[6], token.site.bytes.data(), 16);
  std::memcpy(&raw[22], token.ca_fingerprint.bytes.data(), 32);
  std::memcpy(&raw[54], token.identity.bytes.data(), 32);
  std::memcpy(&raw[86], token.secret.span().data(), 32);
  for (char c : token.address) raw.push_back(static_cast<std::byte>(c));
  Digest check = crypto::sha256(raw);
  raw.insert(raw.end(), check.bytes.begin(), check.bytes.begin() + kCheckSize);
  std::string text = base64url_encode(raw);
  crypto::wipe(raw);
  return text;
}

Result<PairingToken> decode_token(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\r'))
    text.remove_suffix(1);
  Result<Bytes> decoded = base64url_decode(text);
  if (!decoded.ok() || decoded->size() < kFixedSize + kCheckSize ||
      load_le<uint32_t>(decoded->data()) != kTokenMagic) {
    return bad_token("this is not a pairing token");
  }
  const Bytes& raw = *decoded;
  if (raw[4] != kTokenVersion) return bad_token("the token is of another version of Holdfast");
  size_t address_size = std::to_integer<size_t>(raw[5]);
  size_t body = kFixedSize + address_size;
  if (address_size > kTokenAddressMax || raw.size() != body + kCheckSize) {
    return bad_token("the token is not whole");
  }
  Digest check = crypto::sha256(ByteSpan(raw).first(body));
  if (std::memcmp(check.bytes.data(), &raw[body], kCheckSize) != 0) {
    return bad_token("the token was not copied right");
  }
  PairingToken token;
  std::memcpy(token.site.bytes.data(), &raw[6], 16);
  std::memcpy(token.ca_fingerprint.bytes.data(), &raw[22], 32);
  std::memcpy(token.identity.bytes.data(), &raw[54], 32);
  token.secret = crypto::Secret::copy_of(ByteSpan(raw).subspan(86, 32));
  token.address = std::string(as_text(ByteSpan(raw).subspan(kFixedSize, address_size)));
  crypto::wipe(*decoded);
  return token;
}

PairingTokenId token_id_of(const crypto::Secret& secret) {
  crypto::Sha256 hash;
  hash.update(as_bytes("holdfast pairing token id v1"));
  hash.update(secret.span());
  const Digest digest = hash.finish();
  PairingTokenId id;
  std::memcpy(id.bytes.data(), digest.bytes.data(), id.bytes.size());
  return id;
}

Digest identity_digest(const SiteIdentity& identity) {
  Writer out;
  encode(out, identity);
  return crypto::sha256(out.bytes());
}

}  // namespace hf::vault
