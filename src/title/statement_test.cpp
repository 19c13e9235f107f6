#include "title/statement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "title/answer.h"
#include "title/testing/world.h"

namespace hf::title {
namespace {

using testing::kA;
using testing::kB;

Statement full() {
  Statement s;
  s.kind = Kind::kTake;
  s.word = WordKind::kSourceIsOff;
  s.vm.bytes.fill(std::byte{0x11});
  s.follows.bytes.fill(std::byte{0x22});
  s.beside.bytes.fill(std::byte{0x33});
  s.issuer = s.holder = kB;
  s.epoch = Epoch(3);
  s.time = Micros(0x0102030405060708);
  s.start_after = 600;
  s.line = testing::line(9);
  s.members = Members().with(kB, Standing::kMember).with(kA, Standing::kMember);
  return s;
}

TEST(Statement, has_the_bytes_that_its_page_shows) {
  // docs/formats/title.md. Whoever changes these makes another format.
  const Bytes bytes = encode(full());
  EXPECT_EQ(to_hex(bytes),
            "4846545301000901"
            "11111111111111111111111111111111"
            "2222222222222222222222222222222222222222222222222222222222222222"
            "3333333333333333333333333333333333333333333333333333333333333333"
            "02000000000000000000000000000000"
            "02000000000000000000000000000000"
            "0300000000000000"
            "0807060504030201"
            "58020000"
            "02000000"
            "0700000000000000000000000000000000000000000000000000000000000000"
            "0900000000000000"
            "0900000000000000000000000000000000000000000000000000000000000000"
            "0000000000000000000000000000000000000000000000000000000000000000"
            "010000000000000000000000000000000000000000000000"
            "020000000000000000000000000000000000000000000000");
}

TEST(Statement, comes_back_as_it_was_and_whole_only) {
  const Bytes bytes = encode(full());
  EXPECT_EQ(*decode_statement(bytes), full());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_statement(ByteSpan(bytes).first(size)).ok()) << size;
  }
  Bytes longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_statement(longer).ok());
}

TEST(Statement, whatever_bit_is_turned_decodes_to_the_same_bytes_or_not_at_all) {
  const Bytes bytes = encode(full());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes other = bytes;
    other[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    const auto decoded = decode_statement(other);
    if (decoded.ok()) EXPECT_EQ(encode(*decoded), other) << bit;
  }
}

TEST(Statement, out_of_form_is_refused) {
  const auto refused = [](auto change) {
    Statement s = full();
    change(s);
    return out_of_form(s) != nullptr;
  };
  EXPECT_FALSE(refused([](Statement&) {}));
  EXPECT_TRUE(refused([](Statement& s) { s.issuer = {}; }));
  EXPECT_TRUE(refused([](Statement& s) { s.epoch = Epoch(0); }));
  EXPECT_TRUE(refused([](Statement& s) { s.epoch = Epoch(kNumberMax + 1); }));
  EXPECT_TRUE(refused([](Statement& s) { s.time = Micros(kNumberMax + 1); }));
  EXPECT_TRUE(refused([](Statement& s) { s.start_after = kStartAfterMax + 1; }));
  EXPECT_TRUE(refused([](Statement& s) { s.line.position.sequence = Sequence(kNumberMax + 1); }));
  EXPECT_TRUE(refused([](Statement& s) { s.line = {}; }));
  EXPECT_TRUE(refused([](Statement& s) { s.line.position.incarnation = {}; }));
  EXPECT_TRUE(refused([](Statement& s) { s.holder = testing::kC; }));
  EXPECT_TRUE(refused([](Statement& s) { s.holder = {}; }));
  EXPECT_TRUE(refused([](Statement& s) { s.members = s.members.with(kB, Standing::kStandby); }));
  EXPECT_TRUE(refused([](Statement& s) { s.vm = {}; }));
  EXPECT_TRUE(refused([](Statement& s) { s.follows = {}; }));
  EXPECT_TRUE(refused([](Statement& s) { s.beside = s.follows; }));
  EXPECT_TRUE(refused([](Statement& s) { s.origin.bytes[0] = std::byte{1}; }));
  EXPECT_TRUE(refused([](Statement& s) { s.word = WordKind::kWithoutPeer; }));
  EXPECT_TRUE(refused([](Statement& s) { s.kind = Kind::kPolicy; }));
}

TEST(Statement, a_huge_count_of_members_costs_nothing) {
  Bytes bytes = encode(full());
  bytes[140] = std::byte{255};
  EXPECT_FALSE(decode_statement(bytes).ok());
}

TEST(Signed, ed25519_and_the_label_bind_it) {
  crypto::Secret seed(32);
  const crypto::SigningKey key(seed);
  Ed25519Verifier verifier;
  verifier.add(kB, key.public_key());
  const auto statement = Signed::sign(full(), Ed25519Signer(kB, key));
  EXPECT_TRUE(statement->verify(verifier));
  Bytes bytes = statement->encode();
  const auto again = Signed::decode(bytes);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ((*again)->digest(), statement->digest());
  EXPECT_TRUE((*again)->verify(verifier));
  bytes.back() ^= std::byte{1};
  const auto forged = Signed::decode(bytes);
  ASSERT_TRUE(forged.ok());
  EXPECT_EQ((*forged)->digest(), statement->digest());  // not of the signature
  EXPECT_FALSE((*forged)->verify(verifier));
  verifier.remove(kB);
  EXPECT_FALSE(statement->verify(verifier));
}

TEST(Answer, comes_back_as_it_was_and_whole_only) {
  Answer answer;
  answer.vm.bytes.fill(std::byte{1});
  answer.from = kB;
  answer.to = kA;
  answer.nonce = testing::next_nonce();
  answer.whole = answer.accepts = true;
  answer.line = testing::line(4);
  answer.rivals.resize(2);
  const auto said = SignedAnswer::sign(answer, testing::KeyedSigner(kB));
  const Bytes bytes = said.encode();
  EXPECT_EQ(bytes.size(), kAnswerFixedSize + 64 + crypto::kSignatureSize);
  const auto again = SignedAnswer::decode(bytes);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->answer, answer);
  EXPECT_TRUE(again->verify(testing::KeyedVerifier()));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(SignedAnswer::decode(ByteSpan(bytes).first(size)).ok()) << size;
  }
  Bytes many = bytes;
  many[7] = std::byte{255};
  EXPECT_FALSE(SignedAnswer::decode(many).ok());
  Bytes reserved = bytes;
  reserved[6] |= std::byte{0x80};
  EXPECT_FALSE(SignedAnswer::decode(reserved).ok());
}

}  // namespace
}  // namespace hf::title
