#include "replication/receiver.h"

#include <gtest/gtest.h>

#include "journal/test_world.h"
#include "journal/units/units.h"
#include "replication/sender.h"
#include "replication/test_session.h"

namespace hf::replication {
namespace {

using journal::TestSite;

// Home's journal at one site, its replica and the receiver at another.
struct TwoSites {
  explicit TwoSites(Epoch known = Epoch(1)) : peer(home.vm, home.keys().public_key()) {
    home_journal = *home.create();
    replica_journal =
        *journal::ReplicaJournal::create(other.storage, other.clock, other.replica_options());
    receiver.emplace(receiver_options(known), *replica_journal, rng);
  }
  ReceiverOptions receiver_options(Epoch known) const {
    return {.vm = home.vm,
            .site = kReplicaSite,
            .peer_site = kHomeSite,
            .epoch = known,
            .public_key = home.keys().public_key()};
  }

  void give(const Bytes& frame) {
    receiver->received(*decode_frame(frame), other.clock.monotonic());
    answer_vault();
  }
  // The replica's vault answers at once; the rest of what was to be done is kept.
  void answer_vault() {
    for (bool asked = true; asked;) {
      asked = false;
      for (Effect& effect : receiver->take_effects()) {
        if (TestVaults::answer(*receiver, kReplicaSite, effect, other.clock.monotonic())) {
          asked = true;
        } else {
          effects.push_back(std::move(effect));
        }
      }
    }
  }
  // Up to the answer.
  void say_hello(Epoch epoch = Epoch(1)) {
    receiver->connected(other.clock.monotonic());
    give(peer.hello(epoch));
  }
  void greet(Epoch epoch = Epoch(1)) {
    say_hello(epoch);
    const auto answer = sent(FrameType::kAnswer);
    if (answer) give(peer.auth(*answer));
  }
  void write(int records) {
    for (int i = 0; i < records; i++) {
      ASSERT_TRUE(
          home.write(*home_journal, static_cast<uint64_t>(i) * 512, Bytes(512, std::byte{7})).ok());
    }
    ASSERT_TRUE(home.flush(*home_journal).ok());
  }
  Bytes records() { return home.sealed(*home_journal, replica_journal->end().position).records; }
  Bytes batch(const Bytes& records) {
    return peer.records(records, home_journal->durable_end().position.sequence);
  }
  void ship(const Bytes& records) { give(batch(records)); }
  void settle() {
    other.settle(*replica_journal);
    receiver->tick(other.clock.monotonic());
    answer_vault();
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
  sim::SimRng rng{3};
  TestHome peer;
  std::optional<Receiver> receiver;
  Effects effects;
};

TEST(Receiver, answers_with_its_durable_end_and_acknowledges_what_is_durable) {
  TwoSites sites;
  sites.greet();
  sites.settle();
  const auto reply = sites.sent(FrameType::kBegin);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(decode_begin(decode_frame(*reply)->body)->durable, journal::LineEnd{});

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
  const auto reply = sites.sent(FrameType::kBegin);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(decode_begin(decode_frame(*reply)->body)->durable, sites.home_journal->durable_end());
}

TEST(Receiver, tells_a_stale_source_the_epoch_under_its_vaults_signature_and_takes_nothing) {
  TwoSites sites(Epoch(4));
  sites.say_hello(Epoch(3));
  const auto frame = sites.sent(FrameType::kAnswer);
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(decode_answer(decode_frame(*frame)->body)->epoch, Epoch(4));
  sites.give(sites.peer.auth(*frame));  // a source that goes on all the same
  ASSERT_TRUE(sites.error().has_value());
  EXPECT_EQ(sites.error()->refusal, Refusal::kStaleEpoch);
  EXPECT_FALSE(sites.error()->effect.empty());
  EXPECT_FALSE(sites.error()->mend.empty());
  EXPECT_EQ(sites.receiver->state(), Receiver::State::kIdle);
}

TEST(Receiver, hands_a_higher_epoch_to_recovery_once_the_source_is_proven) {
  TwoSites sites;
  sites.say_hello(Epoch(6));
  const auto learned = [&] {
    return std::ranges::any_of(
        sites.effects, [](const Effect& e) { return std::holds_alternative<PeerEpoch>(e); });
  };
  EXPECT_FALSE(learned());
  EXPECT_EQ(sites.receiver->epoch(), Epoch(1));
  sites.give(sites.peer.auth(*sites.sent(FrameType::kAnswer)));
  sites.settle();
  EXPECT_TRUE(learned());
  EXPECT_EQ(sites.receiver->epoch(), Epoch(6));
  EXPECT_TRUE(sites.sent(FrameType::kBegin).has_value());
}

TEST(Receiver, refuses_another_key_another_vm_and_other_sites) {
  const auto refusal_of = [](auto change) {
    TwoSites sites;
    sites.receiver->connected(Micros(0));
    sites.peer.hello();
    VmId vm = sites.home.vm;
    Hello hello = sites.peer.said;
    change(hello, vm);
    sites.give(encode(vm, hello));
    EXPECT_FALSE(sites.sent(FrameType::kAnswer).has_value());
    return sites.error()->refusal;
  };
  EXPECT_EQ(refusal_of([](Hello& hello, VmId&) { hello.public_key[0] ^= std::byte{1}; }),
            Refusal::kWrongKey);
  EXPECT_EQ(refusal_of([](Hello&, VmId& vm) { vm.bytes.fill(std::byte{9}); }), Refusal::kUnknownVm);
  EXPECT_EQ(refusal_of([](Hello& hello, VmId&) { hello.home = test_site(9); }),
            Refusal::kUnknownVm);
  EXPECT_EQ(refusal_of([](Hello& hello, VmId&) { hello.replica = kHomeSite; }),
            Refusal::kUnknownVm);
  EXPECT_EQ(refusal_of([](Hello& hello, VmId&) { hello.ephemeral = {}; }), Refusal::kProtocol);
}

// ---- What a carrier may try ---------------------------------------------------------------------

TEST(Receiver, takes_nothing_from_a_source_that_its_sites_vault_did_not_sign_for) {
  TwoSites sites;
  sites.say_hello(Epoch(5));
  Auth auth = *decode_auth(decode_frame(sites.peer.auth(*sites.sent(FrameType::kAnswer)))->body);
  auth.signature[5] ^= std::byte{1};
  sites.give(encode(sites.home.vm, auth));
  EXPECT_EQ(sites.error()->refusal, Refusal::kUnproven);
  EXPECT_FALSE(sites.sent(FrameType::kBegin).has_value());
  EXPECT_EQ(sites.receiver->epoch(), Epoch(1));
}

// The whole of it is refused, not what comes after the change.
TEST(Receiver, appends_no_record_of_a_batch_that_was_altered_on_its_way) {
  const auto appended_after = [](auto alter) {
    TwoSites sites;
    sites.greet();
    sites.write(4);
    const Bytes good = sites.batch(sites.records());
    sites.give(alter(sites, good));
    sites.settle();
    EXPECT_EQ(sites.error()->refusal, Refusal::kProtocol) << "the session ends";
    EXPECT_FALSE(is_final(sites.error()->refusal));
    return sites.replica_journal->end().position.sequence.value;
  };
  const auto with = [](const Bytes& frame, auto change) {
    Records body = *decode_records(decode_frame(frame)->body);
    Bytes bytes(body.records.begin(), body.records.end());
    change(bytes, body);
    body.records = bytes;
    return encode(decode_frame(frame)->vm, body);
  };
  EXPECT_EQ(appended_after([&](TwoSites&, const Bytes& good) {
              return with(good, [](Bytes&, Records& body) { body.mac.bytes[0] ^= std::byte{1}; });
            }),
            0u);
  EXPECT_EQ(appended_after([&](TwoSites&, const Bytes& good) {
              return with(good, [](Bytes&, Records& body) { body.mac = {}; });
            }),
            0u);
  EXPECT_EQ(appended_after([&](TwoSites&, const Bytes& good) {
              return with(good, [](Bytes&, Records& body) { body.home_durable = Sequence(99); });
            }),
            0u);
  // The last record left out.
  EXPECT_EQ(appended_after([&](TwoSites&, const Bytes& good) {
              return with(good, [](Bytes& bytes, Records&) {
                const size_t first = journal::decode_header(bytes)->stored_size();
                bytes.resize(first);
              });
            }),
            0u);
  // A payload altered, and digest, checksum and chain put right from there on.
  EXPECT_EQ(appended_after([&](TwoSites&, const Bytes& good) {
              return with(good, [](Bytes& bytes, Records&) {
                std::optional<Digest> chain;
                for (MutableByteSpan left = bytes; !left.empty();) {
                  journal::RecordHeader header = *journal::decode_header(left);
                  const MutableByteSpan record = left.first(header.stored_size());
                  left = left.subspan(record.size());
                  if (!chain && header.kind != journal::RecordKind::kWrite) continue;
                  const auto payload =
                      record.subspan(journal::kRecordHeaderSize, header.payload_length);
                  if (!chain) payload[0] ^= std::byte{1};
                  header.payload_digest = journal::payload_digest(header, payload);
                  if (chain) header.prev_chain = *chain;
                  const auto raw = record.first<journal::kRecordHeaderSize>();
                  journal::encode_header(header, raw);
                  chain = journal::next_chain(header.prev_chain, journal::header_digest(raw));
                }
              });
            }),
            0u);
  // The batch of another session between the same two.
  EXPECT_EQ(appended_after([&](TwoSites& sites, const Bytes& good) {
              TwoSites other;
              other.rng = sim::SimRng(55);
              other.greet();
              const Records body = *decode_records(decode_frame(good)->body);
              static_cast<void>(sites);
              return other.peer.records(body.records, body.home_durable);
            }),
            0u);
}

TEST(Receiver, takes_a_batch_once_and_none_out_of_order) {
  TwoSites twice;
  twice.greet();
  twice.write(2);
  const Bytes batch = twice.batch(twice.records());
  twice.give(batch);
  twice.settle();
  const journal::LineEnd end = twice.replica_journal->end();
  EXPECT_EQ(end, twice.home_journal->durable_end());
  twice.give(batch);
  EXPECT_EQ(twice.error()->refusal, Refusal::kProtocol);
  EXPECT_EQ(twice.replica_journal->end(), end);

  TwoSites swapped;
  swapped.greet();
  swapped.write(1);
  const Bytes first = swapped.batch(swapped.records());
  swapped.write(1);
  swapped.give(swapped.batch(swapped.records()));
  EXPECT_EQ(swapped.error()->refusal, Refusal::kProtocol);
  EXPECT_EQ(swapped.replica_journal->end(), journal::LineEnd{});
  static_cast<void>(first);
}

// A payload that differs from what its authentic header says: nothing after the last good record.
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
  EXPECT_EQ(sites.error()->refusal, Refusal::kProtocol);
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
                                 .site = kHomeSite,
                                 .peer_site = kReplicaSite,
                                 .epoch = Epoch(1),
                                 .public_key = home.keys().public_key()},
                   rng);
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
        TestVaults::answer(*sender, kHomeSite, effect, now());
        if (auto* send = std::get_if<SendFrame>(&effect)) {
          receiver->received(*decode_frame(on_the_way(send->frame)), other.clock.monotonic());
        }
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
        TestVaults::answer(*receiver, kReplicaSite, effect, other.clock.monotonic());
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
    receiver.emplace(receiver_options(Epoch(1)), *replica_journal, rng);
  }
  Bytes on_the_way(Bytes frame) const {
    if (alter_on_the_way && decode_frame(frame)->type == *alter_on_the_way) {
      frame.back() ^= std::byte{1};
    }
    return frame;
  }
  std::optional<Sender> sender;
  bool alter = false;  // at home, before it is sent
  std::optional<FrameType> alter_on_the_way;
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

// Home's own disk is one thing, and final; who altered it on its way may be gone next time.
TEST(Receiver, tells_a_seed_that_was_altered_on_its_way_from_one_that_home_got_wrong) {
  for (const FrameType type : {FrameType::kSeed, FrameType::kSeedBytes}) {
    Seeding sites;
    sites.alter_on_the_way = type;
    sites.connect();
    EXPECT_EQ(sites.sender->state(), Sender::State::kIdle) << "it will try again";
    EXPECT_TRUE(sites.sender->last_error()->cause.contains("altered"));
    EXPECT_EQ(sites.replica_journal->end(), journal::LineEnd{});
    sites.alter_on_the_way.reset();
    sites.connect();
    EXPECT_TRUE(sites.replica_journal->replaced());
  }
}

TEST(Receiver, refuses_seed_bytes_without_a_seed) {
  TwoSites sites;
  sites.greet();
  const Bytes some(10);
  sites.give(sites.peer.seal(SeedBytes{.offset = 0, .bytes = some, .mac = {}}));
  sites.settle();
  EXPECT_EQ(sites.error()->refusal, Refusal::kProtocol);
}

TEST(Receiver, refuses_frames_out_of_turn) {
  TwoSites sites;
  sites.receiver->connected(Micros(0));
  sites.write(1);
  const Bytes records = sites.records();
  sites.give(encode(sites.home.vm, Records{.home_durable = Sequence(1), .records = records}));
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
