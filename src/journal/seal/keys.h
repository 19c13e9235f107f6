// The keys of one VM's journal, all derived from its GSP key (HKDF-SHA256, RFC 5869).
//
//   record key   HKDF(gsp, salt = incarnation, "holdfast journal record v1" ‖ vm ‖ key version)
//   base run key HKDF(gsp, salt = the file's,  "holdfast base run v1" ‖ vm ‖ key version)
//   signing seed HKDF(gsp, salt = vm,          "holdfast journal signing v1" ‖ key version)
//
// Only keepers hold one. Owns its copy of the key; moves, never copies.
#pragma once

#include "base/ids.h"
#include "crypto/crypto.h"

namespace hf::journal {

class JournalKeys {
 public:
  // `gsp` must be crypto::kKeySize bytes (asserted); it is cloned.
  static JournalKeys derive(const crypto::Secret& gsp, const VmId& vm, KeyVersion version);

  crypto::Aead record_aead(const IncarnationId& incarnation) const;
  crypto::Aead base_aead(ByteSpan salt) const;  // 32 bytes
  const crypto::SigningKey& signing() const { return signing_; }
  const crypto::PublicKey& public_key() const { return signing_.public_key(); }
  const VmId& vm() const { return vm_; }
  KeyVersion version() const { return version_; }

 private:
  JournalKeys(crypto::Secret gsp, const VmId& vm, KeyVersion version, crypto::SigningKey signing);
  crypto::Aead aead(std::string_view label, ByteSpan salt) const;

  crypto::Secret gsp_;
  VmId vm_;
  KeyVersion version_;
  crypto::SigningKey signing_;
};

}  // namespace hf::journal
