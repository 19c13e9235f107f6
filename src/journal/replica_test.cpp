#include "journal/replica.h"
#include "journal/sealed.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "journal/seal/sealer.h"
#include "journal/test_world.h"
#include "journal/units/units.h"

namespace hf::journal {
namespace {

TEST(Replica, holds_the_same_bytes_and_opens_as_the_journal_at_failover) {
  TestSite a(1), b(2);
  auto journal = *a.create();
  auto replica = *ReplicaJournal::create(b.storage, b.clock, b.replica_options());
  Bytes model(400'000);
  for (uint64_t i = 0; i < 120; ++i) {
    const Bytes data = TestSite::pattern(3000, i);
    ASSERT_TRUE(a.write(*journal, i * 3000, data).ok());
    std::ranges::copy(data, model.begin() + static_cast<ptrdiff_t>(i * 3000));
    if (i % 10 == 0) {
      ASSERT_TRUE(a.ship(*journal, b, *replica).ok());
    }
  }
  ASSERT_TRUE(a.flush(*journal).ok());
  ASSERT_TRUE(a.ship(*journal, b, *replica).ok());
  EXPECT_EQ(replica->durable_end(), journal->durable_end());
  EXPECT_EQ(replica->lineage(), journal->lineage());
  EXPECT_EQ(*journal->locate(replica->durable_end()), LineMatch::kOnLine);
  b.storage.power_loss();
  b.storage.reopen();
  replica.reset();

  b.site.bytes.fill(std::byte{0x55});
  EXPECT_EQ(b.open().error().code, ErrorCode::kConflict);  // another site has to raise the epoch
  b.epoch = Epoch(2);
  auto promoted = b.open();
  ASSERT_TRUE(promoted.ok()) << promoted.error().describe();
  EXPECT_EQ((*promoted)->lineage().size(), 2u);
  EXPECT_EQ((*promoted)->lineage()[1].body.parent, journal->durable_end().position);
  EXPECT_EQ(*b.read(**promoted, 0, model.size()), model);
  ASSERT_TRUE(b.write(**promoted, 0, TestSite::pattern(4096, 99)).ok());
  // The old line and the new one now differ, and each knows.
  ASSERT_TRUE(a.write(*journal, 0, TestSite::pattern(4096, 98)).ok());
  EXPECT_EQ(*(*promoted)->locate(journal->end()), LineMatch::kForked);
  EXPECT_EQ(*journal->locate((*promoted)->end()), LineMatch::kForked);
}

// A paired site whose daemon is no longer its own has no key: it can make records that chain, never
// a close.
// After a hand-over the giver's directory goes on as the replica of the taker's line.
TEST(Replica, opens_what_was_a_home_and_takes_what_the_new_home_writes) {
  for (const bool merged : {false, true}) {
    TestSite a(1), b(2);
    b.site.bytes.fill(std::byte{0x55});
    auto home = *a.create();
    auto replica = *ReplicaJournal::create(b.storage, b.clock, b.replica_options());
    Bytes model(400'000);
    const auto write = [&](TestSite& site, Journal& journal, uint64_t from, uint64_t to) {
      for (uint64_t i = from; i < to; ++i) {
        const Bytes data = TestSite::pattern(3000, i);
        ASSERT_TRUE(site.write(journal, i % 120 * 3000, data).ok());
        std::ranges::copy(data, model.begin() + static_cast<ptrdiff_t>(i % 120 * 3000));
        if (merged && i % 20 == 0) {
          ASSERT_TRUE(site.flush(journal).ok());
          site.settle(journal);
        }
      }
    };
    write(a, *home, 0, 300);
    ASSERT_TRUE(a.flush(*home).ok());
    ASSERT_TRUE(a.ship(*home, b, *replica).ok());
    ASSERT_TRUE(a.close(*home).ok());
    home.reset();
    {
      auto sealed = *SealedJournal::open(a.storage, a.clock, a.replica_options());
      ASSERT_TRUE(b.flush(*replica).ok());
      while (replica->durable_end() != sealed->durable_end()) {
        const SealedWaiter batch = a.sealed(*sealed, replica->end().position);
        ASSERT_FALSE(batch.error.has_value());
        ASSERT_TRUE(replica->append_sealed(batch.records).ok());
        ASSERT_TRUE(b.flush(*replica).ok());
      }
    }
    b.settle(*replica);  // a store of MANIFEST may be under way
    replica.reset();
    b.epoch = Epoch(2);
    auto taken = *b.open();
    write(b, *taken, 300, 500);
    ASSERT_TRUE(b.flush(*taken).ok());

    auto back = ReplicaJournal::open(a.storage, a.clock, a.replica_options());
    ASSERT_TRUE(back.ok()) << back.error().describe();
    EXPECT_EQ(*taken->locate((*back)->durable_end()), LineMatch::kOnLine);
    ASSERT_TRUE(b.ship(*taken, a, **back).ok());
    EXPECT_EQ((*back)->durable_end(), taken->durable_end());
    back->reset();
    taken.reset();
    a.epoch = Epoch(3);
    auto again = a.open();
    ASSERT_TRUE(again.ok()) << again.error().describe();
    EXPECT_EQ(*a.read(**again, 0, model.size()), model);
  }
}

TEST(Replica, refuses_a_segment_that_never_ends) {
  TestSite a(1), b(2);
  a.log_options.segment_bytes = 1u << 20;
  b.log_options.segment_bytes_max = 128u << 10;
  auto journal = *a.create();
  auto replica = *ReplicaJournal::create(b.storage, b.clock, b.replica_options());
  for (uint64_t i = 0; i < 60; ++i) {
    ASSERT_TRUE(a.write(*journal, i * 4096, TestSite::pattern(4096, i)).ok());
  }
  ASSERT_TRUE(a.flush(*journal).ok());
  const Status shipped = a.ship(*journal, b, *replica);
  ASSERT_FALSE(shipped.ok());
  EXPECT_EQ(shipped.error().code, ErrorCode::kCorrupt) << shipped.error().describe();
  EXPECT_GT(replica->end().position.sequence.value, 20u) << "what came before it stays";
  EXPECT_EQ(replica->failed(), nullptr);
}

TEST(Replica, goes_on_where_it_was_after_a_power_loss) {
  TestSite a(3), b(4);
  auto journal = *a.create();
  auto replica = *ReplicaJournal::create(b.storage, b.clock, b.replica_options());
  for (uint64_t i = 0; i < 200; ++i) {
    ASSERT_TRUE(a.write(*journal, (i % 20) * 4096, TestSite::pattern(4096, i)).ok());
    if (i % 9 != 0) continue;
    ASSERT_TRUE(a.flush(*journal).ok());
    ASSERT_TRUE(a.ship(*journal, b, *replica).ok());
    const LineEnd durable = replica->durable_end();
    // Some more that is taken but not flushed.
    ASSERT_TRUE(a.write(*journal, 0, TestSite::pattern(4096, 1000 + i)).ok());
    ASSERT_TRUE(a.flush(*journal).ok());
    const SealedWaiter batch = a.sealed(*journal, durable.position);
    ASSERT_TRUE(replica->append_sealed(batch.records).ok());
    b.storage.power_loss();
    b.storage.reopen();
    replica.reset();
    auto opened = ReplicaJournal::open(b.storage, b.clock, b.replica_options());
    ASSERT_TRUE(opened.ok()) << opened.error().describe();
    replica = std::move(*opened);
    EXPECT_GE(replica->durable_end().position.sequence, durable.position.sequence);
    EXPECT_EQ(*journal->locate(replica->end()), LineMatch::kOnLine);
  }
}

TEST(Replica, takes_no_record_that_was_altered_left_out_or_exchanged) {
  TestSite a(5), b(6);
  auto journal = *a.create();
  auto replica = *ReplicaJournal::create(b.storage, b.clock, b.replica_options());
  for (uint64_t i = 0; i < 3; ++i)
    ASSERT_TRUE(a.write(*journal, i * 512, TestSite::pattern(300, i)).ok());
  ASSERT_TRUE(a.flush(*journal).ok());
  const Bytes good = a.sealed(*journal, {}).records;
  ASSERT_GT(good.size(), 4 * kRecordHeaderSize);
  for (size_t at = 0; at < good.size(); at += 7) {
    Bytes bad = good;
    bad[at] ^= std::byte{0x40};
    const LineEnd before = replica->end();
    auto taken = replica->append_sealed(ByteSpan(bad).subspan(0));
    ASSERT_FALSE(taken.ok()) << at;
    // Those before it were taken; the test goes on with a new replica.
    if (replica->end() != before) {
      replica = nullptr;
      TestSite fresh(100 + at);
      b.storage.kill_process();
      b.storage.reopen();
      const auto names = *b.storage.list();
      for (const std::string& name : names) ASSERT_TRUE(b.storage.remove(name).ok());
      replica = *ReplicaJournal::create(b.storage, b.clock, b.replica_options());
    }
  }
  const size_t first = decode_header(good)->stored_size();
  EXPECT_FALSE(replica->append_sealed(ByteSpan(good).subspan(first)).ok());
  EXPECT_EQ(*replica->append_sealed(good), good.size());
  EXPECT_FALSE(replica->append_sealed(good).ok());  // twice
}

// Somebody without the key who recomputes every checksum, digest and chain gets as far as the
// close, which is signed.
TEST(Replica, finds_a_forged_record_at_the_close) {
  TestSite a(7), b(8);
  auto journal = *a.create();
  for (uint64_t i = 0; i < 4; ++i)
    ASSERT_TRUE(a.write(*journal, i * 512, TestSite::pattern(300, i)).ok());
  ASSERT_TRUE(a.close(*journal).ok());
  Bytes stream = a.sealed(*journal, {}).records;
  Digest chain;
  for (size_t at = 0, n = 0; at < stream.size(); ++n) {
    const auto bytes = MutableByteSpan(stream).subspan(at);
    RecordHeader header = *decode_header(bytes);
    if (n == 2) bytes[kRecordHeaderSize + 5] ^= std::byte{1};
    header.payload_digest =
        payload_digest(header, bytes.subspan(kRecordHeaderSize, header.payload_length));
    header.prev_chain = chain;
    encode_header(header, bytes.first<kRecordHeaderSize>());
    chain = next_chain(chain, header_digest(bytes.first<kRecordHeaderSize>()));
    at += header.stored_size();
  }
  auto replica = *ReplicaJournal::create(b.storage, b.clock, b.replica_options());
  const auto taken = replica->append_sealed(stream);
  ASSERT_FALSE(taken.ok());
  EXPECT_NE(taken.error().cause.find("close"), std::string::npos) << taken.error().cause;
  EXPECT_EQ(replica->end().position.sequence.value, 5u);  // all but the close
  ASSERT_TRUE(b.flush(*replica).ok());
  b.run(*replica, [&] { return replica->idle(); });  // a spare segment may be in the making
  replica.reset();
  b.site.bytes.fill(std::byte{0x55});
  b.epoch = Epoch(2);
  const auto refused = b.open();
  ASSERT_FALSE(refused.ok()) << "its tag is checked at promotion";
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
  // The operator's way out: what was before it is the VM's state.
  b.log_options.bad_tail_given_up = b.epoch;
  auto promoted = b.open();
  ASSERT_TRUE(promoted.ok()) << promoted.error().describe();
  EXPECT_EQ((*promoted)->lineage().back().body.parent.sequence.value, 2u);
  EXPECT_EQ(*b.read(**promoted, 0, 300), TestSite::pattern(300, 0));
  ASSERT_TRUE(b.write(**promoted, 0, TestSite::pattern(300, 7)).ok());
  ASSERT_TRUE(b.close(**promoted).ok());
  promoted->reset();
  EXPECT_TRUE(b.open().ok());

  TestSite c(9);
  c.log_options.faults.close_not_checked = true;
  auto careless = *ReplicaJournal::create(c.storage, c.clock, c.replica_options());
  EXPECT_TRUE(careless->append_sealed(stream).ok());
}

TEST(Replica, refuses_another_pinned_key) {
  TestSite b(10);
  ASSERT_TRUE(ReplicaJournal::create(b.storage, b.clock, b.replica_options()).ok());
  ReplicaOptions other = b.replica_options();
  other.public_key[0] ^= std::byte{1};
  EXPECT_EQ(ReplicaJournal::open(b.storage, b.clock, other).error().code, ErrorCode::kWrongKey);
  EXPECT_EQ(ReplicaJournal::create(b.storage, b.clock, other).error().code, ErrorCode::kExists);
}

TEST(Feed, gives_durable_records_only) {
  TestSite site(11);
  site.log_options.auto_sync_us = 10'000'000;
  auto journal = *site.create();
  site.settle(*journal);
  const LineEnd start = journal->durable_end();
  ASSERT_TRUE(site.write(*journal, 0, TestSite::pattern(512, 1)).ok());
  EXPECT_TRUE(site.sealed(*journal, start.position).records.empty());
  ASSERT_TRUE(site.flush(*journal).ok());
  const SealedWaiter batch = site.sealed(*journal, start.position);
  EXPECT_FALSE(batch.records.empty());
  EXPECT_EQ(batch.last, journal->durable_end().position);
}

TEST(Feed, finds_any_position_in_any_segment) {
  TestSite site(12);
  auto journal = *site.create();
  for (uint64_t i = 0; i < 150; ++i)
    ASSERT_TRUE(site.write(*journal, i * 512, TestSite::pattern(1 + i * 40, i)).ok());
  ASSERT_TRUE(site.flush(*journal).ok());
  std::vector<LineEnd> ends;
  LineEnd at;
  while (true) {
    const SealedWaiter batch = site.sealed(*journal, at.position);
    ASSERT_FALSE(batch.error.has_value()) << batch.error->describe();
    if (batch.records.empty()) break;
    for (size_t from = 0; from < batch.records.size();) {
      const RecordHeader header = *decode_header(ByteSpan(batch.records).subspan(from));
      EXPECT_EQ(header.sequence, at.position.sequence.next());
      at.position = {.incarnation = header.incarnation, .sequence = header.sequence};
      at.chain = next_chain(
          at.chain,
          header_digest(ByteSpan(batch.records).subspan(from).first<kRecordHeaderSize>()));
      ends.push_back(at);
      from += header.stored_size();
    }
  }
  EXPECT_EQ(at, journal->durable_end());
  for (size_t i = 0; i < ends.size(); i += 3) {
    EXPECT_EQ(*journal->locate(ends[i]), LineMatch::kOnLine);
    LineEnd wrong = ends[i];
    wrong.chain.bytes[0] ^= std::byte{1};
    EXPECT_EQ(*journal->locate(wrong), LineMatch::kForked);
    if (i + 1 == ends.size()) continue;
    const SealedWaiter batch = site.sealed(*journal, ends[i].position);
    ASSERT_FALSE(batch.records.empty());
    EXPECT_EQ(decode_header(batch.records)->prev_chain, ends[i].chain);
  }
  Position foreign = ends[3].position;
  foreign.incarnation.bytes[0] ^= std::byte{1};
  EXPECT_EQ(site.sealed(*journal, foreign).error->code, ErrorCode::kConflict);
  Position ahead = ends.back().position;
  ahead.sequence = Sequence(ahead.sequence.value + 5);
  EXPECT_EQ(*journal->locate({.position = ahead, .chain = {}}), LineMatch::kAhead);
}

}  // namespace
}  // namespace hf::journal
