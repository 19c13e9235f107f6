// MANIFEST as a log: each store leads to its state, only the last edit may be torn, and nothing in
// the file can be changed, moved or left out without showing.
#include <gtest/gtest.h>

#include <algorithm>

#include "journal/format/manifest.h"
#include "sim/world/rng.h"

namespace hf::journal {
namespace {

template <typename Id>
Id random_id(sim::SimRng& rng) {
  Id id;
  rng.fill(id.bytes);
  return id;
}

ClosedSegment random_close(sim::SimRng& rng) {
  return {.first = Sequence(rng.below(1000)),
          .last = Sequence(1000 + rng.below(1000)),
          .incarnation = random_id<IncarnationId>(rng),
          .close_offset = rng.below(1u << 20),
          .table_entries = rng.below(100),
          .time = Micros(rng.below(1u << 30)),
          .close_digest = random_id<Digest>(rng),
          .chain = random_id<Digest>(rng)};
}

// What a journal does to its file list, one thing at a time.
void change(Manifest& state, sim::SimRng& rng) {
  const auto open = std::ranges::find_if(state.segments, [](auto& entry) { return !entry.closed; });
  switch (rng.below(10)) {
    case 0:
    case 1:
      state.segments.push_back({.number = state.next_file_number++, .closed = {}});
      return;
    case 2:
      if (open != state.segments.end()) open->closed = random_close(rng);
      return;
    case 3: {  // some of the oldest are merged
      const auto closed = static_cast<size_t>(open - state.segments.begin());
      if (closed == 0) return;
      state.segments.erase(state.segments.begin(),
                           state.segments.begin() + static_cast<ptrdiff_t>(1 + rng.below(closed)));
      if (rng.chance(1, 3)) state.bases.clear();
      state.bases.push_back({.number = state.next_file_number++,
                             .table_offset = rng.below(1u << 20),
                             .table_entries = rng.below(100),
                             .footer_digest = random_id<Digest>(rng)});
      state.horizon.end.position.sequence = Sequence(state.horizon.end.position.sequence.value + 9);
      state.horizon.close = random_id<Digest>(rng);
      return;
    }
    case 4: {
      LineageEntry entry{.body = {.salt = random_id<IncarnationId>(rng)}, .first = Sequence(1)};
      if (!state.lineage.empty()) {
        const LineageEntry& before = state.lineage.back();
        const Sequence parent(before.first.value + rng.below(50));
        entry.first = parent.next();
        entry.body.parent = {.incarnation = before.body.salt, .sequence = parent};
        entry.body.parent_chain = random_id<Digest>(rng);
        entry.time = Micros(before.time.value + rng.below(9));
      }
      state.lineage.push_back(entry);
      return;
    }
    case 5: {  // closed ones are collected
      for (auto entry = state.segments.begin(); entry != open; ++entry) {
        if (rng.chance(1, 3)) entry->collected = true;
      }
      return;
    }
    case 6:
    case 7: {
      if (!state.kept.empty() && rng.chance(1, 2)) {
        state.kept.erase(state.kept.begin() + static_cast<ptrdiff_t>(rng.below(state.kept.size())));
      }
      state.kept.push_back({.number = state.next_file_number++,
                            .kind = static_cast<KeptKind>(1 + rng.below(4)),
                            .a = rng.below(9),
                            .b = rng.below(99),
                            .length = rng.below(1u << 20),
                            .digest = random_id<Digest>(rng)});
      return;
    }
    case 8: {
      const uint64_t point = rng.below(20);
      if (std::erase(state.points, point) == 0) state.points.push_back(point);
      return;
    }
    default:
      ++state.next_file_number;
  }
}

struct Log {
  Bytes file;
  std::vector<size_t> ends;      // of each store
  std::vector<Manifest> states;  // after it
};

Log random_log(uint64_t seed, size_t edits) {
  sim::SimRng rng(seed);
  Manifest next{.vm = random_id<VmId>(rng)};
  rng.fill(next.public_key);
  for (int i = 0; i < 10; ++i) change(next, rng);
  const ManifestStore first = snapshot_of(next);
  Log log{.file = first.bytes, .ends = {first.bytes.size()}, .states = {first.state}};
  while (log.states.size() <= edits) {
    for (uint64_t n = rng.below(3); n > 0; --n) change(next, rng);
    std::optional<ManifestStore> edit = edit_between(log.states.back(), next);
    if (!edit) {
      // Opened and retired between two stores, say: only a snapshot tells.
      next.generation = log.states.back().generation;
      next.last_store = log.states.back().last_store;
      ManifestStore snapshot = snapshot_of(next);
      log = {.file = snapshot.bytes, .ends = {snapshot.bytes.size()}, .states = {snapshot.state}};
      continue;
    }
    log.file.insert(log.file.end(), edit->bytes.begin(), edit->bytes.end());
    log.ends.push_back(log.file.size());
    log.states.push_back(edit->state);
  }
  return log;
}

TEST(ManifestLog, leads_to_the_state_of_its_last_whole_store) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const Log log = random_log(seed, 12);
    for (size_t i = 0; i < log.ends.size(); ++i) {
      const auto found = decode_manifest_log(ByteSpan(log.file).first(log.ends[i]));
      ASSERT_TRUE(found.ok()) << found.error().describe();
      ASSERT_EQ(found->state, log.states[i]) << "seed " << seed << " store " << i;
      ASSERT_EQ(found->stores, i + 1);
    }
  }
}

TEST(ManifestLog, cuts_a_torn_last_edit_and_takes_no_other_damage) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const Log log = random_log(seed, 5);
    const size_t last = log.ends[log.ends.size() - 2];
    for (size_t at = 0; at < log.file.size(); ++at) {
      Bytes flipped = log.file;
      flipped[at] ^= std::byte{0x10};
      const auto found = decode_manifest(flipped);
      ASSERT_EQ(found.ok(), at >= last) << "seed " << seed << " byte " << at;
      if (found.ok()) ASSERT_EQ(*found, log.states[log.states.size() - 2]);
      // Shorter at whatever place: the last store that is whole, or no snapshot.
      const auto cut = decode_manifest(ByteSpan(log.file).first(at));
      const auto whole =
          static_cast<size_t>(std::ranges::upper_bound(log.ends, at) - log.ends.begin());
      ASSERT_EQ(cut.ok(), whole > 0);
      if (cut.ok()) ASSERT_EQ(*cut, log.states[whole - 1]);
    }
    // Sectors of the last edit that never reached the disk, and a file that did not end there.
    Bytes torn = log.file;
    std::fill(torn.begin() + static_cast<ptrdiff_t>(last) + 64, torn.end(), std::byte{0});
    torn.resize(torn.size() + 512);
    ASSERT_EQ(*decode_manifest(torn), log.states[log.states.size() - 2]);
  }
}

TEST(ManifestLog, refuses_an_edit_of_another_place_or_another_log) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const Log log = random_log(seed, 6);
    const Log other = random_log(seed + 1000, 6);
    const auto part = [](const Log& of, size_t from, size_t to) {
      return ByteSpan(of.file).subspan(of.ends[from], of.ends[to] - of.ends[from]);
    };
    const auto joined = [](std::initializer_list<ByteSpan> parts) {
      Bytes all;
      for (ByteSpan each : parts) all.insert(all.end(), each.begin(), each.end());
      return all;
    };
    const ByteSpan start = ByteSpan(log.file).first(log.ends[0]);
    EXPECT_TRUE(decode_manifest(joined({start, part(log, 0, 6)})).ok());
    EXPECT_FALSE(decode_manifest(joined({start, part(log, 1, 6)})).ok()) << "one left out";
    EXPECT_FALSE(decode_manifest(joined({start, part(log, 0, 2), part(log, 1, 6)})).ok())
        << "twice";
    EXPECT_FALSE(decode_manifest(joined({start, part(log, 0, 1), part(log, 2, 3), part(log, 1, 2),
                                         part(log, 3, 6)}))
                     .ok())
        << "two swapped";
    EXPECT_FALSE(decode_manifest(joined({start, part(other, 0, 1)})).ok()) << "another VM's";
    EXPECT_FALSE(
        decode_manifest(joined({ByteSpan(other.file).first(other.ends[0]), part(log, 0, 6)})).ok())
        << "another snapshot before them";
  }
}

}  // namespace
}  // namespace hf::journal
