#include "control/peers/token.h"

#include "base/base64.h"

namespace hf::control {
namespace {

constexpr uint32_t kMagic = 0x54504648;  // "HFPT"
constexpr std::byte kVersion{1};
constexpr size_t kFixedSize = 86;
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
  store_le<uint32_t>(raw.data(), kMagic);
  raw[4] = kVersion;
  raw[5] = static_cast<std::byte>(token.address.size());
  std::memcpy(&raw[6], token.site.bytes.data(), 16);
  std::memcpy(&raw[22], token.ca_fingerprint.bytes.data(), 32);
  std::memcpy(&raw[54], token.secret.span().data(), 32);
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
      load_le<uint32_t>(decoded->data()) != kMagic) {
    return bad_token("this is not a pairing token");
  }
  const Bytes& raw = *decoded;
  if (raw[4] != kVersion) return bad_token("the token is of another version of Holdfast");
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
  token.secret = crypto::Secret::copy_of(ByteSpan(raw).subspan(54, 32));
  token.address = std::string(as_text(ByteSpan(raw).subspan(kFixedSize, address_size)));
  crypto::wipe(*decoded);
  return token;
}

Digest token_hash(const crypto::Secret& secret) { return crypto::sha256(secret.span()); }

crypto::Secret token_proof_key(const crypto::Secret& secret) {
  return crypto::hkdf_sha256(secret.span(), as_bytes("holdfast"), "holdfast pairing proof v1", 32);
}

Digest pairing_proof(ByteSpan proof_key, ProofRole role, const Digest& exporter,
                     std::string_view identity) {
  Bytes message;
  std::string_view word = role == ProofRole::kIssuer ? "issuer" : "bearer";
  for (char c : word) message.push_back(static_cast<std::byte>(c));
  message.insert(message.end(), exporter.bytes.begin(), exporter.bytes.end());
  Digest digest = crypto::sha256(as_bytes(identity));
  message.insert(message.end(), digest.bytes.begin(), digest.bytes.end());
  return crypto::hmac_sha256(proof_key, message);
}

}  // namespace hf::control
