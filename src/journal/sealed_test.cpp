// A stopped VM's journal, opened without its key, gives a replica what the keyed one would.
#include "journal/sealed.h"

#include <gtest/gtest.h>

#include "journal/format/wire.h"
#include "journal/log/scanner.h"
#include "journal/ship/seed.h"
#include "journal/test_world.h"
#include "journal/units/units.h"

namespace hf::journal {
namespace {

struct RestingSite : TestSite {
  explicit RestingSite(uint64_t seed, size_t merge_keep = 0) : TestSite(seed) {
    Options with = options();
    with.merge_keep_segments = merge_keep;
    with.merge_batch_segments = 2;
    journal = *Journal::create(storage, clock, rng, keys(), with);
  }
  void work(int count) {
    for (int i = 0; i < count; ++i) {
      const uint64_t offset = static_cast<uint64_t>(i) % 40 * 8192;
      ASSERT_TRUE(write(*journal, offset, pattern(8192, next++)).ok());
    }
  }
  void killed() {
    storage.kill_process();
    storage.reopen();
    journal.reset();
  }
  void stopped() {
    ASSERT_TRUE(close(*journal).ok());
    settle(*journal);
    killed();
  }
  Result<std::unique_ptr<SealedJournal>> open_sealed() {
    return SealedJournal::open(storage, clock, replica_options());
  }
  uint64_t next = 0;
  std::unique_ptr<Journal> journal;
};

// Where the records of a segment file begin.
std::vector<uint64_t> places_of(ByteSpan file) {
  std::vector<uint64_t> places;
  for (uint64_t at = kSegmentHeaderSize; at < file.size();) {
    const auto record = parse_record(file.subspan(at));
    if (!record.ok()) break;
    places.push_back(at);
    at += record->header.stored_size();
  }
  return places;
}

// All records after the replica's end, from either kind of source.
template <typename Source>
Status ship(TestSite& home, Source& from, TestSite& other, ReplicaJournal& to) {
  while (true) {
    const SealedWaiter batch = home.sealed(from, to.end().position);
    if (batch.error) return *batch.error;
    if (batch.records.empty()) return other.flush(to);
    size_t taken = 0;
    while (taken < batch.records.size()) {
      taken += TRY(to.append_sealed(ByteSpan(batch.records).subspan(taken)));
      other.run(to, [&] { return to.accepting(); });
    }
  }
}

TEST(SealedJournal, gives_all_records_of_a_journal_that_was_closed) {
  RestingSite site(1);
  site.work(40);
  const Lineage lineage = site.journal->lineage();
  site.stopped();
  auto sealed = site.open_sealed();
  ASSERT_TRUE(sealed.ok()) << sealed.error().describe();
  EXPECT_EQ((*sealed)->vouched_end(), (*sealed)->durable_end()) << "a clean stop signs everything";
  EXPECT_EQ((*sealed)->lineage(), lineage);
  EXPECT_EQ((*sealed)->describe_seed().error().code, ErrorCode::kNotFound);

  TestSite other(1001);
  auto replica = *ReplicaJournal::create(other.storage, other.clock, other.replica_options());
  ASSERT_TRUE(ship(site, **sealed, other, *replica).ok());
  EXPECT_EQ(replica->durable_end(), (*sealed)->durable_end());
  EXPECT_EQ(*(*sealed)->locate(replica->end()), LineMatch::kOnLine);
  EXPECT_TRUE((*sealed)->idle());
  replica.reset();
  other.storage.kill_process();
  other.storage.reopen();
  other.epoch = Epoch(2);
  auto promoted = other.open();
  ASSERT_TRUE(promoted.ok()) << promoted.error().describe();
  for (uint64_t i = 0; i < 40; ++i) {
    EXPECT_EQ(*other.read(**promoted, i * 8192, 8192), TestSite::pattern(8192, i));
  }
}

TEST(SealedJournal, gives_the_open_tail_that_a_killed_keeper_left_and_says_what_is_signed) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    RestingSite site(seed);
    site.work(3 + static_cast<int>(seed));
    const LineEnd end = site.journal->end();
    site.killed();
    auto sealed = site.open_sealed();
    ASSERT_TRUE(sealed.ok()) << sealed.error().describe();
    EXPECT_EQ((*sealed)->durable_end(), end) << "acknowledged records outlive the process";
    EXPECT_LT((*sealed)->vouched_end().position.sequence, end.position.sequence);

    TestSite other(seed + 1000);
    auto replica = *ReplicaJournal::create(other.storage, other.clock, other.replica_options());
    ASSERT_TRUE(ship(site, **sealed, other, *replica).ok());
    EXPECT_EQ(replica->durable_end(), end);
    // It is durable now: what was given out survives the host.
    sealed->reset();
    site.storage.power_loss();
    site.storage.reopen();
    auto again = site.open();
    ASSERT_TRUE(again.ok()) << again.error().describe();
    EXPECT_EQ(*(*again)->locate(end), LineMatch::kOnLine) << "the keyed journal goes on there";
  }
}

TEST(SealedJournal, after_a_power_loss_is_where_the_keyed_opening_would_be) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    RestingSite site(seed);
    site.work(12);
    ASSERT_TRUE(site.flush(*site.journal).ok());
    const LineEnd safe = site.journal->durable_end();
    site.work(6);
    site.storage.power_loss();
    site.storage.reopen();
    site.journal.reset();
    auto sealed = site.open_sealed();
    ASSERT_TRUE(sealed.ok()) << "seed " << seed << ": " << sealed.error().describe();
    const LineEnd end = (*sealed)->durable_end();
    EXPECT_EQ(*(*sealed)->locate(safe), LineMatch::kOnLine);
    EXPECT_GE(end.position.sequence, safe.position.sequence);
    sealed->reset();
    site.storage.power_loss();
    site.storage.reopen();
    auto opened = site.open();
    ASSERT_TRUE(opened.ok()) << "seed " << seed << ": " << opened.error().describe();
    EXPECT_EQ(*(*opened)->locate(end), LineMatch::kOnLine) << "seed " << seed;
  }
}

TEST(SealedJournal, seeds_a_replica_that_lacks_what_was_merged) {
  RestingSite site(9, 2);
  site.work(200);
  site.settle(*site.journal);
  ASSERT_GT(site.journal->status().bases, 0u);
  site.killed();
  auto sealed = *site.open_sealed();
  EXPECT_EQ(site.sealed(*sealed, {}).error->code, ErrorCode::kNotFound);
  const Bytes raw = *sealed->describe_seed();
  const SeedDescription seed = *decode_seed(raw, site.vm, site.keys().public_key());
  TestSite other(1009);
  auto replica = *ReplicaJournal::create(other.storage, other.clock, other.replica_options());
  ASSERT_TRUE(replica->begin_seed(seed).ok());
  for (const SeedBase& base : seed.bases) {
    for (uint64_t at = 0; at < base.size();) {
      const size_t length = static_cast<size_t>(std::min<uint64_t>(base.size() - at, 60'000));
      SealedWaiter part;
      sealed->read_seed(base.number, at, length, part);
      ASSERT_TRUE(site.run(*sealed, [&] { return part.done; }));
      ASSERT_FALSE(part.error.has_value());
      ASSERT_TRUE(replica->append_seed(part.records).ok());
      at += length;
    }
  }
  other.settle(*replica);
  ASSERT_TRUE(replica->finish_seed().ok());
  other.storage.kill_process();
  other.storage.reopen();
  replica = *ReplicaJournal::open(other.storage, other.clock, other.replica_options());
  ASSERT_TRUE(ship(site, *sealed, other, *replica).ok());
  EXPECT_EQ(replica->durable_end(), sealed->durable_end());

  // A replica's own bases seed a further one, as home's do.
  const SeedDescription onward =
      *decode_seed(*replica->describe_seed(), site.vm, site.keys().public_key());
  EXPECT_EQ(onward.through().end, seed.through().end);
}

TEST(SealedJournal, refuses_damage_before_the_tail_and_ends_the_line_at_damage_in_it) {
  RestingSite site(11);
  site.work(20);
  const uint64_t closed = site.journal->status().segments;
  ASSERT_GT(closed, 1u);
  const LineEnd whole = site.journal->end();
  site.killed();
  const Manifest manifest = *decode_manifest(*site.storage.contents(kManifestName));
  uint64_t open_number = 0;
  for (const SegmentEntry& entry : manifest.segments) {
    const Bytes bytes = *site.storage.contents(segment_name(entry.number));
    if (bytes.size() > kSegmentHeaderSize && !all_zero(ByteSpan(bytes).subspan(4096, 192))) {
      open_number = entry.number;
    }
  }
  // The tail's last record, a bit of its payload.
  const std::string open_name = segment_name(open_number);
  const Bytes bytes = *site.storage.contents(open_name);
  const uint64_t last = places_of(bytes).back();
  const Bytes flipped{bytes[last + 300] ^ std::byte{1}};
  site.storage.tamper(open_name, last + 300, flipped);
  auto sealed = site.open_sealed();
  ASSERT_TRUE(sealed.ok()) << sealed.error().describe();
  EXPECT_EQ((*sealed)->durable_end().position.sequence.value, whole.position.sequence.value - 1);
  sealed->reset();
  site.killed();

  const std::string first = segment_name(manifest.segments.front().number);
  const Bytes old{(*site.storage.contents(first))[5000] ^ std::byte{1}};
  site.storage.tamper(first, 5000, old);
  const auto before = site.snapshot();
  auto refused = site.open_sealed();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(refused.error().describe().find(first), std::string::npos);
  EXPECT_EQ(site.snapshot(), before) << "nothing was written";
}

// Whoever writes to the directory can make records that chain. Without the key they pass; with it
// they don't. That is what vouched_end() is for.
TEST(SealedJournal, cannot_tell_a_tail_that_chains_from_one_that_the_key_sealed) {
  RestingSite site(12);
  site.work(2);
  const LineEnd end = site.journal->end();
  const Micros time = site.clock.wall_time();
  site.killed();
  const Manifest manifest = *decode_manifest(*site.storage.contents(kManifestName));
  const std::string name = segment_name(manifest.segments.front().number);
  const Bytes bytes = *site.storage.contents(name);
  const uint64_t last = places_of(bytes).back();
  const uint64_t at = last + parse_record(ByteSpan(bytes).subspan(last))->header.stored_size();
  const Bytes payload(sealed_size(0, 100), std::byte{0x5a});
  RecordHeader header;
  header.kind = RecordKind::kWrite;
  header.sequence = end.position.sequence.next();
  header.vm = site.vm;
  header.incarnation = end.position.incarnation;
  header.volume = VolumeId(1);
  header.key_version = KeyVersion(1);
  header.length = 100;
  header.payload_length = static_cast<uint32_t>(payload.size());
  header.time = time;
  header.payload_digest = payload_digest(header, payload);
  header.prev_chain = end.chain;
  Bytes forged(header.stored_size());
  encode_header(header, RecordHeaderBytes(forged.data(), kRecordHeaderSize));
  std::ranges::copy(payload, forged.begin() + kRecordHeaderSize);
  site.storage.tamper(name, at, forged);

  auto sealed = site.open_sealed();
  ASSERT_TRUE(sealed.ok()) << sealed.error().describe();
  EXPECT_EQ((*sealed)->durable_end().position.sequence, header.sequence);
  EXPECT_LT((*sealed)->vouched_end().position.sequence, header.sequence);
  sealed->reset();
  site.killed();
  auto keyed = site.open();
  ASSERT_FALSE(keyed.ok());
  EXPECT_EQ(keyed.error().code, ErrorCode::kCorrupt);
}

TEST(SealedJournal, is_of_one_vm_and_one_key) {
  RestingSite site(13);
  site.work(3);
  site.stopped();
  ReplicaOptions other_key = site.replica_options();
  other_key.public_key = site.keys_of(0x77).public_key();
  EXPECT_EQ(SealedJournal::open(site.storage, site.clock, other_key).error().code,
            ErrorCode::kWrongKey);
  ReplicaOptions other_vm = site.replica_options();
  other_vm.vm.bytes.fill(std::byte{0x99});
  EXPECT_EQ(SealedJournal::open(site.storage, site.clock, other_vm).error().code,
            ErrorCode::kConflict);
  TestSite empty(14);
  EXPECT_EQ(SealedJournal::open(empty.storage, empty.clock, empty.replica_options()).error().code,
            ErrorCode::kNotFound);
}

}  // namespace
}  // namespace hf::journal
