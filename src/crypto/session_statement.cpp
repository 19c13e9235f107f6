#include "crypto/session_statement.h"

#include <algorithm>

#include "base/assert.h"

namespace hf::crypto {
namespace {

constexpr uint32_t kMagic = 0x53534648;  // "HFSS"
constexpr uint16_t kVersion = 1;

constexpr size_t kVersionAt = 4;
constexpr size_t kRoleAt = 6;
constexpr size_t kZeroAt = 7;
constexpr size_t kVmAt = 8;
constexpr size_t kHomeAt = 24;
constexpr size_t kReplicaAt = 40;
constexpr size_t kEpochAt = 56;
constexpr size_t kHomeEphemeralAt = 64;
constexpr size_t kReplicaEphemeralAt = 96;
constexpr size_t kHomeNonceAt = 128;
constexpr size_t kReplicaNonceAt = 160;
static_assert(kReplicaNonceAt + 32 == kSessionStatementSize);

template <size_t N>
void put(SessionStatementBytes& to, size_t at, const std::array<std::byte, N>& from) {
  std::ranges::copy(from, to.begin() + static_cast<ptrdiff_t>(at));
}

template <size_t N>
void get(std::array<std::byte, N>& to, ByteSpan from, size_t at) {
  std::ranges::copy(from.subspan(at, N), to.begin());
}

Error corrupt(const char* what) {
  return Error{.code = ErrorCode::kCorrupt, .cause = std::string("a session statement ") + what};
}

}  // namespace

SessionStatementBytes encode(const SessionStatement& statement) {
  HF_ASSERT(statement.epoch.value <= kSessionEpochMax);
  SessionStatementBytes out{};
  store_le<uint32_t>(out.data(), kMagic);
  store_le<uint16_t>(out.data() + kVersionAt, kVersion);
  out[kRoleAt] = static_cast<std::byte>(statement.signer);
  put(out, kVmAt, statement.vm.bytes);
  put(out, kHomeAt, statement.home.bytes);
  put(out, kReplicaAt, statement.replica.bytes);
  store_le<uint64_t>(out.data() + kEpochAt, statement.epoch.value);
  put(out, kHomeEphemeralAt, statement.home_ephemeral);
  put(out, kReplicaEphemeralAt, statement.replica_ephemeral);
  put(out, kHomeNonceAt, statement.home_nonce);
  put(out, kReplicaNonceAt, statement.replica_nonce);
  return out;
}

Result<SessionStatement> decode_session_statement(ByteSpan bytes) {
  if (bytes.size() != kSessionStatementSize) return corrupt("of the wrong length");
  if (load_le<uint32_t>(bytes.data()) != kMagic) return corrupt("without its magic number");
  if (load_le<uint16_t>(bytes.data() + kVersionAt) != kVersion) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "a session statement of another version"};
  }
  SessionStatement out;
  out.signer = static_cast<SessionRole>(bytes[kRoleAt]);
  if (out.signer != SessionRole::kHome && out.signer != SessionRole::kReplica) {
    return corrupt("of an unknown role");
  }
  if (bytes[kZeroAt] != std::byte{0}) return corrupt("with a reserved byte set");
  get(out.vm.bytes, bytes, kVmAt);
  get(out.home.bytes, bytes, kHomeAt);
  get(out.replica.bytes, bytes, kReplicaAt);
  out.epoch = Epoch(load_le<uint64_t>(bytes.data() + kEpochAt));
  get(out.home_ephemeral, bytes, kHomeEphemeralAt);
  get(out.replica_ephemeral, bytes, kReplicaEphemeralAt);
  get(out.home_nonce, bytes, kHomeNonceAt);
  get(out.replica_nonce, bytes, kReplicaNonceAt);
  if (out.home == out.replica) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "a session statement with one site on both sides"};
  }
  if (out.epoch.value > kSessionEpochMax) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "a session statement with an epoch beyond all bounds"};
  }
  return out;
}

}  // namespace hf::crypto
