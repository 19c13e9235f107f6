#include "replication/receiver.h"

#include <gtest/gtest.h>

#include "journal/test_world.h"
#include "replication/sender.h"

namespace hf::replication {
namespace {

using journal::TestSite;

// Home's journal at one site, its replica and the receiver at another.
struct TwoSites {
  explicit TwoSites(Epoch known = Epoch(1)) {
    home_journal = *home.create();
    replica_journal =
        *journal::ReplicaJournal::create(other.storage, other.clock, other.replica_options());
    receiver.emplace(
        ReceiverOptions{.vm = home.vm, .epoch = known, .public_key = home.keys().public_key()},
        *replica_journal);
  }

  Hello hello(Epoch epoch = Epoch(1)) const {
    return {.epoch = epoch, .site = home.site, .public_key = home.keys().public_key()};
  }
  void give(const Bytes& frame) {
    receiver->received(*decode_frame(frame), other.clock.monotonic());
  }
  void greet(Epoch epoch = Epoch(1)) {
    receiver->connected(other.clock.monotonic());
    give(encode(home.vm, hello(epoch)));
  }
  void write(int records) {
    for (int i = 0; i < records; i++) {
      ASSERT_TRUE(
          home.write(*home_journal, static_cast<uint64_t>(i) * 512, Bytes(512, std::byte{7})).ok());
    }
    ASSERT_TRUE(home.flush(*home_journal).ok());
  }
  Bytes records() { return home.sealed(*home_journal, replica_journal->end().position).records; }
  void ship(const Bytes& records) {
    give(encode(home.vm, Records{.home_durable = home_journal->durable_end().position.sequence,
                                 .records = records}));
  }
  void settle() {
    other.settle(*replica_journal);
    receiver->tick(other.clock.monotonic());
    for (Effect& effect : receiver->take_effects()) effects.push_back(std::move(effect));
  }
  // The last frame of that type among what was sent.
  std::optional<Bytes> sent(FrameType type) const {
    for (size_t i = effects.size(); i > 0; i--) {
      const auto* send = std::get_if<SendFrame>(&effects[i - 1]);
      if (send != nullptr && decode_frame(send->frame)->type == type) return send->frame;
    }
    return std::nullopt;
  }
  std::optional<ErrorFrame> error() const {
    const auto frame = sent(FrameType::kError);
    if (!frame) return std::nullopt;
    return *decode_error(decode_frame(*frame)->body);
  }

  TestSite home{1};
  TestSite other{2};
  std::unique_ptr<journal::Journal> home_journal;
  std::unique_ptr<journal::ReplicaJournal> replica_journal;
  std::optional<Receiver> receiver;
  Effects effects;
};

TEST(Receiver, answers_with_its_durable_end_and_acknowledges_what_is_durable) {
  TwoSites sites;
  sites.greet();
  sites.settle();
  const auto reply = sites.sent(FrameType::kHelloReply);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(decode_hello_reply(decode_frame(*reply)->body)->durable, journal::LineEnd{});

  sites.write(5);
  sites.ship(sites.records());
  EXPECT_FALSE(sites.sent(FrameType::kAck).has_value()) << "not before it is durable";
  sites.settle();
  const auto ack = sites.sent(FrameType::kAck);
  ASSERT_TRUE(ack.has_value());
  EXPECT_EQ(decode_ack(decode_frame(*ack)->body)->durable, sites.home_journal->durable_end());
  EXPECT_EQ(sites.replica_journal->durable_end(), sites.home_journal->durable_end());
}

TEST(Receiver, goes_on_where_it_was_after_the_link_broke) {
  TwoSites sites;
  sites.greet();
  sites.write(3);
  sites.ship(sites.records());
  sites.receiver->disconnected();  // before the acknowledgement
  sites.greet();
  sites.settle();
  const auto reply = sites.sent(FrameType::kHelloReply);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(decode_hello_reply(decode_frame(*reply)->body)->durable,
            sites.home_journal->durable_end());
}

TEST(Receiver, refuses_a_stale_source_and_tells_it_the_epoch) {
  TwoSites sites(Epoch(4));
  sites.greet(Epoch(3));
  sites.settle();
  ASSERT_TRUE(sites.error().has_value());
  EXPECT_EQ(sites.error()->refusal, Refusal::kStaleEpoch);
  EXPECT_EQ(sites.error()->epoch, Epoch(4));
  EXPECT_FALSE(sites.error()->effect.empty());
  EXPECT_FALSE(sites.error()->mend.empty());
  EXPECT_EQ(sites.receiver->state(), Receiver::State::kIdle);
}

TEST(Receiver, hands_a_higher_epoch_to_recovery) {
  TwoSites sites;
  sites.greet(Epoch(6));
  sites.settle();
  const auto* peer = std::get_if<PeerEpoch>(&sites.effects.front());
  ASSERT_NE(peer, nullptr);
  EXPECT_EQ(peer->epoch, Epoch(6));
  EXPECT_TRUE(sites.sent(FrameType::kHelloReply).has_value());
}

TEST(Receiver, refuses_another_key_and_another_vm) {
  TwoSites key;
  key.receiver->connected(Micros(0));
  Hello hello = key.hello();
  hello.public_key[0] ^= std::byte{1};
  key.give(encode(key.home.vm, hello));
  key.settle();
  EXPECT_EQ(key.error()->refusal, Refusal::kWrongKey);

  TwoSites vm;
  vm.receiver->connected(Micros(0));
  VmId stranger;
  stranger.bytes.fill(std::byte{9});
  vm.give(encode(stranger, vm.hello()));
  vm.settle();
  EXPECT_EQ(vm.error()->refusal, Refusal::kUnknownVm);
}

TEST(Receiver, takes_nothing_of_a_record_that_does_not_check) {
  TwoSites sites;
  sites.greet();
  sites.write(3);
  Bytes records = sites.records();
  records.back() ^= std::byte{1};  // padding or payload of the last one
  sites.ship(records);
  sites.settle();
  ASSERT_TRUE(sites.error().has_value());
  EXPECT_EQ(sites.error()->refusal, Refusal::kBadRecords);
  EXPECT_LT(sites.replica_journal->end().position.sequence,
            sites.home_journal->durable_end().position.sequence);
  // What it has is home's: the rest may still come.
  sites.receiver->take_effects();
  sites.effects.clear();
  sites.greet();
  sites.settle();
  sites.ship(sites.records());
  sites.settle();
  EXPECT_EQ(sites.replica_journal->durable_end(), sites.home_journal->durable_end());
}

TEST(Receiver, never_overwrites_its_line_with_another) {
  TwoSites sites;
  sites.greet();
  sites.write(3);
  sites.ship(sites.records());
  sites.settle();
  const journal::LineEnd before = sites.replica_journal->durable_end();

  TestSite stranger{9};  // the same VM and key, but another line
  auto other_journal = *stranger.create();
  ASSERT_TRUE(stranger.write(*other_journal, 0, Bytes(512, std::byte{1})).ok());
  ASSERT_TRUE(stranger.flush(*other_journal).ok());
  sites.ship(stranger.sealed(*other_journal, Position{}).records);
  sites.settle();
  ASSERT_TRUE(sites.error().has_value());
  EXPECT_TRUE(is_final(sites.error()->refusal));
  EXPECT_EQ(sites.replica_journal->durable_end(), before);
}

// Sender and receiver over a perfect link, home's journal behind the sender.
struct Seeding : TwoSites {
  Seeding() {
    journal::Options options = home.options();
    options.merge_keep_segments = 1;
    options.merge_batch_segments = 1;
    home_journal.reset();
    home.storage.kill_process();
    home.storage.reopen();
    home_journal =
        *journal::Journal::open(home.storage, home.clock, home.rng, home.keys(), options);
    for (uint64_t i = 0; i < 60; ++i) {
      EXPECT_TRUE(home.write(*home_journal, i * 9000, TestSite::pattern(9000, i)).ok());
    }
    EXPECT_TRUE(home.flush(*home_journal).ok());
    home.settle(*home_journal);
    EXPECT_GT(home_journal->status().bases, 0u);
    sender.emplace(SenderOptions{.vm = home.vm,
                                 .site = home.site,
                                 .epoch = Epoch(1),
                                 .public_key = home.keys().public_key()});
  }
  void answer(const WantRecords& want) {
    const auto batch = home.sealed(*home_journal, want.after, want.bytes_max);
    if (batch.error) return sender->feed_failed(*batch.error, now());
    if (batch.records.empty()) return;  // caught up: the question stays out
    sender->feed_records({.records = batch.records, .durable = batch.durable}, now());
  }
  void answer(const WantSeedBytes& want) {
    journal::SealedWaiter part;
    home_journal->read_seed(want.base, want.offset, want.length, part);
    EXPECT_TRUE(home.run(*home_journal, [&] { return part.done; }));
    if (alter && part.records.size() > 5000) part.records[5000] ^= std::byte{1};
    sender->feed_seed_bytes(part.records, now());
  }
  Micros now() { return home.clock.monotonic(); }
  // Until neither has anything to do.
  void pump() {
    for (bool busy = true; busy;) {
      busy = false;
      for (Effect& effect : sender->take_effects()) {
        busy = true;
        if (auto* send = std::get_if<SendFrame>(&effect)) give(send->frame);
        if (auto* want = std::get_if<WantRecords>(&effect)) answer(*want);
        if (auto* want = std::get_if<WantSeedBytes>(&effect)) answer(*want);
        if (std::holds_alternative<WantSeed>(effect)) {
          sender->feed_seed(*home_journal->describe_seed(), now());
        }
      }
      other.settle(*replica_journal);
      receiver->tick(other.clock.monotonic());
      for (Effect& effect : receiver->take_effects()) {
        busy = true;
        if (auto* send = std::get_if<SendFrame>(&effect)) {
          sender->received(*decode_frame(send->frame), now());
        }
      }
    }
  }
  void connect() {
    receiver->connected(other.clock.monotonic());
    sender->connected(now());
    pump();
  }
  void reopen_replica() {
    receiver.reset();
    replica_journal.reset();
    other.storage.kill_process();
    other.storage.reopen();
    replica_journal =
        *journal::ReplicaJournal::open(other.storage, other.clock, other.replica_options());
    receiver.emplace(
        ReceiverOptions{.vm = home.vm, .epoch = Epoch(1), .public_key = home.keys().public_key()},
        *replica_journal);
  }
  std::optional<Sender> sender;
  bool alter = false;
};

TEST(Receiver, is_seeded_with_bases_and_takes_the_tail_from_where_they_end) {
  Seeding sites;
  sites.connect();
  EXPECT_TRUE(sites.replica_journal->replaced());
  EXPECT_EQ(sites.receiver->state(), Receiver::State::kIdle);
  EXPECT_EQ(sites.sender->state(), Sender::State::kIdle) << "to connect anew";
  sites.reopen_replica();
  EXPECT_GT(sites.replica_journal->end().position.sequence.value, 0u);
  sites.connect();
  EXPECT_EQ(sites.sender->state(), Sender::State::kStreaming);
  EXPECT_EQ(sites.replica_journal->durable_end(), sites.home_journal->durable_end());
}

TEST(Receiver, refuses_a_seed_with_an_altered_byte_and_keeps_what_it_had) {
  Seeding sites;
  sites.alter = true;
  sites.connect();
  EXPECT_EQ(sites.sender->halted_as(), Refusal::kBadRecords);
  EXPECT_FALSE(sites.replica_journal->replaced());
  for (const std::string& name : *sites.other.storage.list()) {
    EXPECT_FALSE(name.starts_with("seed-") || name.starts_with("base-")) << name;
  }
  EXPECT_EQ(sites.replica_journal->end(), journal::LineEnd{});
}

TEST(Receiver, refuses_seed_bytes_without_a_seed) {
  TwoSites sites;
  sites.greet();
  const Bytes some(10);
  sites.give(encode(sites.home.vm, SeedBytes{.offset = 0, .bytes = some}));
  sites.settle();
  EXPECT_EQ(sites.error()->refusal, Refusal::kProtocol);
}

TEST(Receiver, refuses_frames_out_of_turn) {
  TwoSites sites;
  sites.receiver->connected(Micros(0));
  sites.write(1);
  sites.ship(sites.records());  // no hello yet
  sites.settle();
  EXPECT_EQ(sites.error()->refusal, Refusal::kProtocol);
  EXPECT_EQ(sites.replica_journal->end(), journal::LineEnd{});
}

TEST(Receiver, gives_up_a_source_that_does_not_say_hello) {
  TwoSites sites;
  sites.receiver->connected(sites.other.clock.monotonic());
  sites.receiver->tick(sites.receiver->deadline());
  EXPECT_EQ(sites.receiver->state(), Receiver::State::kIdle);
  EXPECT_EQ(sites.receiver->last_error()->code, ErrorCode::kTimeout);
}

}  // namespace
}  // namespace hf::replication
