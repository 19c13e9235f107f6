#include "replication/sender.h"

#include <gtest/gtest.h>

#include "replication/test_session.h"

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
  return {.vm = kVm,
          .site = kHomeSite,
          .peer_site = kReplicaSite,
          .epoch = Epoch(3),
          .public_key = {std::byte{5}}};
}

Frame frame_of(const Bytes& bytes) { return *decode_frame(bytes); }

template <typename E>
const E* find(const Effects& effects) {
  for (const Effect& effect : effects) {
    if (const E* found = std::get_if<E>(&effect)) return found;
  }
  return nullptr;
}

// A Sender with what it stands between: its vault and a replica's end of the session.
struct Linked {
  explicit Linked(SenderOptions with = options()) : sender(with, rng) {}

  // Lets home's vault answer until nothing is asked of it; everything else that was to be done.
  Effects settle() {
    Effects rest;
    for (bool asked = true; asked;) {
      asked = false;
      for (Effect& effect : sender.take_effects()) {
        if (TestVaults::answer(sender, kHomeSite, effect, kNow)) {
          asked = true;
        } else {
          rest.push_back(std::move(effect));
        }
      }
    }
    return rest;
  }
  Effects give(const Bytes& frame) {
    sender.received(frame_of(frame), kNow);
    return settle();
  }
  Bytes hello() {
    sender.connected(kNow);
    const Effects said = settle();
    HF_ASSERT(find<SendFrame>(said) != nullptr);
    return find<SendFrame>(said)->frame;
  }
  // Up to the auth frame.
  Effects prove(Epoch epoch = Epoch(3)) { return give(replica.answer(hello(), epoch)); }
  // Through the whole beginning; returns the effects after it.
  Effects greet(const journal::LineEnd& durable) {
    const Effects proved = prove();
    EXPECT_NE(find<SendFrame>(proved), nullptr);
    return give(replica.begin(durable));
  }

  sim::SimRng rng{5};
  TestReplica replica{kVm};
  Sender sender;
};

TEST(Sender, starts_at_the_receivers_durable_position) {
  const Home home(5);
  Linked link;
  Sender& sender = link.sender;
  const Effects effects = link.greet(home.ends[2]);
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
  Linked link;
  Sender& sender = link.sender;
  link.greet(home.ends[2]);
  sender.feed_records({.records = home.range(3, 5), .durable = Sequence(5)}, kNow);
  EXPECT_EQ(sender.rpo_us(Micros(kNow.value + 1003)), 1000u);
  EXPECT_EQ(sender.lag_records(), 3u);
  link.give(link.replica.ack(home.ends[4]));
  EXPECT_EQ(sender.rpo_us(Micros(kNow.value + 1005)), 1000u);
  EXPECT_EQ(sender.lag_records(), 1u);
  EXPECT_FALSE(sender.caught_up());
  link.give(link.replica.ack(home.ends[5]));
  EXPECT_EQ(sender.rpo_us(Micros(kNow.value + 9999)), 0u);
  EXPECT_EQ(sender.unacknowledged_bytes(), 0u);
  EXPECT_TRUE(sender.caught_up());
}

TEST(Sender, the_rpo_goes_on_while_the_link_is_down) {
  const Home home(2);
  Linked link;
  Sender& sender = link.sender;
  link.greet(home.ends[0]);
  sender.feed_records({.records = home.range(1, 2), .durable = Sequence(2)}, kNow);
  sender.disconnected(kNow);
  EXPECT_EQ(sender.state(), Sender::State::kIdle);
  EXPECT_EQ(sender.rpo_us(Micros(kNow.value + 501)), 500u);
  EXPECT_GT(sender.reconnect_at(), kNow);
}

TEST(Sender, counts_what_home_acknowledged_but_has_not_synced) {
  const Home home(2);
  Linked link;
  Sender& sender = link.sender;
  link.greet(home.ends[2]);
  sender.feed_records(
      {.records = {}, .durable = Sequence(2), .oldest_unshipped = Micros(kNow.value + 10)}, kNow);
  EXPECT_EQ(sender.rpo_us(Micros(kNow.value + 30)), 20u);
  EXPECT_FALSE(sender.caught_up());
}

TEST(Sender, stops_asking_when_the_window_is_full_and_goes_on_after_an_acknowledgement) {
  const Home home(4);
  SenderOptions small = options();
  small.window_bytes_max = journal::kRecordSizeMax + 600;
  Linked link(small);
  Sender& sender = link.sender;
  link.greet(home.ends[0]);
  sender.feed_records({.records = home.range(1, 3), .durable = Sequence(4)}, kNow);
  EXPECT_EQ(find<WantRecords>(sender.take_effects()), nullptr);
  EXPECT_NE(find<WantRecords>(link.give(link.replica.ack(home.ends[3]))), nullptr);
}

TEST(Sender, halts_and_names_the_divergence_when_home_does_not_know_the_position) {
  Linked link;
  Sender& sender = link.sender;
  const Home home(3);
  link.greet(home.ends[2]);
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
  Linked link;
  Sender& sender = link.sender;
  const Home home(3);
  link.greet({});
  sender.feed_failed({.code = ErrorCode::kNotFound, .cause = "merged"}, kNow);
  EXPECT_EQ(sender.state(), Sender::State::kSeeding);
  EXPECT_TRUE(sender.seeding().has_value());
  EXPECT_NE(find<WantSeed>(sender.take_effects()), nullptr);
  // The link breaks with that question out; the answer is of no use any more.
  sender.disconnected(kNow);
  EXPECT_EQ(sender.state(), Sender::State::kIdle);
  sender.feed_seed({}, kNow);
  EXPECT_EQ(find<WantRecords>(link.greet(home.ends[1]))->after, home.ends[1].position);
}

TEST(Sender, does_not_ship_a_seed_that_nobody_signed) {
  Linked link;
  Sender& sender = link.sender;
  link.greet({});
  sender.feed_failed({.code = ErrorCode::kNotFound, .cause = "merged"}, kNow);
  sender.take_effects();
  sender.feed_seed(Bytes(300), kNow);
  EXPECT_EQ(sender.state(), Sender::State::kHalted);
}

TEST(Sender, halts_when_the_first_record_does_not_continue_the_receivers_chain) {
  Linked link;
  Sender& sender = link.sender;
  const Home home(3);
  journal::LineEnd other = home.ends[2];
  other.chain = id_of<Digest>(0x77);
  link.greet(other);
  sender.feed_records({.records = home.range(3, 3), .durable = Sequence(3)}, kNow);
  EXPECT_EQ(sender.state(), Sender::State::kHalted);
}

TEST(Sender, hands_a_higher_epoch_that_the_peers_vault_signed_to_recovery_and_halts) {
  Linked link;
  Sender& sender = link.sender;
  Effects effects = link.prove(Epoch(4));
  ASSERT_NE(find<PeerEpoch>(effects), nullptr);
  EXPECT_EQ(find<PeerEpoch>(effects)->epoch, Epoch(4));
  EXPECT_EQ(sender.state(), Sender::State::kHalted);
  sender.connected(kNow);
  effects = sender.take_effects();
  EXPECT_EQ(find<SendFrame>(effects), nullptr);
  EXPECT_NE(find<Disconnect>(effects), nullptr);
}

TEST(Sender, halts_at_a_proven_refusal) {
  Linked link;
  link.greet({});
  const Effects effects = link.give(link.replica.seal(ErrorFrame{
      .refusal = Refusal::kBadRecords, .epoch = Epoch(9), .cause = "bad", .effect = "\n"}));
  EXPECT_EQ(find<PeerEpoch>(effects)->epoch, Epoch(9));
  EXPECT_EQ(link.sender.halted_as(), Refusal::kBadRecords);
}

// Whoever carries the frames can write one: it must not stop a VM, nor replication for good.
TEST(Sender, takes_an_error_that_nobody_proved_for_a_reason_to_try_again) {
  const ErrorFrame stale{.refusal = Refusal::kStaleEpoch, .epoch = Epoch(9), .cause = "stale"};
  for (const bool begun : {false, true}) {
    Linked link;
    if (begun) {
      link.greet({});
    } else {
      link.hello();
    }
    ErrorFrame said = stale;
    if (begun) said.mac.bytes[0] = std::byte{1};
    const Effects effects = link.give(encode(kVm, said));
    EXPECT_EQ(find<PeerEpoch>(effects), nullptr);
    EXPECT_EQ(link.sender.state(), Sender::State::kIdle);
    EXPECT_GT(link.sender.reconnect_at(), kNow);
    EXPECT_TRUE(link.sender.last_error()->cause.contains("stale"));
  }
}

TEST(Sender, gives_up_a_silent_replica_and_waits_longer_each_time) {
  Linked link;
  Sender& sender = link.sender;
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
  Linked link;
  Sender& sender = link.sender;
  link.greet(home.ends[0]);
  sender.disconnected(kNow);
  sender.take_effects();
  EXPECT_EQ(find<WantRecords>(link.greet(home.ends[1])), nullptr) << "one question at a time";
  sender.feed_records({.records = home.range(1, 3), .durable = Sequence(3)}, kNow);
  const Effects effects = sender.take_effects();
  EXPECT_EQ(find<SendFrame>(effects), nullptr);
  ASSERT_NE(find<WantRecords>(effects), nullptr);
  EXPECT_EQ(find<WantRecords>(effects)->after, home.ends[1].position);
}

TEST(Sender, asks_again_after_a_link_that_broke_with_a_question_out) {
  const Home home(5);
  Linked link;
  Sender& sender = link.sender;
  ASSERT_NE(find<WantRecords>(link.greet(home.ends[2])), nullptr);
  sender.disconnected(kNow);
  EXPECT_TRUE(sender.awaits_feed());  // also where the question itself was dropped, unasked
  sender.feed_failed({.code = ErrorCode::kUnavailable, .cause = "the connection ended"}, kNow);
  EXPECT_FALSE(sender.awaits_feed());
  EXPECT_EQ(sender.state(), Sender::State::kIdle);
  const Effects again = link.greet(home.ends[3]);
  ASSERT_NE(find<WantRecords>(again), nullptr);
  EXPECT_EQ(find<WantRecords>(again)->after, home.ends[3].position);
}

TEST(Sender, refuses_an_acknowledgement_of_what_was_not_sent) {
  const Home home(3);
  Linked link;
  Sender& sender = link.sender;
  link.greet(home.ends[0]);
  const Effects effects = link.give(link.replica.ack(home.ends[2]));
  EXPECT_EQ(sender.state(), Sender::State::kIdle);
  EXPECT_NE(find<Disconnect>(effects), nullptr);
}

TEST(Sender, never_ships_what_home_could_lose) {
  const Home home(3);
  Linked link;
  Sender& sender = link.sender;
  link.greet(home.ends[0]);
  sender.feed_records({.records = home.range(1, 3), .durable = Sequence(2)}, kNow);
  EXPECT_EQ(sender.halted_as(), Refusal::kBadRecords);
  for (const Effect& effect : sender.take_effects()) {
    const auto* sent = std::get_if<SendFrame>(&effect);
    if (sent != nullptr) EXPECT_NE(frame_of(sent->frame).type, FrameType::kRecords);
  }
}

TEST(Sender, outlives_a_feed_that_gives_more_than_was_asked_for) {
  const Home home(1);
  Linked link;
  Sender& sender = link.sender;
  const Effects effects = link.greet(home.ends[0]);
  Bytes flood(find<WantRecords>(effects)->bytes_max + 64);
  sender.feed_records({.records = flood, .durable = Sequence(1)}, kNow);
  EXPECT_EQ(sender.halted_as(), Refusal::kBadRecords);
}

// ---- What a carrier may try ---------------------------------------------------------------------

TEST(Sender, believes_a_position_only_of_the_replica_and_of_this_session) {
  const Home home(5);
  // Each gives the frame that the carrier brings instead of an acknowledgement of records 3 to 5.
  const auto believed_after = [&](auto forge) {
    Linked link;
    link.greet(home.ends[2]);
    link.sender.feed_records({.records = home.range(3, 5), .durable = Sequence(5)}, kNow);
    const Effects sent = link.settle();
    const Bytes batch = find<SendFrame>(sent)->frame;
    link.give(forge(link, batch));
    EXPECT_EQ(link.sender.state(), Sender::State::kIdle) << "the session ends";
    return link.sender.acknowledged()->position.sequence;
  };
  const auto nothing_new = Sequence(2);
  EXPECT_EQ(believed_after([&](Linked&, const Bytes&) {
              return encode(kVm, Ack{.durable = home.ends[5], .mac = {}});
            }),
            nothing_new);
  // Home's own MAC of the batch, come back.
  EXPECT_EQ(believed_after([&](Linked&, const Bytes& batch) {
              const Mac own = decode_records(frame_of(batch).body)->mac;
              return encode(kVm, Ack{.durable = home.ends[5], .mac = own});
            }),
            nothing_new);
  // What was said of another position.
  EXPECT_EQ(believed_after([&](Linked& link, const Bytes&) {
              Ack ack = *decode_ack(frame_of(link.replica.ack(home.ends[3])).body);
              ack.durable = home.ends[5];
              return encode(kVm, ack);
            }),
            nothing_new);
  // One left out before it.
  EXPECT_EQ(believed_after([&](Linked& link, const Bytes&) {
              link.replica.ack(home.ends[3]);
              return link.replica.ack(home.ends[5]);
            }),
            nothing_new);
  // Of an earlier session, of the same VM and epoch, at the same place in it.
  EXPECT_EQ(believed_after([&](Linked&, const Bytes&) {
              Linked earlier;
              earlier.replica.rng = sim::SimRng(77);
              earlier.rng = sim::SimRng(78);
              earlier.greet(home.ends[2]);
              return earlier.replica.ack(home.ends[5]);
            }),
            nothing_new);
}

TEST(Sender, takes_an_acknowledgement_once) {
  const Home home(5);
  Linked link;
  link.greet(home.ends[2]);
  link.sender.feed_records({.records = home.range(3, 5), .durable = Sequence(5)}, kNow);
  const Bytes ack = link.replica.ack(home.ends[4]);
  link.give(ack);
  EXPECT_EQ(link.sender.acknowledged()->position.sequence, Sequence(4));
  link.give(ack);
  EXPECT_EQ(link.sender.state(), Sender::State::kIdle);
}

TEST(Sender, begins_with_nobody_who_did_not_sign_for_this_vm_these_sites_and_this_hello) {
  const auto state_after = [](auto forge) {
    Linked link;
    const Bytes hello = link.hello();
    Answer answer = *decode_answer(frame_of(link.replica.answer(hello, Epoch(3))).body);
    forge(link, answer);
    const Effects effects = link.give(encode(kVm, answer));
    EXPECT_EQ(find<PeerEpoch>(effects), nullptr);
    EXPECT_TRUE(link.sender.last_error() != nullptr);
    return link.sender.state();
  };
  EXPECT_EQ(state_after([](Linked&, Answer& a) { a.signature[0] ^= std::byte{1}; }),
            Sender::State::kIdle);
  EXPECT_EQ(state_after([](Linked&, Answer& a) { a.ephemeral[0] ^= std::byte{1}; }),
            Sender::State::kIdle);
  EXPECT_EQ(state_after([](Linked&, Answer& a) { a.nonce[0] ^= std::byte{1}; }),
            Sender::State::kIdle);
  // The carrier says that another epoch is known.
  EXPECT_EQ(state_after([](Linked&, Answer& a) { a.epoch = Epoch(4); }), Sender::State::kIdle);
  // A key that makes the secret known to all.
  EXPECT_EQ(state_after([](Linked&, Answer& a) { a.ephemeral = {}; }), Sender::State::kIdle);
  // Another site of the pairing signs.
  EXPECT_EQ(state_after([](Linked& link, Answer& a) {
              a.signature =
                  TestVaults::sign(test_site(0x66), link.replica.session->own_statement());
            }),
            Sender::State::kIdle);
  // Home's own signature, come back.
  EXPECT_EQ(state_after([](Linked& link, Answer& a) {
              a.signature = TestVaults::sign(kHomeSite, link.replica.session->peer_statement());
            }),
            Sender::State::kIdle);
}

TEST(Sender, begins_with_no_position_but_the_replicas) {
  const Home home(5);
  Linked link;
  link.prove();
  link.give(encode(kVm, Begin{.durable = home.ends[5], .window_bytes = 4u << 20, .mac = {}}));
  EXPECT_EQ(link.sender.state(), Sender::State::kIdle);
  EXPECT_FALSE(link.sender.acknowledged().has_value());
}

TEST(Sender, follows_a_replica_that_holds_less_than_it_had_acknowledged_and_says_so) {
  const Home home(5);
  Linked link;
  link.greet(home.ends[4]);
  link.sender.feed_records({.records = {}, .durable = Sequence(5)}, kNow);
  EXPECT_EQ(link.sender.acknowledged()->position.sequence, Sequence(4));
  link.sender.disconnected(kNow);
  const Effects effects = link.greet(home.ends[1]);
  ASSERT_NE(find<ReplicaWentBack>(effects), nullptr);
  EXPECT_EQ(find<ReplicaWentBack>(effects)->had, home.ends[4]);
  EXPECT_EQ(find<ReplicaWentBack>(effects)->has, home.ends[1]);
  EXPECT_FALSE(link.sender.last_error()->mend.empty());
  EXPECT_FALSE(link.sender.acknowledged().has_value());
  // The answer to what the earlier connection asked is for nobody; then the feed is asked anew.
  EXPECT_EQ(find<WantRecords>(effects), nullptr);
  link.sender.feed_records({.records = home.range(5, 5), .durable = Sequence(5)}, kNow);
  EXPECT_FALSE(link.sender.acknowledged().has_value());
  const Effects asked = link.settle();
  EXPECT_EQ(find<SendFrame>(asked), nullptr);
  ASSERT_NE(find<WantRecords>(asked), nullptr);
  EXPECT_EQ(find<WantRecords>(asked)->after, home.ends[1].position);
  EXPECT_FALSE(link.sender.caught_up());
  link.sender.feed_records({.records = home.range(2, 5), .durable = Sequence(5)}, kNow);
  EXPECT_EQ(link.sender.acknowledged()->position.sequence, Sequence(1));
}

TEST(Sender, counts_no_position_before_home_found_it_on_its_line) {
  const Home home(5);
  Linked link;
  link.greet(home.ends[4]);
  EXPECT_FALSE(link.sender.acknowledged().has_value());
  link.sender.feed_failed({.code = ErrorCode::kConflict, .cause = "not on this line"}, kNow);
  EXPECT_EQ(link.sender.halted_as(), Refusal::kDiverged);
  EXPECT_FALSE(link.sender.acknowledged().has_value());
}

TEST(Sender, ignores_a_vaults_answer_that_comes_too_late) {
  Linked link;
  sim::SimRng rng{9};
  const Bytes hello = link.hello();
  link.sender.received(frame_of(link.replica.answer(hello, Epoch(3))), kNow);
  const Effects asked = link.sender.take_effects();
  const auto* check = find<CheckStatement>(asked);
  ASSERT_NE(check, nullptr);
  link.sender.disconnected(kNow);
  link.hello();
  link.sender.statement_checked(check->session, {}, kNow);
  EXPECT_TRUE(link.settle().empty());
  EXPECT_EQ(link.sender.state(), Sender::State::kGreeting);
}

}  // namespace
}  // namespace hf::replication
