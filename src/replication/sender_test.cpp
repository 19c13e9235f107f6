#include "replication/sender.h"

#include <gtest/gtest.h>

namespace hf::replication {
namespace {

template <typename Id>
Id id_of(uint8_t value) {
  Id id;
  id.bytes.fill(std::byte{value});
  return id;
}
const VmId kVm = id_of<VmId>(0x11);
constexpr Micros kNow{1'600'000'000'000'000};

// A home journal of flush records: what a Sender sees of one.
struct Home {
  explicit Home(size_t count) {
    Digest chain;
    ends.push_back({});
    for (uint64_t i = 1; i <= count; i++) {
      journal::RecordHeader header{.kind = journal::RecordKind::kFlush,
                                   .sequence = Sequence(i),
                                   .vm = kVm,
                                   .incarnation = id_of<IncarnationId>(1),
                                   .key_version = KeyVersion(1),
                                   .payload_length = crypto::kTagSize,
                                   .time = Micros(kNow.value + i),
                                   .prev_chain = chain};
      Bytes record(header.stored_size());
      const std::span<std::byte, journal::kRecordHeaderSize> at(record.data(),
                                                                journal::kRecordHeaderSize);
      journal::encode_header(header, at);
      chain = journal::next_chain(chain, journal::header_digest(at));
      records.push_back(std::move(record));
      ends.push_back({.position = {.incarnation = header.incarnation, .sequence = header.sequence},
                      .chain = chain});
    }
  }
  Bytes range(size_t first, size_t last) const {
    Bytes bytes;
    for (size_t i = first; i <= last; i++) {
      bytes.insert(bytes.end(), records[i - 1].begin(), records[i - 1].end());
    }
    return bytes;
  }
  std::vector<Bytes> records;          // [0] is number 1
  std::vector<journal::LineEnd> ends;  // after so many records
};

SenderOptions options() {
  return {.vm = kVm, .site = id_of<SiteId>(1), .epoch = Epoch(3), .public_key = {std::byte{5}}};
}

Frame frame_of(const Bytes& bytes) { return *decode_frame(bytes); }

template <typename E>
const E* find(const Effects& effects) {
  for (const Effect& effect : effects) {
    if (const E* found = std::get_if<E>(&effect)) return found;
  }
  return nullptr;
}

Bytes reply_at(const journal::LineEnd& end, Epoch epoch = Epoch(3)) {
  return encode(kVm, HelloReply{.epoch = epoch, .durable = end, .window_bytes = 4u << 20});
}

// Through hello and reply; returns the effects after the reply.
Effects greet(Sender& sender, const journal::LineEnd& replica) {
  sender.connected(kNow);
  const Effects hello = sender.take_effects();
  EXPECT_NE(find<SendFrame>(hello), nullptr);
  sender.received(frame_of(reply_at(replica)), kNow);
  return sender.take_effects();
}

TEST(Sender, starts_at_the_receivers_durable_position) {
  const Home home(5);
  Sender sender(options());
  const Effects effects = greet(sender, home.ends[2]);
  ASSERT_NE(find<WantRecords>(effects), nullptr);
  EXPECT_EQ(find<WantRecords>(effects)->after, home.ends[2].position);

  sender.feed_records({.records = home.range(3, 5), .durable = Sequence(5)}, kNow);
  const Effects sent = sender.take_effects();
  ASSERT_NE(find<SendFrame>(sent), nullptr);
  const Frame frame = frame_of(find<SendFrame>(sent)->frame);
  EXPECT_EQ(frame.type, FrameType::kRecords);
  EXPECT_TRUE(std::ranges::equal(decode_records(frame.body)->records, home.range(3, 5)));
  EXPECT_EQ(find<WantRecords>(sent)->after, home.ends[5].position);
}

TEST(Sender, measures_the_age_of_the_oldest_record_the_replica_lacks) {
  const Home home(5);
  Sender sender(options());
  greet(sender, home.ends[2]);
  sender.feed_records({.records = home.range(3, 5), .durable = Sequence(5)}, kNow);
  EXPECT_EQ(sender.rpo_us(Micros(kNow.value + 1003)), 1000u);
  EXPECT_EQ(sender.lag_records(), 3u);
  sender.received(frame_of(encode(kVm, Ack{.durable = home.ends[4]})), kNow);
  EXPECT_EQ(sender.rpo_us(Micros(kNow.value + 1005)), 1000u);
  EXPECT_EQ(sender.lag_records(), 1u);
  EXPECT_FALSE(sender.caught_up());
  sender.received(frame_of(encode(kVm, Ack{.durable = home.ends[5]})), kNow);
  EXPECT_EQ(sender.rpo_us(Micros(kNow.value + 9999)), 0u);
  EXPECT_EQ(sender.unacknowledged_bytes(), 0u);
  EXPECT_TRUE(sender.caught_up());
}

TEST(Sender, the_rpo_goes_on_while_the_link_is_down) {
  const Home home(2);
  Sender sender(options());
  greet(sender, home.ends[0]);
  sender.feed_records({.records = home.range(1, 2), .durable = Sequence(2)}, kNow);
  sender.disconnected(kNow);
  EXPECT_EQ(sender.state(), Sender::State::kIdle);
  EXPECT_EQ(sender.rpo_us(Micros(kNow.value + 501)), 500u);
  EXPECT_GT(sender.reconnect_at(), kNow);
}

TEST(Sender, counts_what_home_acknowledged_but_has_not_synced) {
  const Home home(2);
  Sender sender(options());
  greet(sender, home.ends[2]);
  sender.feed_records(
      {.records = {}, .durable = Sequence(2), .oldest_unshipped = Micros(kNow.value + 10)}, kNow);
  EXPECT_EQ(sender.rpo_us(Micros(kNow.value + 30)), 20u);
  EXPECT_FALSE(sender.caught_up());
}

TEST(Sender, stops_asking_when_the_window_is_full_and_goes_on_after_an_acknowledgement) {
  const Home home(4);
  SenderOptions small = options();
  small.window_bytes_max = journal::kRecordSizeMax + 600;
  Sender sender(small);
  greet(sender, home.ends[0]);
  sender.feed_records({.records = home.range(1, 3), .durable = Sequence(4)}, kNow);
  EXPECT_EQ(find<WantRecords>(sender.take_effects()), nullptr);
  sender.received(frame_of(encode(kVm, Ack{.durable = home.ends[3]})), kNow);
  EXPECT_NE(find<WantRecords>(sender.take_effects()), nullptr);
}

TEST(Sender, halts_and_names_the_divergence_when_home_does_not_know_the_position) {
  Sender sender(options());
  const Home home(3);
  greet(sender, home.ends[2]);
  sender.feed_failed({.code = ErrorCode::kConflict, .cause = "not on this lineage"}, kNow);
  const Effects effects = sender.take_effects();
  ASSERT_NE(find<SendFrame>(effects), nullptr);
  const Frame frame = frame_of(find<SendFrame>(effects)->frame);
  EXPECT_EQ(decode_error(frame.body)->refusal, Refusal::kDiverged);
  EXPECT_NE(find<Disconnect>(effects), nullptr);
  ASSERT_NE(sender.halt_reason(), nullptr);
  EXPECT_FALSE(sender.halt_reason()->effect.empty());
  EXPECT_FALSE(sender.halt_reason()->mend.empty());
  sender.reset();
  EXPECT_EQ(sender.state(), Sender::State::kIdle);
}

TEST(Sender, asks_for_a_seed_when_the_replicas_next_records_are_merged_away) {
  Sender sender(options());
  const Home home(3);
  greet(sender, {});
  sender.feed_failed({.code = ErrorCode::kNotFound, .cause = "merged"}, kNow);
  EXPECT_EQ(sender.state(), Sender::State::kSeeding);
  EXPECT_TRUE(sender.seeding().has_value());
  EXPECT_NE(find<WantSeed>(sender.take_effects()), nullptr);
  // The link breaks with that question out; the answer is of no use any more.
  sender.disconnected(kNow);
  EXPECT_EQ(sender.state(), Sender::State::kIdle);
  sender.feed_seed({}, kNow);
  EXPECT_EQ(find<WantRecords>(greet(sender, home.ends[1]))->after, home.ends[1].position);
}

TEST(Sender, does_not_ship_a_seed_that_nobody_signed) {
  Sender sender(options());
  greet(sender, {});
  sender.feed_failed({.code = ErrorCode::kNotFound, .cause = "merged"}, kNow);
  sender.take_effects();
  sender.feed_seed(Bytes(300), kNow);
  EXPECT_EQ(sender.state(), Sender::State::kHalted);
}

TEST(Sender, halts_when_the_first_record_does_not_continue_the_receivers_chain) {
  Sender sender(options());
  const Home home(3);
  journal::LineEnd other = home.ends[2];
  other.chain = id_of<Digest>(0x77);
  greet(sender, other);
  sender.feed_records({.records = home.range(3, 3), .durable = Sequence(3)}, kNow);
  EXPECT_EQ(sender.state(), Sender::State::kHalted);
}

TEST(Sender, hands_a_higher_epoch_to_recovery_and_halts) {
  Sender sender(options());
  sender.connected(kNow);
  sender.take_effects();
  sender.received(frame_of(reply_at({}, Epoch(4))), kNow);
  Effects effects = sender.take_effects();
  ASSERT_NE(find<PeerEpoch>(effects), nullptr);
  EXPECT_EQ(find<PeerEpoch>(effects)->epoch, Epoch(4));
  EXPECT_EQ(sender.state(), Sender::State::kHalted);
  sender.connected(kNow);
  effects = sender.take_effects();
  EXPECT_EQ(find<SendFrame>(effects), nullptr);
  EXPECT_NE(find<Disconnect>(effects), nullptr);

  Sender refused(options());
  refused.connected(kNow);
  refused.take_effects();
  refused.received(
      frame_of(encode(
          kVm, ErrorFrame{.refusal = Refusal::kStaleEpoch, .epoch = Epoch(9), .cause = "stale"})),
      kNow);
  EXPECT_EQ(find<PeerEpoch>(refused.take_effects())->epoch, Epoch(9));
  EXPECT_EQ(refused.state(), Sender::State::kHalted);
}

TEST(Sender, gives_up_a_silent_replica_and_waits_longer_each_time) {
  Sender sender(options());
  uint64_t last = 0;
  for (int i = 0; i < 3; i++) {
    sender.connected(kNow);
    sender.take_effects();
    sender.tick(Micros(sender.deadline().value - 1));
    EXPECT_EQ(sender.state(), Sender::State::kGreeting);
    const Micros then = sender.deadline();
    sender.tick(then);
    EXPECT_EQ(sender.state(), Sender::State::kIdle);
    EXPECT_EQ(sender.last_error()->code, ErrorCode::kTimeout);
    EXPECT_GT(sender.reconnect_at().value - then.value, last);
    last = sender.reconnect_at().value - then.value;
  }
}

TEST(Sender, ignores_the_feeds_answer_to_an_earlier_connection) {
  const Home home(3);
  Sender sender(options());
  greet(sender, home.ends[0]);
  sender.disconnected(kNow);
  sender.take_effects();
  EXPECT_EQ(find<WantRecords>(greet(sender, home.ends[1])), nullptr) << "one question at a time";
  sender.feed_records({.records = home.range(1, 3), .durable = Sequence(3)}, kNow);
  const Effects effects = sender.take_effects();
  EXPECT_EQ(find<SendFrame>(effects), nullptr);
  ASSERT_NE(find<WantRecords>(effects), nullptr);
  EXPECT_EQ(find<WantRecords>(effects)->after, home.ends[1].position);
}

TEST(Sender, asks_again_after_a_link_that_broke_with_a_question_out) {
  const Home home(5);
  Sender sender(options());
  ASSERT_NE(find<WantRecords>(greet(sender, home.ends[2])), nullptr);
  sender.disconnected(kNow);
  EXPECT_TRUE(sender.awaits_feed());  // also where the question itself was dropped, unasked
  sender.feed_failed({.code = ErrorCode::kUnavailable, .cause = "the connection ended"}, kNow);
  EXPECT_FALSE(sender.awaits_feed());
  EXPECT_EQ(sender.state(), Sender::State::kIdle);
  const Effects again = greet(sender, home.ends[3]);
  ASSERT_NE(find<WantRecords>(again), nullptr);
  EXPECT_EQ(find<WantRecords>(again)->after, home.ends[3].position);
}

TEST(Sender, refuses_an_acknowledgement_of_what_was_not_sent) {
  const Home home(3);
  Sender sender(options());
  greet(sender, home.ends[0]);
  sender.received(frame_of(encode(kVm, Ack{.durable = home.ends[2]})), kNow);
  EXPECT_EQ(sender.state(), Sender::State::kIdle);
  EXPECT_NE(find<Disconnect>(sender.take_effects()), nullptr);
}

TEST(Sender, never_ships_what_home_could_lose) {
  const Home home(3);
  Sender sender(options());
  greet(sender, home.ends[0]);
  sender.feed_records({.records = home.range(1, 3), .durable = Sequence(2)}, kNow);
  EXPECT_EQ(sender.halted_as(), Refusal::kBadRecords);
  for (const Effect& effect : sender.take_effects()) {
    const auto* sent = std::get_if<SendFrame>(&effect);
    if (sent != nullptr) EXPECT_NE(frame_of(sent->frame).type, FrameType::kRecords);
  }
}

TEST(Sender, outlives_a_feed_that_gives_more_than_was_asked_for) {
  const Home home(1);
  Sender sender(options());
  const Effects effects = greet(sender, home.ends[0]);
  Bytes flood(find<WantRecords>(effects)->bytes_max + 64);
  sender.feed_records({.records = flood, .durable = Sequence(1)}, kNow);
  EXPECT_EQ(sender.halted_as(), Refusal::kBadRecords);
}

}  // namespace
}  // namespace hf::replication
