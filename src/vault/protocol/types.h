// What the vault's callers see: identities, key facts, freshness, attestation keys. None of these
// holds key bytes; FetchedKey is the one exception and is movable only.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "crypto/crypto.h"
#include "crypto/secret.h"

namespace hf::vault {

// First 16 bytes of SHA-256("holdfast gsp key id v1" ‖ key): names a GSP key without revealing it.
using KeyId = StrongBytes<struct KeyIdTag, 16>;

using ChallengeId = StrongBytes<struct ChallengeIdTag, 16>;

// Names a pairing token without its secret.
using PairingTokenId = StrongBytes<struct PairingTokenIdTag, 16>;

// A site as its peers know it: what site_identity() returns at one site is what add_recipient()
// pins at the other. All of it is public.
struct SiteIdentity {
  SiteId site;
  std::string name;                      // 1..64 characters of [A-Za-z0-9._-]
  std::string ca_certificate_pem;        // self-signed, ECDSA P-256; signs TLS and EK certificates
  std::string recipient_public_key_pem;  // RSA, at least 3072 bits; keys are wrapped to it
  crypto::PublicKey signing_public_key{};  // Ed25519; signs wraps and journal certificates
  bool operator==(const SiteIdentity&) const = default;
};

// A site that keys may be wrapped to.
struct Recipient {
  SiteIdentity identity;
  std::string name;  // what an operator called it at pairing; else its own
  bool operator==(const Recipient&) const = default;
};

// What a token for another site is made of (pairing_token.h).
struct PairingOffer {
  crypto::Secret secret;
  Micros expires;
  SiteIdentity identity;  // of this site
};

// An operator's word, by a token of another site: that one may become a recipient.
struct PairingConfirmation {
  SiteId site;
  Digest ca_fingerprint;
  Digest identity;  // identity_digest() of what that site is
  crypto::Secret secret;
  std::string name;  // what it is called here; empty: as it calls itself
};

// What another site says at pairing, as the daemons carry it.
struct PairingProof {
  PairingTokenId token;
  Digest context;
  SiteIdentity peer;
  Digest proof;
};

struct KeyInfo {
  VmId vm;
  KeyVersion version;
  KeyId key_id;
  SiteId minted_at;                        // the site whose vault made the key
  Micros created;                          // when this vault first stored it
  crypto::PublicKey journal_public_key{};  // verifies the closes of the VM's journal
  Bytes certificate;      // JournalCertificate (certificate.h), by this site's vault
  bool released = false;  // the VM's keeper may fetch it now
  bool operator==(const KeyInfo&) const = default;
};

struct FetchedKey {
  crypto::Secret key;  // the GSP key, 32 bytes
  KeyVersion version;
  KeyId key_id;
};

// Which user is a VM's keeper: the launcher starts it as that user and says so, nobody else can.
struct KeeperBinding {
  VmId vm;
  uint32_t uid = 0;
  bool keeper = true;  // else it has none now, and `uid` is 0
  bool guest = false;  // QEMU runs for it, or is about to
  bool operator==(const KeeperBinding&) const = default;
};

// All VMs of a site that have a keeper or a guest at one moment. `generation` grows with each list
// that a launcher makes, so that one which was held up cannot undo a newer one.
struct KeeperBindings {
  uint64_t generation = 0;
  std::vector<KeeperBinding> keepers;
  bool operator==(const KeeperBindings&) const = default;
};

// The newest durable point of a VM's journal that its keeper has reported.
struct Freshness {
  Position position;
  Digest chain;  // chain digest at `position`
  Micros time;   // the keeper's wall time at the report
  bool operator==(const Freshness&) const = default;
};

struct TlsRequest {
  std::string common_name;                // 1..64 characters
  std::vector<std::string> dns_names;     // at most 16
  std::vector<std::string> ip_addresses;  // at most 16, textual
  std::string key_pem;                    // "PUBLIC KEY" (SPKI) or "CERTIFICATE REQUEST" (PKCS #10)
};

enum class EkKind : uint8_t {
  kRsa2048 = 1,
  kEccP384 = 2,
  kRsa3072 = 3,
};

// First the site asks a vTPM to prove that it holds both keys: only the TPM with the endorsement
// key opens the secret, and only for the attestation key named (TPM 2.0 Library, part 1, 24).
struct AttestationChallenge {
  ChallengeId id;
  Bytes id_object;         // TPM2B_ID_OBJECT as TPM2_ActivateCredential takes it
  Bytes encrypted_secret;  // TPM2B_ENCRYPTED_SECRET, likewise
};

// A VM's attestation key as it was enrolled. It stays so: another key is never put in its place.
struct AttestationPin {
  VmId vm;
  Bytes ak_name;                // TPM2B_NAME's content: nameAlg, digest
  Bytes ak_public;              // TPMT_PUBLIC
  std::string certificate_pem;  // by the CA of `certified_by`
  SiteId certified_by;
  Micros pinned;
  bool operator==(const AttestationPin&) const = default;
};

enum class ImportOutcome : uint8_t {
  kStored = 1,
  kAlreadyThere = 2,  // the same key and version: nothing changed
};

}  // namespace hf::vault
