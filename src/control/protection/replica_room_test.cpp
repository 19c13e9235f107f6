#include "control/protection/replica_room.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace hf::control {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(ReplicaRoom, one_alone_gets_all_and_keeps_what_it_uses) {
  const uint64_t quota = 64 * kMiB;
  EXPECT_EQ(share_room(quota, {{.stored = 0, .allowed = 0}}), std::vector<uint64_t>{quota});
  EXPECT_EQ(share_room(quota, {{.stored = kMiB, .allowed = 16 * kMiB}}),
            std::vector<uint64_t>{16 * kMiB});
  EXPECT_EQ(share_room(quota, {{.stored = 60 * kMiB, .allowed = 60 * kMiB}}),
            std::vector<uint64_t>{64 * kMiB});
  EXPECT_EQ(share_room(quota, {{.stored = 64 * kMiB, .allowed = 64 * kMiB}}),
            std::vector<uint64_t>{64 * kMiB});
  EXPECT_TRUE(share_room(quota, {}).empty());
}

TEST(ReplicaRoom, what_one_does_not_need_goes_to_another) {
  const auto allowed = share_room(64 * kMiB, {{.stored = 0, .allowed = 40 * kMiB},
                                              {.stored = 24 * kMiB, .allowed = 24 * kMiB}});
  EXPECT_EQ(allowed[0], 8 * kMiB);
  EXPECT_EQ(allowed[1], 56 * kMiB);
}

TEST(ReplicaRoom, a_quota_that_was_made_smaller_lets_nothing_grow_and_takes_nothing_away) {
  const auto allowed = share_room(
      8 * kMiB, {{.stored = 20 * kMiB, .allowed = 30 * kMiB}, {.stored = 0, .allowed = 4 * kMiB}});
  EXPECT_EQ(allowed, (std::vector<uint64_t>{20 * kMiB, 0}));
}

// Whatever they take of what they are allowed, together they never hold more than the quota.
TEST(ReplicaRoom, together_they_never_hold_more_than_the_quota) {
  std::mt19937_64 chance(7);
  for (int world = 0; world < 200; ++world) {
    const uint64_t quota = (1 + chance() % 256) * kMiB;
    std::vector<RoomOf> replicas(1 + chance() % 12);
    for (int step = 0; step < 200; ++step) {
      const auto allowed = share_room(quota, replicas);
      ASSERT_LE(std::accumulate(allowed.begin(), allowed.end(), uint64_t{0}), quota);
      for (size_t i = 0; i < replicas.size(); ++i) {
        ASSERT_GE(allowed[i], replicas[i].stored);
        replicas[i].allowed = allowed[i];
        if (chance() % 2 == 0)
          replicas[i].stored += chance() % (allowed[i] - replicas[i].stored + 1);
        if (chance() % 50 == 0) replicas[i].stored /= 2;  // it was seeded anew
      }
    }
    // Nor is any of it out of reach: one that goes on alone comes to fill all that is left.
    for (int step = 0; step < 500; ++step) {
      const auto allowed = share_room(quota, replicas);
      for (size_t i = 0; i < replicas.size(); ++i) replicas[i].allowed = allowed[i];
      replicas[0].stored = replicas[0].allowed;
    }
    uint64_t others = 0;
    for (size_t i = 1; i < replicas.size(); ++i) others += replicas[i].allowed;
    EXPECT_GE(replicas[0].stored + replicas.size(), quota - others)
        << "but for what does not divide";
  }
}

}  // namespace
}  // namespace hf::control
