#include "crypto/session_statement.h"

#include <gtest/gtest.h>

namespace hf::crypto {
namespace {

SessionStatement sample() {
  SessionStatement statement;
  statement.signer = SessionRole::kReplica;
  statement.epoch = Epoch(7);
  statement.vm.bytes.fill(std::byte{1});
  statement.home.bytes.fill(std::byte{2});
  statement.replica.bytes.fill(std::byte{3});
  statement.home_ephemeral.fill(std::byte{4});
  statement.replica_ephemeral.fill(std::byte{5});
  statement.home_nonce.fill(std::byte{6});
  statement.replica_nonce.fill(std::byte{7});
  return statement;
}

TEST(SessionStatement, decodes_to_what_was_encoded) {
  const SessionStatementBytes bytes = encode(sample());
  EXPECT_EQ(*decode_session_statement(bytes), sample());
  EXPECT_EQ(sample().signer_site(), sample().replica);
  EXPECT_EQ(sample().other_site(), sample().home);
}

TEST(SessionStatement, every_byte_has_a_meaning) {
  const SessionStatementBytes good = encode(sample());
  for (size_t at = 0; at < good.size(); ++at) {
    SessionStatementBytes changed = good;
    changed[at] ^= std::byte{0x41};
    const Result<SessionStatement> decoded = decode_session_statement(changed);
    EXPECT_TRUE(!decoded.ok() || *decoded != sample()) << "byte " << at;
    if (decoded.ok()) EXPECT_EQ(encode(*decoded), changed) << "byte " << at;
  }
}

TEST(SessionStatement, refuses_what_no_keeper_makes) {
  const SessionStatementBytes good = encode(sample());
  EXPECT_EQ(decode_session_statement(ByteSpan(good).first(191)).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(decode_session_statement({}).error().code, ErrorCode::kCorrupt);
  SessionStatementBytes version = good;
  version[4] = std::byte{2};
  EXPECT_EQ(decode_session_statement(version).error().code, ErrorCode::kUnsupported);
  SessionStatementBytes role = good;
  role[6] = std::byte{3};
  EXPECT_EQ(decode_session_statement(role).error().code, ErrorCode::kCorrupt);
  SessionStatement with_itself = sample();
  with_itself.replica = with_itself.home;
  EXPECT_EQ(decode_session_statement(encode(with_itself)).error().code,
            ErrorCode::kInvalidArgument);
  SessionStatementBytes epoch = good;
  epoch[63] = std::byte{0xff};
  EXPECT_EQ(decode_session_statement(epoch).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace hf::crypto
