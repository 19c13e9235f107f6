// What is not known of a replica is not said to be nothing.
#include "control/protection/protection_view.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

TEST(ProtectionView, a_lag_that_nobody_knows_is_not_0) {
  keeper_protocol::Shipping shipping{.home_durable = Sequence(40)};
  EXPECT_TRUE(shipping_view(shipping).at("lag_records").is_null())
      << "before the peer's first word";
  shipping.acknowledged = keeper_protocol::End{.sequence = Sequence(30)};
  shipping.lag_records = 10;
  EXPECT_EQ(shipping_view(shipping).at("lag_records").to_number<int>(), 10);
}

// Nothing is in flight without a connection, whatever is lacking.
TEST(ProtectionView, what_is_in_flight_is_not_called_the_lag) {
  const sys::JsonObject view = shipping_view({.lag_records = 10, .lag_bytes = 0});
  EXPECT_FALSE(view.contains("lag_bytes"));
  EXPECT_TRUE(view.contains("in_flight_bytes"));
}

TEST(ProtectionView, of_a_replica_that_was_evicted_the_mend_is_a_command_that_leads_on) {
  EXPECT_NE(no_replica_there("web", "south").mend.find("holdfast protection enable web --to south"),
            std::string::npos);
}

TEST(ProtectionView, a_replica_knows_its_lag_only_while_its_source_ships) {
  keeper_protocol::ReplicaStatus status{
      .connected = true, .durable = {.sequence = Sequence(7)}, .home_durable = Sequence(9)};
  EXPECT_EQ(replica_view(status).at("lag_records").to_number<int>(), 2);
  status.home_durable = Sequence(7);
  status.connected = false;
  EXPECT_TRUE(replica_view(status).at("lag_records").is_null());
}

}  // namespace
}  // namespace hf::control
