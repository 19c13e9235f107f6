// Seals the TPM state that leaves the process inside QEMU's migration stream, a savevm file or the
// RAM of the target's QEMU. QEMU treats the blobs as opaque, so they need not be readable by it.
//
// Key: HKDF-SHA256(GSP key, salt = VM id, "holdfast vtpm migration blob v1"); used for nothing
// else. Cipher: AES-256-GCM. Nonce: 96 random bits. A VM's key seals two blobs a migration; even
// after 2^32 of them (NIST SP 800-38D's bound for random nonces) a repeat has a chance of 2^-33,
// and a counter would need a durable home of its own at both ends. Authenticated as well: format,
// VM, type and libtpms version, so a blob of another VM or of the other type does not open.
//
//   0  u32 magic "HFMB"   4 u16 version 1   6 u16 type   8 u32 libtpms version   12 u32 state level
//   16 VM id [16]         32 nonce [12]     44 ciphertext, tag [16]               little-endian
//
// Not given: freshness. An older blob of the same VM opens; the stream's transport must be trusted
// for that, as for the guest RAM beside it.
#pragma once

#include "base/ids.h"
#include "crypto/crypto.h"
#include "vtpm/engine.h"

namespace hf::vtpm {

class BlobSealer {
 public:
  virtual ~BlobSealer() = default;
  virtual Bytes seal(StateType type, ByteSpan state) = 0;
  // kWrongKey: other key, VM or type, or altered; kUnsupported: newer format or state level.
  virtual Result<Bytes> open(StateType type, ByteSpan sealed) = 0;
};

inline constexpr uint32_t kMigrationBlobMagic = 0x424D4648;  // "HFMB"
inline constexpr uint16_t kMigrationBlobVersion = 1;
inline constexpr size_t kMigrationBlobHeaderSize = 44;
inline constexpr size_t kMigrationBlobOverhead = kMigrationBlobHeaderSize + crypto::kTagSize;

// One thread at a time. `rng` outlives it.
class GspBlobSealer final : public BlobSealer {
 public:
  GspBlobSealer(const crypto::Secret& gsp_key, const VmId& vm, Rng& rng);
  Bytes seal(StateType type, ByteSpan state) override;
  Result<Bytes> open(StateType type, ByteSpan sealed) override;

 private:
  crypto::Aead aead_;
  VmId vm_;
  Rng& rng_;
};

}  // namespace hf::vtpm
