#include "control/title/title_view.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

SiteId site(uint8_t n) {
  SiteId id;
  id.bytes.fill(std::byte{n});
  return id;
}

// What title::Judge::may_expel() refuses as "rival".
TEST(RivalBeforeExpulsion, is_a_third_sites_alone) {
  const SiteId self = site(1);
  const SiteId leaving = site(2);
  const SiteId third = site(3);
  title::Statement head;
  head.holder = self;
  head.members = title::Members()
                     .with(self, title::Standing::kMember)
                     .with(leaving, title::Standing::kStandby)
                     .with(third, title::Standing::kMember);
  EXPECT_FALSE(rival_before_expulsion(head, {}, self, leaving)) << "no rival";
  EXPECT_FALSE(rival_before_expulsion(head, leaving, self, leaving)) << "that settles its own";
  EXPECT_EQ(rival_before_expulsion(head, third, self, leaving), third);
  EXPECT_FALSE(rival_before_expulsion(head, third, self, site(4))) << "the title names no such";
  head.holder = third;
  EXPECT_FALSE(rival_before_expulsion(head, third, self, leaving)) << "not ours to sign";
}

}  // namespace
}  // namespace hf::control
