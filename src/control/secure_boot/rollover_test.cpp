#include "control/secure_boot/rollover.h"

#include <gtest/gtest.h>

#include "control/secure_boot/secure_boot_vm.h"
#include "secure_boot/change/variables_json.h"

namespace hf::control {
namespace {

Result<RolloverRequest> parse(std::string_view text) {
  return parse_rollover(*sys::parse_json_object(text));
}

TEST(Rollover, wants_changes_unless_it_goes_back) {
  EXPECT_FALSE(parse("{}").ok());
  EXPECT_FALSE(parse(R"({"changes":[]})").ok());
  EXPECT_FALSE(parse(R"({"changes":[{"variable":"Boot0000","action":"delete"}]})").ok());
  Result<RolloverRequest> back = parse(R"({"back":true,"timeout_seconds":0})");
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->way, RolloverWay::kBack);
  EXPECT_EQ(back->guest_limit.count(), 1);
  Result<RolloverRequest> off = parse(R"({"changes":[{"variable":"dbx","action":"delete"}]})");
  ASSERT_TRUE(off.ok()) << off.error().describe();
  EXPECT_EQ(off->changes.size(), 1U);
  EXPECT_FALSE(off->without_reseal);
}

TEST(Rollover, goes_one_way_and_in_the_guest_by_signed_updates_only) {
  EXPECT_EQ(parse(R"({"finish":true})")->way, RolloverWay::kFinish);
  EXPECT_FALSE(parse(R"({"finish":true,"back":true})").ok());
  Result<RolloverRequest> unsigned_change =
      parse(R"({"in_guest":true,"changes":[{"variable":"dbx","action":"delete"}]})");
  ASSERT_FALSE(unsigned_change.ok());
  EXPECT_NE(unsigned_change.error().mend.find("sign-update"), std::string::npos);
}

TEST(SecureBootVm, reads_what_a_keeper_says) {
  const secure_boot::SecureBootVariables held{.pk = Bytes(3, std::byte{1}),
                                              .enabled = true,
                                              .shim_validation = false,
                                              .mok_ignores_db = true,
                                              .ignored = {"MokListX"}};
  Result<secure_boot::SecureBootVariables> read =
      variables_of({{"variables", secure_boot::to_json(held)}, {"saved", sys::JsonArray()}});
  ASSERT_TRUE(read.ok()) << read.error().describe();
  EXPECT_TRUE(read->enabled);
  EXPECT_FALSE(read->shim_validation);
  EXPECT_TRUE(read->mok_ignores_db);
  EXPECT_EQ(read->ignored, held.ignored);
  attestation::KeyVariables named = attestation::key_variables(*read);
  EXPECT_EQ(named.size(), 1U);
  EXPECT_EQ(named["PK"].size(), 3U);
  EXPECT_FALSE(variables_of(*sys::parse_json_object("{}")).ok());
}

}  // namespace
}  // namespace hf::control
