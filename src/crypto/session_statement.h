// What two sites' vaults sign for a session between two keepers of one VM: who speaks with whom, in
// which role, under which epoch, by which ephemeral keys. Keepers make it, vaults check and sign
// it, so its bytes are here, below both. Specification: docs/formats/vault.md, "Session statement".
//
//   offset size
//        0    4  magic "HFSS"
//        4    2  format version 1
//        6    1  the signer's role: 1 home, 2 replica
//        7    1  zero
//        8   16  VM
//       24   16  home's site
//       40   16  the replica's site
//       56    8  epoch, at most kSessionEpochMax
//       64   32  home's ephemeral X25519 key
//       96   32  the replica's ephemeral X25519 key
//      128   32  home's nonce
//      160   32  the replica's nonce
//
// The two roles' statements differ in byte 6 alone, so neither side's signature can be sent back to
// it as the other's.
#pragma once

#include <array>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "crypto/crypto.h"

namespace hf::crypto {

inline constexpr size_t kSessionStatementSize = 192;
inline constexpr uint64_t kSessionEpochMax = uint64_t{1} << 62;

enum class SessionRole : uint8_t { kHome = 1, kReplica = 2 };

struct SessionStatement {
  SessionRole signer = SessionRole::kHome;
  VmId vm;
  SiteId home;
  SiteId replica;
  Epoch epoch;
  std::array<std::byte, 32> home_ephemeral{};
  std::array<std::byte, 32> replica_ephemeral{};
  std::array<std::byte, 32> home_nonce{};
  std::array<std::byte, 32> replica_nonce{};

  const SiteId& signer_site() const { return signer == SessionRole::kHome ? home : replica; }
  const SiteId& other_site() const { return signer == SessionRole::kHome ? replica : home; }
  bool operator==(const SessionStatement&) const = default;
};

using SessionStatementBytes = std::array<std::byte, kSessionStatementSize>;

// The epoch must be in bounds.
SessionStatementBytes encode(const SessionStatement& statement);
// Form only. kCorrupt, kUnsupported (another version), kInvalidArgument: one site on both sides, or
// an epoch over the bound.
Result<SessionStatement> decode_session_statement(ByteSpan bytes);

}  // namespace hf::crypto
