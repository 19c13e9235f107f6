#include "replication/session.h"

#include <gtest/gtest.h>

#include "replication/test_session.h"

namespace hf::replication {
namespace {

// Each filling is one byte more than the one before.
struct CountingRng final : Rng {
  explicit CountingRng(uint8_t first) : next(first) {}
  void fill(MutableByteSpan out) override {
    std::ranges::fill(out, static_cast<std::byte>(next++));
  }
  uint8_t next;
};

template <typename Id>
Id id_of(uint8_t value) {
  Id id;
  id.bytes.fill(std::byte{value});
  return id;
}
const VmId kVm = id_of<VmId>(0x11);

journal::LineEnd some_end() {
  return {.position = {.incarnation = id_of<IncarnationId>(0x55), .sequence = Sequence(5)},
          .chain = id_of<Digest>(0x66)};
}

// Both ends of one session, agreed.
struct Pair {
  explicit Pair(uint8_t home_first = 1, uint8_t replica_first = 3)
      : home_rng(home_first),
        replica_rng(replica_first),
        home(crypto::SessionRole::kHome, home_rng),
        replica(crypto::SessionRole::kReplica, replica_rng) {
    hello = {.epoch = Epoch(7),
             .home = kHomeSite,
             .replica = kReplicaSite,
             .ephemeral = home.ephemeral(),
             .nonce = home.nonce()};
    hello.public_key.fill(std::byte{9});
    answer = {.epoch = Epoch(7), .ephemeral = replica.ephemeral(), .nonce = replica.nonce()};
    EXPECT_TRUE(home.agree(kVm, hello, answer).ok());
    EXPECT_TRUE(replica.agree(kVm, hello, answer).ok());
  }
  CountingRng home_rng, replica_rng;
  Session home, replica;
  Hello hello;
  Answer answer;
};

// Computed by another program (Python's hmac and hashlib, and the RFC's ladder) from the text of
// docs/formats/replication.md.
TEST(Session, gives_the_macs_that_the_specification_says) {
  Pair pair;
  EXPECT_EQ(
      pair.replica
          .seal(FrameType::kBegin,
                says(Begin{.durable = some_end(), .window_bytes = 4u << 20, .mac = id_of<Mac>(9)}))
          .hex(),
      "ec2cd51018c8fd41a47649242a13b87452b0249b1d0ebc65c8e40195bd517696");
  EXPECT_EQ(pair.replica.seal(FrameType::kAck, says(Ack{.durable = some_end(), .mac = {}})).hex(),
            "d5481968161ba12dbff337cc6eda13c5b511e7ed62ce3a8b6483cfb0c75d8fe5");
  EXPECT_EQ(
      pair.home
          .seal(FrameType::kRecords,
                says(Records{.home_durable = Sequence(6), .records = {}, .mac = {}}, some_end()))
          .hex(),
      "f7c9d489b59d1f3f7c2ac14c24f0df5db683677e4429e67e6e976627f96fa1d3");
}

TEST(Session, both_ends_sign_the_same_facts_in_their_own_role) {
  Pair pair;
  EXPECT_EQ(pair.home.own_statement(), pair.replica.peer_statement());
  EXPECT_EQ(pair.home.peer_statement(), pair.replica.own_statement());
  EXPECT_NE(pair.home.own_statement(), pair.home.peer_statement());
  const auto facts = *crypto::decode_session_statement(pair.home.own_statement());
  EXPECT_EQ(facts.signer, crypto::SessionRole::kHome);
  EXPECT_EQ(facts.vm, kVm);
  EXPECT_EQ(facts.home, kHomeSite);
  EXPECT_EQ(facts.replica, kReplicaSite);
  EXPECT_EQ(facts.epoch, Epoch(7));
  EXPECT_EQ(facts.home_ephemeral, pair.hello.ephemeral);
  EXPECT_EQ(facts.replica_nonce, pair.answer.nonce);
}

TEST(Session, a_mac_is_good_once_in_its_place_in_its_direction_and_for_its_kind) {
  const Bytes said(40, std::byte{1});
  Bytes other = said;
  other[39] ^= std::byte{1};
  {
    Pair pair;
    const Mac mac = pair.home.seal(FrameType::kRecords, said);
    EXPECT_TRUE(pair.replica.open(FrameType::kRecords, said, mac));
    EXPECT_FALSE(pair.replica.open(FrameType::kRecords, said, mac)) << "twice";
  }
  {
    Pair pair;
    const Mac mac = pair.home.seal(FrameType::kRecords, said);
    EXPECT_FALSE(pair.home.open(FrameType::kRecords, said, mac)) << "reflected";
  }
  {
    Pair pair;
    const Mac mac = pair.home.seal(FrameType::kRecords, said);
    EXPECT_FALSE(pair.replica.open(FrameType::kSeed, said, mac)) << "as another kind";
  }
  {
    Pair pair;
    const Mac mac = pair.home.seal(FrameType::kRecords, said);
    EXPECT_FALSE(pair.replica.open(FrameType::kRecords, other, mac)) << "altered";
  }
  {
    Pair pair;
    pair.home.seal(FrameType::kRecords, said);
    const Mac mac = pair.home.seal(FrameType::kRecords, said);
    EXPECT_FALSE(pair.replica.open(FrameType::kRecords, said, mac)) << "one left out before it";
  }
  {
    Pair pair, later(1, 5);
    const Mac mac = pair.home.seal(FrameType::kRecords, said);
    EXPECT_FALSE(later.replica.open(FrameType::kRecords, said, mac)) << "of another session";
  }
}

// What was not signed, the rest of the hello say, is bound all the same: by the session's name.
TEST(Session, whoever_alters_a_byte_of_the_beginning_gets_two_ends_that_do_not_agree) {
  const Bytes said(8);
  for (size_t at = 0; at < kHelloSize + kAnswerSize - crypto::kSignatureSize; ++at) {
    CountingRng home_rng(1), replica_rng(3);
    Session home(crypto::SessionRole::kHome, home_rng);
    Session replica(crypto::SessionRole::kReplica, replica_rng);
    Pair good;
    Bytes hello = encode(kVm, good.hello), answer = encode(kVm, good.answer);
    Bytes& altered = at < kHelloSize ? hello : answer;
    altered[kFrameHeaderSize + (at < kHelloSize ? at : at - kHelloSize)] ^= std::byte{1};
    const auto seen_hello = decode_hello(decode_frame(hello)->body);
    const auto seen_answer = decode_answer(decode_frame(answer)->body);
    if (!seen_hello.ok() || !seen_answer.ok()) continue;  // the epoch's highest byte
    // Each end knows what it sent itself.
    const bool hello_was = at < kHelloSize;
    ASSERT_TRUE(home.agree(kVm, good.hello, hello_was ? good.answer : *seen_answer).ok());
    ASSERT_TRUE(replica.agree(kVm, hello_was ? *seen_hello : good.hello, good.answer).ok());
    EXPECT_FALSE(replica.open(FrameType::kAck, said, home.seal(FrameType::kAck, said))) << at;
  }
}

TEST(Session, agrees_on_nothing_with_a_key_that_makes_the_secret_known) {
  CountingRng rng(1);
  Session home(crypto::SessionRole::kHome, rng);
  Pair other;
  Hello hello = other.hello;
  Answer answer = other.answer;
  answer.ephemeral = {};
  EXPECT_EQ(home.agree(kVm, hello, answer).error().code, ErrorCode::kCorrupt);
  EXPECT_FALSE(home.agreed());
  home.confirm();
  EXPECT_FALSE(home.confirmed());
}

}  // namespace
}  // namespace hf::replication
