// A process or a host that dies at any storage call, creation, recovery and promotion included.
#include <gtest/gtest.h>

#include "journal/test_world.h"

namespace hf::journal {
namespace {

class Crash : public testing::TestWithParam<bool> {};  // power loss, or the process only
INSTANTIATE_TEST_SUITE_P(Of, Crash, testing::Values(false, true),
                         [](const auto& of) { return of.param ? "power" : "process"; });

void crash(TestSite& site, bool power) {
  power ? site.storage.power_loss() : site.storage.kill_process();
  site.storage.reopen();
}

TEST_P(Crash, during_creation_leaves_a_journal_or_a_directory_to_create_in) {
  for (uint64_t after = 1; after < 30; ++after) {
    TestSite site(after);
    site.storage.die_after(after);
    auto created = site.create();
    crash(site, GetParam());
    const bool was_created = created.ok();
    created = Error{};
    auto opened = site.open();
    if (!opened.ok()) {
      EXPECT_FALSE(was_created);
      EXPECT_EQ(opened.error().code, ErrorCode::kNotFound) << opened.error().describe();
      auto again = site.create();
      ASSERT_TRUE(again.ok()) << after << ": " << again.error().describe();
    }
  }
}

TEST_P(Crash, at_any_call_keeps_what_was_acknowledged) {
  const bool power = GetParam();
  for (uint64_t seed = 0; seed < 80; ++seed) {
    TestSite site(seed);
    sim::SimRng chance(seed + 77);
    site.log_options.prepare_next = seed % 2 == 0;
    auto journal = *site.create();
    std::array<uint64_t, 8> safe{};
    std::array<std::vector<uint64_t>, 8> maybe;
    for (int life = 0; life < 6; ++life) {
      site.storage.die_after(chance.between(1, 120));
      for (int i = 0; journal != nullptr && i < 40; ++i) {
        const uint64_t block = chance.below(8);
        const uint64_t value = chance.next();
        Waiter done;
        maybe[block].push_back(value);
        if (!journal->write(VolumeId(1), block * 4096, TestSite::pattern(4096, value), &done).ok())
          break;
        if (!site.run(*journal, [&] { return done.done || !site.storage.alive(); })) break;
        if (!done.done || !done.status.ok()) break;
        if (!power) safe[block] = value, maybe[block].clear();
        if (power && chance.chance(1, 4)) {
          Waiter flushed;
          journal->flush(flushed);
          if (!site.run(*journal, [&] { return flushed.done || !site.storage.alive(); })) break;
          if (!flushed.done || !flushed.status.ok()) break;
          for (size_t b = 0; b < 8; ++b) {
            if (!maybe[b].empty()) safe[b] = maybe[b].back();
            maybe[b].clear();
          }
        }
      }
      crash(site, power);
      journal.reset();
      // Dying during recovery, too, must not matter.
      if (chance.chance(1, 2)) {
        site.storage.die_after(chance.between(1, 25));
        static_cast<void>(site.open().ok());
        crash(site, power);
      }
      auto opened = site.open();
      ASSERT_TRUE(opened.ok()) << "seed " << seed << ": " << opened.error().describe();
      journal = std::move(*opened);
      for (size_t b = 0; b < 8; ++b) {
        const Bytes found = *site.read(*journal, b * 4096, 4096);
        bool known = found == (safe[b] == 0 ? Bytes(4096) : TestSite::pattern(4096, safe[b]));
        for (uint64_t value : maybe[b]) {
          if (known || found != TestSite::pattern(4096, value)) continue;
          known = true;
          safe[b] = value;
        }
        ASSERT_TRUE(known) << "seed " << seed << " life " << life << " block " << b;
        maybe[b].clear();
      }
    }
  }
}

TEST(Faults, each_one_shows_within_few_seeds) {
  const auto survives = [](auto set_fault, bool power) {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      TestSite site(seed);
      set_fault(site.log_options.faults);
      auto journal = *site.create();
      site.settle(*journal);
      std::vector<Waiter> waiters(6);
      for (size_t i = 0; i < waiters.size(); ++i) {
        const Bytes data = TestSite::pattern(4096, seed * 100 + i);
        EXPECT_TRUE(journal->write(VolumeId(1), i * 4096, data, &waiters[i]).ok());
      }
      site.run(*journal, [&] { return waiters.back().done; });
      if (power) EXPECT_TRUE(site.flush(*journal).ok());
      crash(site, power);
      journal.reset();
      auto opened = site.open();
      if (!opened.ok()) return false;
      for (size_t i = 0; i < waiters.size(); ++i) {
        auto found = site.read(**opened, i * 4096, 4096);
        if (!found.ok() || *found != TestSite::pattern(4096, seed * 100 + i)) return false;
      }
    }
    return true;
  };
  EXPECT_TRUE(survives([](Faults&) {}, true));
  EXPECT_TRUE(survives([](Faults&) {}, false));
  EXPECT_FALSE(survives([](Faults& faults) { faults.sync_skipped = true; }, true));
  EXPECT_FALSE(survives([](Faults& faults) { faults.acknowledged_before_appended = true; }, false));
  EXPECT_FALSE(survives([](Faults& faults) { faults.records_swapped = true; }, false));
}

}  // namespace
}  // namespace hf::journal
