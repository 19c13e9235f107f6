#include "recovery/state.h"

#include <gtest/gtest.h>

namespace hf::recovery {
namespace {

VmId vm() {
  VmId id;
  id.bytes.fill(std::byte{0x11});
  return id;
}

RecoveryState state_of(Role role, uint64_t epoch) {
  return {.vm = vm(), .epoch = Epoch(epoch), .role = role, .incarnation = {}, .has_peer = true};
}

// A replica's end that something of the VM has reached.
journal::LineEnd something() { return {.position = {.sequence = Sequence(1)}}; }

void expect_three_parts(const Error& error) {
  EXPECT_FALSE(error.cause.empty());
  EXPECT_FALSE(error.effect.empty());
  EXPECT_FALSE(error.mend.empty());
}

TEST(RecoveryState, comes_back_as_it_was_and_not_with_a_flipped_bit) {
  RecoveryState state = state_of(Role::kSuperseded, 9);
  state.incarnation.bytes.fill(std::byte{7});
  const Bytes bytes = encode_state(state);
  EXPECT_EQ(*decode_state(bytes), state);
  for (size_t bit = 0; bit < bytes.size() * 8; bit++) {
    Bytes bad = bytes;
    bad[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    EXPECT_FALSE(decode_state(bad).ok()) << bit;
  }
  EXPECT_FALSE(decode_state(ByteSpan(bytes).first(kStateSize - 1)).ok());
}

TEST(RecoveryState, golden_bytes) {
  EXPECT_EQ(to_hex(ByteSpan(encode_state(state_of(Role::kReplica, 2))).first(32)),
            "48465243"
            "0100"
            "02"
            "01"
            "11111111111111111111111111111111"
            "0200000000000000");
}

TEST(Promote, raises_the_epoch) {
  const auto next = promote(state_of(Role::kReplica, 4), something(), SourceAnswer::kStopped,
                            OperatorWord::kNone);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->epoch, Epoch(5));
  EXPECT_EQ(next->role, Role::kPrimary);
}

TEST(Promote, ends_in_an_error_where_no_higher_epoch_is_left) {
  const auto promoted_from = [](uint64_t epoch) {
    return promote(state_of(Role::kReplica, epoch), something(), SourceAnswer::kStopped,
                   OperatorWord::kNone);
  };
  EXPECT_TRUE(promoted_from(kNumberMax - 1).ok());
  const auto refused = promoted_from(kNumberMax);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
  expect_three_parts(refused.error());
}

TEST(Promote, needs_the_operators_word_unless_the_source_stopped) {
  const RecoveryState replica = state_of(Role::kReplica, 4);
  for (const SourceAnswer source :
       {SourceAnswer::kNoAnswer, SourceAnswer::kSilent, SourceAnswer::kRefused}) {
    const auto refused = promote(replica, something(), source, OperatorWord::kNone);
    ASSERT_FALSE(refused.ok());
    expect_three_parts(refused.error());
    if (source == SourceAnswer::kRefused) continue;
    EXPECT_TRUE(promote(replica, something(), source, OperatorWord::kSourceIsOff).ok());
  }
}

TEST(Promote, no_word_makes_a_source_off_that_answers_and_refuses) {
  const auto refused = promote(state_of(Role::kReplica, 4), something(), SourceAnswer::kRefused,
                               OperatorWord::kSourceIsOff);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
  expect_three_parts(refused.error());
}

TEST(Promote, says_that_nothing_was_changed_only_of_a_source_that_was_not_asked) {
  const auto effect = [](SourceAnswer source) {
    return promote(state_of(Role::kReplica, 4), something(), source, OperatorWord::kNone)
        .error()
        .effect;
  };
  EXPECT_TRUE(effect(SourceAnswer::kNoAnswer).ends_with("nothing was changed"));
  EXPECT_TRUE(effect(SourceAnswer::kSilent).contains("may have stopped"));
  EXPECT_TRUE(effect(SourceAnswer::kRefused).ends_with("nothing was changed here"));
}

TEST(Promote, is_for_replicas_only) {
  for (const Role role : {Role::kPrimary, Role::kSuperseded}) {
    const auto refused =
        promote(state_of(role, 4), something(), SourceAnswer::kStopped, OperatorWord::kSourceIsOff);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
    expect_three_parts(refused.error());
  }
}

TEST(Promote, an_empty_replica_is_never_promoted_whatever_is_said_of_the_source) {
  const RecoveryState replica = state_of(Role::kReplica, 1);
  for (const SourceAnswer source :
       {SourceAnswer::kStopped, SourceAnswer::kNoAnswer, SourceAnswer::kRefused}) {
    const auto refused = promote(replica, {}, source, OperatorWord::kSourceIsOff);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
    expect_three_parts(refused.error());
  }
  // The same before the source is asked to stop.
  EXPECT_FALSE(may_promote(replica, {}).ok());
  EXPECT_TRUE(may_promote(replica, something()).ok());
}

TEST(LearnPeer, a_higher_epoch_supersedes_a_primary_for_good) {
  const LearnOutcome outcome = learn_peer_epoch(state_of(Role::kPrimary, 1), Epoch(2));
  EXPECT_EQ(outcome.learned, Learned::kSuperseded);
  EXPECT_EQ(outcome.state.role, Role::kSuperseded);
  EXPECT_EQ(outcome.state.epoch, Epoch(2));
  const Status start = may_start(outcome.state, std::nullopt, StartWord::kWithoutPeer);
  ASSERT_FALSE(start.ok());
  expect_three_parts(start.error());
}

TEST(LearnPeer, a_replica_takes_the_epoch_and_stays_one) {
  const LearnOutcome outcome = learn_peer_epoch(state_of(Role::kReplica, 1), Epoch(2));
  EXPECT_EQ(outcome.learned, Learned::kEpoch);
  EXPECT_EQ(outcome.state.role, Role::kReplica);
  EXPECT_EQ(learn_peer_epoch(outcome.state, Epoch(1)).learned, Learned::kNothing);
}

TEST(LearnPeer, two_promotions_to_one_epoch_are_a_named_conflict) {
  const PeerAnswer twin{.epoch = Epoch(2), .role = Role::kPrimary};
  const auto outcome = learn_peer(state_of(Role::kPrimary, 2), twin);
  ASSERT_FALSE(outcome.ok());
  expect_three_parts(outcome.error());
  const Status start = may_start(state_of(Role::kPrimary, 2), twin, StartWord::kWithoutPeer);
  EXPECT_EQ(start.error().code, ErrorCode::kConflict);
}

TEST(MayStart, follows_the_table) {
  const RecoveryState primary = state_of(Role::kPrimary, 3);
  const PeerAnswer agrees{.epoch = Epoch(3), .role = Role::kReplica};
  const PeerAnswer older{.epoch = Epoch(2), .role = Role::kReplica};
  const PeerAnswer newer{.epoch = Epoch(4), .role = Role::kPrimary};
  EXPECT_TRUE(may_start(primary, agrees, StartWord::kNone).ok());
  EXPECT_TRUE(may_start(primary, older, StartWord::kNone).ok());
  EXPECT_EQ(may_start(primary, newer, StartWord::kWithoutPeer).error().code, ErrorCode::kConflict);
  const Status silent = may_start(primary, std::nullopt, StartWord::kNone);
  EXPECT_EQ(silent.error().code, ErrorCode::kUnavailable);
  expect_three_parts(silent.error());
  EXPECT_TRUE(may_start(primary, std::nullopt, StartWord::kWithoutPeer).ok());
  const Status replica = may_start(state_of(Role::kReplica, 3), agrees, StartWord::kWithoutPeer);
  ASSERT_FALSE(replica.ok());
  expect_three_parts(replica.error());
  EXPECT_TRUE(may_start(new_primary(vm()), std::nullopt, StartWord::kNone).ok()) << "not protected";
}

}  // namespace
}  // namespace hf::recovery
