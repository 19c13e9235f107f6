#include "control/peers/peer_name.h"

#include <gtest/gtest.h>

#include "control/testing.h"

namespace hf::control {
namespace {

using namespace testing;  // NOLINT

TEST(PeerName, is_one_that_a_command_line_and_a_terminal_take_as_it_is) {
  for (std::string_view good : {"north", "n", "North-2.example_x", "00"})
    EXPECT_TRUE(check_peer_name(good).ok()) << good;
  for (std::string_view bad :
       {"", "-north", "no rth", "n\x1b[31m", "n\xe2\x80\xae", "a/b",
        "00112233445566778899aabbccddeeff", "00112233445566778899AABBCCDDEEFF"}) {
    EXPECT_FALSE(check_peer_name(bad).ok()) << bad;
  }
  EXPECT_FALSE(check_peer_name(std::string(65, 'a')).ok());
}

TEST(PeerName, is_the_operators_choice_and_no_other_peers) {
  TestSite here;
  Catalog& catalog = *here.services->catalog;
  const std::string mend = "site pair --name NAME";
  auto choose = [&](uint8_t site, std::string_view own, const std::string& wanted) {
    return choose_peer_name(catalog, site_of(site), own, wanted, mend);
  };
  EXPECT_EQ(*choose(2, "north", ""), "north");
  here.pair(2, "north");
  Result<std::string> taken = choose(3, "north", "");
  ASSERT_FALSE(taken.ok()) << "a peer cannot pass for another by what it calls itself";
  EXPECT_EQ(taken.error().code, ErrorCode::kExists);
  EXPECT_EQ(taken.error().mend, mend);
  EXPECT_EQ(*choose(3, "north", "far-north"), "far-north");
  EXPECT_FALSE(choose(3, "far", "north").ok());
  EXPECT_EQ(*choose(2, "whatever it calls itself now", ""), "north") << "paired again";
  EXPECT_EQ(*choose(2, "north", "old-north"), "old-north");
  EXPECT_EQ(choose(4, site_of(2).hex(), "").error().mend, mend);
}

}  // namespace
}  // namespace hf::control
