// After a failed sync the kernel may call pages clean that the medium never got. A journal that is
// opened again in the same boot must not take them for durable.
#include <gtest/gtest.h>

#include "journal/log/record_log.h"
#include "journal/test_world.h"

namespace hf::journal {
namespace {

TEST(SyncFailure, what_a_restart_in_the_same_boot_inherits_is_written_again) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    TestSite site(seed);
    auto journal = *site.create();
    const Bytes data = TestSite::pattern(20'000, seed);
    ASSERT_TRUE(site.write(*journal, 0, data).ok());
    site.storage.fail_next_syncs(3);  // one may be the next segment's preparation
    EXPECT_FALSE(site.flush(*journal).ok());
    ASSERT_NE(journal->failed(), nullptr);
    site.storage.kill_process();
    site.storage.reopen();
    journal = *site.open();
    EXPECT_FALSE(site.storage.contents(kSyncFailedName).has_value());
    ASSERT_EQ(*site.read(*journal, 0, data.size()), data) << "seed " << seed;

    site.storage.power_loss();
    site.storage.reopen();
    auto opened = site.open();
    ASSERT_TRUE(opened.ok()) << "seed " << seed << ": " << opened.error().describe();
    ASSERT_EQ(*site.read(**opened, 0, data.size()), data) << "seed " << seed;
  }
}

TEST(SyncFailure, a_failure_while_opening_is_remembered_too) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    TestSite site(seed);
    auto journal = *site.create();
    const Bytes data = TestSite::pattern(20'000, seed);
    ASSERT_TRUE(site.write(*journal, 0, data).ok());
    site.storage.kill_process();
    site.storage.reopen();
    journal.reset();
    site.storage.fail_next_syncs(1);
    EXPECT_FALSE(site.open().ok());
    site.storage.kill_process();
    site.storage.reopen();
    journal = *site.open();
    site.storage.power_loss();
    site.storage.reopen();
    auto opened = site.open();
    ASSERT_TRUE(opened.ok()) << "seed " << seed << ": " << opened.error().describe();
    ASSERT_EQ(*site.read(**opened, 0, data.size()), data) << "seed " << seed;
  }
}

}  // namespace
}  // namespace hf::journal
