// What a site's vault signs of a title, and who checks it. The library signs by this interface
// only: the vault has Ed25519 behind it, simulator and explorer a cheap keyed hash
// (testing/keyed_signer.h).
#pragma once

#include <map>
#include <memory>

#include "title/statement.h"

namespace hf::title {

// A signature is over label ‖ bytes, a digest likewise: no message of one kind is one of another.
// None begins another, nor a label of vault/core/signing_labels.h.
inline constexpr std::string_view kStatementLabel = "holdfast title statement v1";
inline constexpr std::string_view kDigestLabel = "holdfast title digest v1";
inline constexpr std::string_view kAnswerLabel = "holdfast title answer v1";

class Signer {
 public:
  virtual ~Signer() = default;
  virtual SiteId site() const = 0;
  virtual crypto::Signature sign(ByteSpan message) const = 0;
};

class Verifier {
 public:
  virtual ~Verifier() = default;
  virtual bool knows(const SiteId& site) const = 0;
  // False as well for a site that it doesn't know.
  virtual bool verify(const SiteId& site, ByteSpan message,
                      const crypto::Signature& signature) const = 0;
};

class Ed25519Signer final : public Signer {
 public:
  // `key` outlives it.
  Ed25519Signer(const SiteId& site, const crypto::SigningKey& key) : site_(site), key_(&key) {}
  SiteId site() const override { return site_; }
  crypto::Signature sign(ByteSpan message) const override { return key_->sign(message); }

 private:
  SiteId site_;
  const crypto::SigningKey* key_;
};

// The keys that were pinned at pairing, and this site's own.
class Ed25519Verifier final : public Verifier {
 public:
  void add(const SiteId& site, const crypto::PublicKey& key) { keys_[site] = key; }
  void remove(const SiteId& site) { keys_.erase(site); }
  bool knows(const SiteId& site) const override { return keys_.contains(site); }
  bool verify(const SiteId& site, ByteSpan message,
              const crypto::Signature& signature) const override;

 private:
  std::map<SiteId, crypto::PublicKey> keys_;
};

// A statement with its digest and signature. Immutable, so chains share it. That the signature is
// good is Chain's to check.
class Signed {
 public:
  // `statement.issuer` is the signer's site, and it is in form (asserted).
  static std::shared_ptr<const Signed> sign(const Statement& statement, const Signer& signer);
  // As decode_statement().
  static Result<std::shared_ptr<const Signed>> decode(ByteSpan bytes);
  Bytes encode() const;

  const Statement& statement() const { return statement_; }
  const Digest& digest() const { return digest_; }
  bool verify(const Verifier& verifier) const;
  // Of a create: the first 16 bytes of its digest. 128 bits: nobody finds a second create for an id
  // that exists; who makes two with one id (2^64 tries) has fooled itself, since each site goes by
  // the whole digest of the create that it learned first.
  VmId vm() const;

 private:
  Signed() = default;
  Statement statement_;
  Digest digest_;
  crypto::Signature signature_{};
};
using SignedPtr = std::shared_ptr<const Signed>;

Bytes labelled(std::string_view label, ByteSpan bytes);

}  // namespace hf::title
