// The site's own keys, and the secret that opens them.
//
//   site secret ── host.secret: 32 random bytes, HKDF ─┐
//               └─ a secret file: scrypt ──────────────┴─► root key ──seals──► site.hfv:
//                    KEK (seals every other file) · vault signing key · recipient key · CA key
//
// The KEK is random and not the root key, so that another secret later means rewriting site.hfv
// alone.
//
// host.secret lies beside what it opens: it keeps a vault that was copied without it closed, and
// lets the host come back by itself after a power cut. The stronger host-bound forms (a systemd
// credential, the host's TPM) have no place here yet. A secret file is for those who keep it
// elsewhere; the start is then attended, or as safe as where the file lies.
#pragma once

#include <optional>
#include <string>

#include "base/clock.h"
#include "crypto/crypto.h"
#include "crypto/kdf.h"
#include "crypto/key_pair.h"
#include "crypto/x509.h"
#include "vault/protocol/types.h"
#include "vault/store/directory.h"

namespace hf::vault {

inline constexpr std::string_view kSiteFileName = "site.hfv";
inline constexpr std::string_view kHostSecretName = "host.secret";
inline constexpr size_t kHostSecretSize = 32;
inline constexpr size_t kSecretFileMin = 8;
inline constexpr size_t kSecretFileMax = 4096;
inline constexpr int kRecipientKeyBits = 3072;

enum class UnlockKind : uint8_t {
  kHostSecret = 1,
  kSecretFile = 2,
};

// Owns the site's private keys, in clear, while the vault runs.
struct SiteKeys {
  SiteIdentity identity;
  UnlockKind unlock = UnlockKind::kHostSecret;
  Micros created;
  crypto::Secret kek;
  crypto::SigningKey signing;
  crypto::KeyPair recipient;
  crypto::KeyPair ca_key;
  crypto::Certificate ca;
};

struct SiteSecret {
  std::optional<std::string> secret_file;              // path; else host.secret
  crypto::ScryptCost scrypt = crypto::kScryptDefault;  // of a new secret-file vault
};

// Makes new keys and writes host.secret (if that is the form) and site.hfv, in this order: without
// site.hfv there is no vault.
Result<SiteIdentity> create_site(Directory& directory, const std::string& name,
                                 const SiteSecret& secret, Clock& clock, Rng& rng);
// kWrongKey: not this vault's secret. kInvalidArgument: a secret of the other form. kCorrupt,
// kPermission. Changes nothing.
Result<SiteKeys> open_site(const Directory& directory, const SiteSecret& secret);

bool is_site_name(std::string_view name);  // 1..64 of [A-Za-z0-9._-]
// The same, not beginning with '-' and not like an id: what a site calls another one.
bool is_peer_name(std::string_view name);

}  // namespace hf::vault
