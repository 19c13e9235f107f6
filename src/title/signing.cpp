#include "title/signing.h"

#include <algorithm>

namespace hf::title {

Bytes labelled(std::string_view label, ByteSpan bytes) {
  const ByteSpan first = as_bytes(label);
  Bytes message;
  message.reserve(first.size() + bytes.size());
  message.insert(message.end(), first.begin(), first.end());
  message.insert(message.end(), bytes.begin(), bytes.end());
  return message;
}

bool Ed25519Verifier::verify(const SiteId& site, ByteSpan message,
                             const crypto::Signature& signature) const {
  const auto found = keys_.find(site);
  return found != keys_.end() && crypto::verify(found->second, message, signature);
}

SignedPtr Signed::sign(const Statement& statement, const Signer& signer) {
  HF_ASSERT(statement.issuer == signer.site());
  const Bytes bytes = title::encode(statement);
  Signed out;
  out.statement_ = statement;
  out.digest_ = crypto::sha256(as_bytes(kDigestLabel), bytes);
  out.signature_ = signer.sign(labelled(kStatementLabel, bytes));
  return std::make_shared<const Signed>(std::move(out));
}

Result<SignedPtr> Signed::decode(ByteSpan bytes) {
  if (bytes.size() < crypto::kSignatureSize) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "a statement that is too short"};
  }
  const ByteSpan body = bytes.first(bytes.size() - crypto::kSignatureSize);
  Signed out;
  out.statement_ = TRY(decode_statement(body));
  out.digest_ = crypto::sha256(as_bytes(kDigestLabel), body);
  std::ranges::copy(bytes.last(crypto::kSignatureSize), out.signature_.begin());
  return std::make_shared<const Signed>(std::move(out));
}

Bytes Signed::encode() const {
  Bytes bytes = title::encode(statement_);
  bytes.insert(bytes.end(), signature_.begin(), signature_.end());
  return bytes;
}

bool Signed::verify(const Verifier& verifier) const {
  return verifier.verify(statement_.issuer, labelled(kStatementLabel, title::encode(statement_)),
                         signature_);
}

VmId Signed::vm() const {
  if (statement_.kind != Kind::kCreate) return statement_.vm;
  VmId vm;
  std::ranges::copy(digest_.span().first(vm.bytes.size()), vm.bytes.begin());
  return vm;
}

}  // namespace hf::title
