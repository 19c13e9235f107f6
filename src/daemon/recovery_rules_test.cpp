#include "daemon/recovery_rules.h"

#include <gtest/gtest.h>

namespace hf::daemon {
namespace {

SiteId site(uint8_t n) {
  SiteId id;
  id.bytes.fill(std::byte{n});
  return id;
}

TEST(RecoveryRules, only_the_other_end_of_a_protection_may_raise_an_epoch) {
  Result<ProtectionRow> protection = ProtectionRow{.peer = site(2)};
  EXPECT_TRUE(is_counterpart(protection, site(2)));
  EXPECT_FALSE(is_counterpart(protection, site(3))) << "paired, but not for this VM";
  Result<ProtectionRow> none = Error{.code = ErrorCode::kNotFound};
  EXPECT_FALSE(is_counterpart(none, site(2)));
}

}  // namespace
}  // namespace hf::daemon
