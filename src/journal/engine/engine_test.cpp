// The engine through crashes at any call, against the plain model: what the line's end and every
// retained point show, cell by cell, is what was written. And each planted fault shows.
#include <gtest/gtest.h>

#include <cstdlib>
#include <list>

#include "journal/engine/test_home.h"
#include "journal/format/wire.h"

namespace hf::journal {
namespace {

struct Choices {
  EngineFaults faults = {};
  bool power = false;
  int lives = 5;
  int acts = 90;  // of a life
  uint64_t target_bytes = 400u << 10;
  size_t cache_bytes = 64u << 10;
};

// What was reached, so that a test that passes has been somewhere.
struct Reached {
  uint64_t lives = 0;
  uint64_t segments = 0;
  uint64_t batches = 0;
  uint64_t collected = 0;
  uint64_t points = 0;
  uint64_t points_checked = 0;
  uint64_t merged_locators = 0;
  uint64_t cut_openings = 0;
  uint64_t mapped = 0;
};

class Story {
 public:
  Story(uint64_t seed, const Choices& choices, Reached& reached)
      : choices_(choices), reached_(reached), site_(seed), chance_(seed * 7919 + 5) {
    site_.log_options.segment_bytes = 20u << 10;
    site_.log_options.prepare_next = seed % 2 == 0;
    site_.log_options.prepare_step_bytes = 8u << 10;
  }

  Status run() {
    TRY(open());
    for (int life = 0; life < choices_.lives; ++life) {
      ++reached_.lives;
      // Also some that nothing cuts off.
      if (chance_.chance(4, 5)) site_.storage.die_after(chance_.between(1, 1500));
      Status lived = live();
      count();
      if (site_.storage.alive()) TRY(std::move(lived));
      crash();
      while (chance_.chance(1, 3)) {
        ++reached_.cut_openings;
        site_.storage.die_after(chance_.between(1, 60));
        EngineHome cut(site_, options());
        static_cast<void>(cut.open().ok());
        // What it appended has the numbers of what was lost.
        if (cut.log != nullptr) forget_after(cut.inherited);
        const bool died = !site_.storage.alive();
        crash_site();
        if (!died) break;
      }
      TRY(open());
      TRY(check_all());
    }
    TRY(settle());
    return check_all();
  }

 private:
  struct Op {
    Sequence sequence;
    uint64_t first = 0;  // cell, of all volumes
    uint64_t cells = 0;
    bool zero = false;
  };
  EngineOptions options() const {
    return {.cache_bytes = choices_.cache_bytes,
            .target_bytes = choices_.target_bytes,
            .output_bytes = 48u << 10,
            .outputs = 4,
            .faults = choices_.faults};
  }
  Status open() {
    home_ = std::make_unique<EngineHome>(site_, options());
    TRY(home_->open());
    const Sequence end = home_->inherited;
    if (end < durable_) return corrupt("durable records are gone");
    forget_after(end);
    now_ = disk_at(end);
    std::set<uint64_t> found(home_->engine->points().begin(), home_->engine->points().end());
    for (const auto& [ordinal, state] : points_) {
      if (state == PointState::kThere && !found.contains(ordinal))
        return corrupt("a point is gone");
    }
    for (const uint64_t ordinal : found) {
      if (!points_.contains(ordinal)) return corrupt("a point that was withdrawn is there");
    }
    std::erase_if(points_, [&](const auto& each) { return !found.contains(each.first); });
    for (auto& [ordinal, state] : points_) state = PointState::kThere;
    return {};
  }
  void forget_after(Sequence end) {
    std::erase_if(ops_, [&](const Op& op) { return op.sequence > end; });
  }
  Status live() {
    for (int act = 0; act < choices_.acts; ++act) {
      if (!site_.storage.alive()) return {};
      if (home_->log->failed() != nullptr) return *home_->log->failed();
      TRY(do_something());
      for (int turn = 0; turn < 3; ++turn) {
        if (home_->next_deadline() <= site_.scheduler.now()) home_->tick();
        site_.scheduler.run_one();
      }
    }
    return {};
  }
  Status do_something() {
    const uint64_t what = chance_.below(100);
    if (what < 86) return write();
    if (what < 90) return flush();
    if (what < 93) return add_point();
    if (what < 95) return withdraw_point();
    if (what < 97) return settle();
    return check_all();
  }
  Status write() {
    if (!home_->log->accepting()) {
      site_.run(*home_, [&] { return home_->log->accepting() || !site_.storage.alive(); });
      if (!site_.storage.alive()) return {};
    }
    const auto volume = static_cast<uint32_t>(chance_.below(kVolumes));
    const uint64_t cells = chance_.between(1, chance_.chance(1, 3) ? 24 : 8);
    const uint64_t cell = chance_.below(kCells - cells + 1);
    const bool zero = chance_.chance(1, 8);
    const Sequence sequence = TRY(home_->write(VolumeId(volume), cell, cells, zero));
    ops_.push_back(
        {.sequence = sequence, .first = volume * kCells + cell, .cells = cells, .zero = zero});
    apply(now_, ops_.back());
    return {};
  }
  Status flush() {
    const Sequence last = home_->log->line().last();
    Waiter& done = waiters_.emplace_back();
    site_.run(*home_, [&] {
      return home_->log->appended().end.position.sequence >= last || !site_.storage.alive();
    });
    if (!site_.storage.alive()) return {};
    home_->log->acknowledge_durable(last, done);
    site_.run(*home_, [&] { return done.done || !site_.storage.alive(); });
    if (done.done && done.status.ok()) durable_ = last;
    return {};
  }
  Status add_point() {
    const uint64_t mapped = home_->engine->status().mapped;
    if (mapped == 0 || points_.size() > 4) return {};
    const uint64_t ordinal = chance_.chance(1, 2) ? mapped : chance_.between(1, mapped);
    if (points_.contains(ordinal)) return {};
    points_[ordinal] = PointState::kUnsure;
    Waiter& done = waiters_.emplace_back();
    home_->engine->add_point(ordinal, done);
    site_.run(*home_, [&] { return done.done || !site_.storage.alive(); }, 60'000'000);
    if (!done.done) return {};
    if (!done.status.ok()) {
      points_.erase(ordinal);
      if (done.status.error().code != ErrorCode::kConflict) return std::move(done.status);
      return {};
    }
    points_[ordinal] = PointState::kThere;
    ++reached_.points;
    return {};
  }
  Status withdraw_point() {
    if (points_.empty()) return {};
    auto point = std::next(points_.begin(), static_cast<ptrdiff_t>(chance_.below(points_.size())));
    if (point->second != PointState::kThere) return {};
    point->second = PointState::kUnsure;
    const uint64_t ordinal = point->first;
    Waiter& done = waiters_.emplace_back();
    home_->engine->withdraw_point(ordinal, done);
    site_.run(*home_, [&] { return done.done || !site_.storage.alive(); }, 60'000'000);
    if (done.done && done.status.ok()) points_.erase(ordinal);
    return {};
  }
  Status settle() {
    const auto quiet = [&] {
      return !site_.storage.alive() ||
             (home_->idle() && home_->next_deadline() == kNever && home_->log->staging().empty());
    };
    site_.run(*home_, quiet, 5'000'000);
    if (home_->engine->last_error() != nullptr && site_.storage.alive()) {
      return *home_->engine->last_error();
    }
    return {};
  }
  // The line's end, every point, and a close that may become one.
  Status check_all() {
    site_.run(*home_, [&] { return home_->log->staging().empty() || !site_.storage.alive(); });
    if (!site_.storage.alive()) return {};
    Engine& engine = *home_->engine;
    TRY(home_->check(engine.view(), engine.fronts(), now_));
    std::vector<uint64_t> shown(engine.points());
    const uint64_t mapped = engine.status().mapped;
    if (mapped > 0) shown.push_back(chance_.between(engine.decided_until(), mapped));
    for (const uint64_t ordinal : shown) {
      if (!site_.storage.alive()) return {};
      Result<ViewPtr> view = engine.view_at(ordinal);
      const bool point = std::ranges::find(engine.points(), ordinal) != engine.points().end();
      if (!view.ok() && !point) continue;  // only the schedule's runs lead somewhere
      if (!view.ok()) return std::move(view).error();
      Status same = home_->check(*view, {}, disk_at(last_of(ordinal)));
      if (!same.ok()) {
        return std::move(same).error().context("the end of segment " + std::to_string(ordinal));
      }
      ++reached_.points_checked;
    }
    return {};
  }
  Sequence last_of(uint64_t ordinal) const {
    return ordinal == 0 ? Sequence() : home_->log->closed()[ordinal - 1].closed->last;
  }
  static void apply(Disk& disk, const Op& op) {
    std::fill_n(disk.begin() + static_cast<ptrdiff_t>(op.first), op.cells,
                op.zero ? 0 : op.sequence.value);
  }
  Disk disk_at(Sequence end) const {
    Disk disk(kCells * kVolumes);
    for (const Op& op : ops_) {
      if (op.sequence <= end) apply(disk, op);
    }
    return disk;
  }
  void count() {
    const EngineStatus status = home_->engine->status();
    reached_.segments = std::max<uint64_t>(reached_.segments, home_->log->closed().size());
    reached_.mapped = std::max(reached_.mapped, status.mapped);
    reached_.batches += status.batches;
    reached_.collected += status.collected_segments;
    reached_.merged_locators += status.locators > 0 && status.batches > status.locators ? 1 : 0;
  }
  void crash_site() {
    choices_.power ? site_.storage.power_loss() : site_.storage.kill_process();
    site_.storage.reopen();
    site_.storage.never_die();
  }
  void crash() {
    crash_site();
    home_.reset();
    waiters_.clear();
  }

  enum class PointState : uint8_t { kThere, kUnsure };
  const Choices choices_;
  Reached& reached_;
  TestSite site_;
  sim::SimRng chance_;
  std::unique_ptr<EngineHome> home_;
  std::vector<Op> ops_;
  Disk now_ = Disk(kCells * kVolumes);
  std::map<uint64_t, PointState> points_;
  Sequence durable_;
  // What a life that ends leaves waiting is told as long as it is there.
  std::list<Waiter> waiters_;
};

Status tell(uint64_t seed, const Choices& choices, Reached& reached) {
  return Story(seed, choices, reached).run();
}

uint64_t seeds(uint64_t fewest) {
  const char* asked = std::getenv("HOLDFAST_ENGINE_SEEDS");
  return asked == nullptr ? fewest : std::strtoull(asked, nullptr, 10);
}

class EngineCrash : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Of, EngineCrash, testing::Values(false, true),
                         [](const auto& of) { return of.param ? "power" : "process"; });

TEST_P(EngineCrash, at_any_call_leaves_every_retained_position_as_it_was) {
  Reached reached;
  for (uint64_t seed = 0; seed < seeds(40); ++seed) {
    const Status told = tell(seed, {.power = GetParam()}, reached);
    ASSERT_TRUE(told.ok()) << "seed " << seed << ": " << told.error().describe();
  }
  std::printf(
      "lives %lu, openings cut off %lu, most segments %lu (mapped %lu), batches %lu, segments "
      "collected %lu, locators merged in %lu lives, points %lu, checked %lu times\n",
      reached.lives, reached.cut_openings, reached.segments, reached.mapped, reached.batches,
      reached.collected, reached.merged_locators, reached.points, reached.points_checked);
  EXPECT_GE(reached.mapped, 64u) << "a map of T² segments was made";
  EXPECT_GT(reached.batches, 20u);
  EXPECT_GT(reached.points_checked, 100u);
}

TEST(EngineFaults, each_one_is_found) {
  const auto found = [](const EngineFaults& faults, bool power) {
    Reached reached;
    for (uint64_t seed = 0; seed < 40; ++seed) {
      if (!tell(seed, {.faults = faults, .power = power}, reached).ok()) return true;
    }
    return false;
  };
  EXPECT_FALSE(found({}, false));
  EXPECT_FALSE(found({}, true));
  EXPECT_TRUE(found({.filters_lie = true}, false));
  EXPECT_TRUE(found({.merged_oldest_first = true}, false));
  EXPECT_TRUE(found({.shown_unit_dropped = true}, false));
  EXPECT_TRUE(found({.rotten_unit_collected = true}, false));
  EXPECT_TRUE(found({.locator_of_another_record = true}, false));
  EXPECT_TRUE(found({.switched_before_synced = true}, true));
  EXPECT_TRUE(found({.removed_under_readers = true}, false));
}

// A line of some segments that were collected, at rest or cut off.
struct Rested {
  enum class End : uint8_t { kAtRest, kKilled };
  explicit Rested(uint64_t seed, uint64_t writes = 900, End end = End::kAtRest) : site(seed) {
    site.log_options.segment_bytes = 20u << 10;
    EngineHome home(site, {.target_bytes = 300u << 10, .output_bytes = 48u << 10, .outputs = 4});
    HF_ASSERT(home.open().ok());
    sim::SimRng chance(seed);
    for (uint64_t i = 0; i < writes; ++i) {
      site.run(home, [&] { return home.log->accepting(); });
      const uint64_t cell = chance.below(kCells - 8);
      const Sequence written = *home.write(VolumeId(0), cell, 8, false);
      std::fill_n(disk.begin() + static_cast<ptrdiff_t>(cell), 8, written.value);
      if (i % 8 == 0) site.run(home, [&] { return home.log->staging().empty(); });
    }
    HF_ASSERT(home.close_segment().ok());
    site.run(home, [&] { return home.idle() && home.next_deadline() == kNever; }, 20'000'000);
    status = home.engine->status();
    segments = home.log->closed().size();
    if (end == End::kKilled) {
      site.storage.kill_process();
      site.storage.reopen();
      return;
    }
    home.engine->stop();
    Waiter closed;
    home.log->quiesce(closed);
    HF_ASSERT(site.wait(home, closed).ok());
  }
  // Opened as it lies, and nothing written: what it shows is right, or an error.
  Status read() {
    EngineHome home(site, {});
    TRY(home.look());
    records_read = home.records_read;
    home.engine->stop();
    return home.check(home.engine->view(), home.engine->fronts(), disk);
  }
  TestSite site;
  Disk disk = Disk(kCells * kVolumes);
  EngineStatus status;
  size_t segments = 0;
  uint64_t records_read = 0;
};

TEST(Engine, opens_without_reading_records_of_segments_that_have_a_map) {
  Rested small(1, 300), large(1, 1500);
  EXPECT_GT(large.segments, small.segments + 100);
  ASSERT_TRUE(small.read().ok());
  ASSERT_TRUE(large.read().ok());
  EXPECT_EQ(small.records_read, 0u);
  EXPECT_EQ(large.records_read, 0u);
  EXPECT_GT(large.status.collected_segments, 50u);
  EXPECT_LT(large.status.data_bytes, 600u << 10) << "of 6 MiB that were written";
}

TEST(Engine, serves_no_altered_byte) {
  Rested rested(3);
  const Status before = rested.read();
  ASSERT_TRUE(before.ok()) << before.error().describe();
  size_t refused = 0;
  for (const auto& [name, bytes] : rested.site.snapshot()) {
    const size_t step = bytes.size() / 40 + 1;
    for (size_t at = step / 2; at < bytes.size(); at += step) {
      const std::byte flipped = bytes[at] ^ std::byte{4};
      rested.site.storage.tamper(name, at, ByteSpan(&flipped, 1));
      const Status shown = rested.read();
      if (!shown.ok()) {
        ++refused;
        EXPECT_EQ(shown.error().cause.find("shows write"), std::string::npos)
            << name << " " << at << ": " << shown.error().describe();
      }
      rested.site.storage.tamper(name, at, ByteSpan(&bytes[at], 1));
    }
  }
  EXPECT_GT(refused, 100u);
  EXPECT_TRUE(rested.read().ok());
}

// Until they have the engine: Journal has no way to what was collected.
TEST(Engine, leaves_nothing_that_a_journal_without_it_takes_for_its_own) {
  Rested rested(4);
  ASSERT_GT(rested.status.collected_segments, 0u);
  TestSite& site = rested.site;
  const auto before = site.snapshot();
  const auto opened = site.open();
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, ErrorCode::kUnsupported) << opened.error().describe();
  EXPECT_EQ(ReplicaJournal::open(site.storage, site.clock, site.replica_options()).error().code,
            ErrorCode::kUnsupported);
  EXPECT_EQ(site.snapshot(), before);
  EXPECT_TRUE(rested.read().ok());
}

TEST(Engine, takes_no_older_list_and_no_file_of_another_line) {
  Rested rested(5, 900, Rested::End::kKilled);
  ASSERT_TRUE(rested.read().ok());
  const Bytes manifest = *rested.site.storage.contents(kManifestName);
  const ManifestLog log = *decode_manifest_log(manifest);
  ASSERT_GT(log.stores, 1u);
  // Its last edits cut off, one after the other.
  const FileId file = *rested.site.storage.open(kManifestName, OpenMode::kReadWrite);
  const size_t snapshot = static_cast<size_t>(load_le<uint64_t>(manifest.data() + 8));
  ASSERT_TRUE(rested.site.storage.truncate(file, snapshot).ok());
  EXPECT_FALSE(rested.read().ok());
  ASSERT_TRUE(rested.site.storage.write_now(file, 0, manifest).ok());
  ASSERT_TRUE(rested.read().ok());
  // Another line's map under this one's name, of the same key.
  Rested other(6);
  const auto theirs = other.site.snapshot();
  size_t swapped = 0;
  for (const auto& [name, bytes] : rested.site.snapshot()) {
    const auto same = theirs.find(name);
    if (!name.starts_with("map-") || same == theirs.end()) continue;
    if (same->second.size() != bytes.size() || same->second == bytes) continue;
    rested.site.storage.tamper(name, 0, same->second);
    EXPECT_FALSE(rested.read().ok());
    rested.site.storage.tamper(name, 0, bytes);
    ++swapped;
  }
  EXPECT_TRUE(rested.read().ok()) << swapped;
}

}  // namespace
}  // namespace hf::journal
