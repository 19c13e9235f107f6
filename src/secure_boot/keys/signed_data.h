// PKCS #7 SignedData as UEFI uses it for variables: detached, SHA-256 (RFC 2315; UEFI 2.10, 8.2.2).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/key_pair.h"

struct pkcs7_st;

namespace hf::secure_boot {

class SignedData {
 public:
  // Takes a bare SignedData and one in a ContentInfo. kCorrupt, kUnsupported (digest, no signer).
  static Result<SignedData> parse(ByteSpan der);

  std::vector<Bytes> certificates() const;   // DER, as they stand inside
  bool carries(ByteSpan certificate) const;  // DER, among the certificates inside
  // The signers' names, or what stands for them.
  std::string signers_in_words() const;
  // Checks every signature over `content` and that each signer chains to `trusted` (DER), as the
  // firmware does: any purpose, no time, `trusted` need not be self-signed. The first signer's
  // name. kWrongKey.
  Result<std::string> verify_detached(ByteSpan content, ByteSpan trusted) const;

 private:
  struct Free {
    void operator()(pkcs7_st* message) const;
  };
  explicit SignedData(std::unique_ptr<pkcs7_st, Free> message) : message_(std::move(message)) {}
  std::unique_ptr<pkcs7_st, Free> message_;
};

// A bare SignedData over `content`, without attributes, with the certificate inside.
// kInvalidArgument: the certificate is not the key's.
Result<Bytes> sign_detached(ByteSpan content, const crypto::KeyPair& key, ByteSpan certificate);

// An unencrypted private key in PEM or in PKCS #8 DER. kInvalidArgument.
Result<crypto::KeyPair> private_key_in(ByteSpan file);

}  // namespace hf::secure_boot
