// A source that signs what no honest journal says (test_hostile_source.h), some thousand times; and
// the cases of it that once ended the receiving process, each by itself.
#include <gtest/gtest.h>

#include "replication/test_hostile_source.h"
#include "sim/world/rng.h"

namespace hf::replication {
namespace {

struct SeededChoices final : Choices {
  explicit SeededChoices(uint64_t seed) : rng(seed) {}
  uint64_t below(uint64_t limit) override { return rng.below(limit); }
  sim::SimRng rng;
};

TEST(HostileSource, cannot_end_the_receiver_nor_leave_a_replica_that_does_not_open) {
  HostileCounts all;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(seed);
    SeededChoices choices(seed);
    HostileSource source(choices);
    source.run(25);
    if (seed % 4 == 0) source.promote();
    all.records += source.counts().records;
    all.closes += source.counts().closes;
    all.seeds += source.counts().seeds;
    all.refusals += source.counts().refusals;
    all.promotions += source.counts().promotions;
  }
  // Hostile, and yet it gets deep enough to matter.
  EXPECT_GT(all.records, 10'000u);
  EXPECT_GT(all.closes, 500u);
  EXPECT_GT(all.seeds, 200u);
  EXPECT_GT(all.refusals, 5'000u);
  EXPECT_GT(all.promotions, 100u);
  RecordProperty("records", static_cast<int>(all.records));
}

}  // namespace
}  // namespace hf::replication
