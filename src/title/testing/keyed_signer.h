// A cheap keyed hash in place of Ed25519, for simulator, explorer and tests of what does not depend
// on signatures: as unforgeable as nobody trying to. Nothing but a test includes it.
#pragma once

#include "title/signing.h"

namespace hf::title::testing {

inline crypto::Signature keyed_hash(const SiteId& site, ByteSpan message) {
  uint64_t state[2] = {0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f};
  const auto mix = [&](uint64_t word) {
    state[0] = (state[0] ^ word) * 0xff51afd7ed558ccd;
    state[0] ^= state[0] >> 29;
    state[1] = (state[1] + state[0]) * 0xc4ceb9fe1a85ec53;
    state[1] ^= state[1] >> 31;
  };
  mix(load_le<uint64_t>(site.bytes.data()));
  mix(load_le<uint64_t>(site.bytes.data() + 8));
  size_t at = 0;
  for (; at + 8 <= message.size(); at += 8) mix(load_le<uint64_t>(message.data() + at));
  uint64_t last = message.size();
  for (; at < message.size(); ++at) last = last << 8 | std::to_integer<uint64_t>(message[at]);
  mix(last);
  crypto::Signature out{};
  for (size_t word = 0; word < out.size() / 8; ++word) {
    mix(word);
    store_le(out.data() + word * 8, state[word % 2]);
  }
  return out;
}

class KeyedSigner final : public Signer {
 public:
  explicit KeyedSigner(const SiteId& site) : site_(site) {}
  SiteId site() const override { return site_; }
  crypto::Signature sign(ByteSpan message) const override { return keyed_hash(site_, message); }

 private:
  SiteId site_;
};

class KeyedVerifier final : public Verifier {
 public:
  bool knows(const SiteId&) const override { return true; }
  bool verify(const SiteId& site, ByteSpan message,
              const crypto::Signature& signature) const override {
    return signature == keyed_hash(site, message);
  }
};

}  // namespace hf::title::testing
