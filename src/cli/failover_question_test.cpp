#include "cli/failover_question.h"

#include <gtest/gtest.h>

namespace hf::cli {
namespace {

constexpr uint64_t kNow = 1'796'000'000'000'000;

sys::JsonObject preview(sys::JsonObject source, sys::JsonValue lag) {
  source["site"] = "north";
  return {{"vm", "web"},
          {"epoch", 2},
          {"source", std::move(source)},
          {"replica", {{"durable_time_us", kNow - 12'000'000}, {"lag_records", std::move(lag)}}}};
}

TEST(FailoverQuestion, of_a_living_source_says_that_it_is_stopped_and_how) {
  const std::string asked = failover_question(
      preview({{"answers", true}, {"role", "primary"}, {"running", true}, {"epoch", 1}}, 3), false,
      kNow);
  for (const char* words :
       {"12 s ago (2026-11-30 00:53:08Z)", "3 records of its source are lacking",
        "Site north answers", "runs there, under epoch 1", "stopped there for good",
        "its power is cut", "Run VM \"web\" here, under epoch 2?"})
    EXPECT_NE(asked.find(words), std::string::npos) << words << "\n" << asked;
}

TEST(FailoverQuestion, of_a_silent_source_says_what_is_not_known_and_what_is_lost) {
  const sys::JsonObject silent =
      preview({{"answers", false}, {"last_seen_us", kNow - 600'000'000}}, nullptr);
  const std::string asked = failover_question(silent, true, kNow);
  for (const char* words : {"Site north does not answer", "last heard of 10 min ago",
                            "stays off, or cut off from its hosts", "is lost",
                            "Nothing keeps site north from starting the VM alone"})
    EXPECT_NE(asked.find(words), std::string::npos) << words << "\n" << asked;
  EXPECT_EQ(asked.find("lacking"), std::string::npos) << "nobody knows: " << asked;
  EXPECT_NE(failover_question(silent, false, kNow).find("without --source-is-off this is refused"),
            std::string::npos);
}

TEST(FailoverQuestion, of_a_silent_source_says_what_it_has_signed) {
  sys::JsonObject source{{"answers", false}, {"waits_for_this_site", true}};
  std::string asked = failover_question(preview(source, nullptr), true, kNow);
  EXPECT_NE(asked.find("By what site north has signed, it starts the VM only when it has heard "
                       "from this site; one that runs there runs on"),
            std::string::npos)
      << asked;
  EXPECT_EQ(asked.find("Nothing keeps"), std::string::npos) << asked;
  source["starts_alone_after_s"] = 600;
  asked = failover_question(preview(source, nullptr), true, kNow);
  EXPECT_NE(asked.find("or was without it for 600 s"), std::string::npos) << asked;
}

TEST(FailoverQuestion, of_a_source_that_has_stopped_it_says_so) {
  const std::string asked = failover_question(
      preview({{"answers", true}, {"role", "superseded"}, {"running", false}, {"epoch", 2}}, 0),
      false, kNow);
  EXPECT_NE(asked.find("has stopped the VM for good already"), std::string::npos) << asked;
  EXPECT_NE(asked.find("nothing that its source has told of is lacking"), std::string::npos)
      << asked;
}

TEST(SettleQuestion, names_both_who_hold_it_and_what_becomes_of_the_other) {
  const sys::JsonObject vm{
      {"name", "web"},
      {"title",
       {{"holder", "north"},
        {"kind", "go on"},
        {"word", "without peer"},
        {"time_us", kNow},
        {"rivals", sys::JsonArray{sys::JsonObject{
                       {"holder", "south"}, {"kind", "take"}, {"time_us", kNow}}}}}}};
  const std::string asked = settle_question(vm, "south");
  for (const char* words :
       {"site north: \"go on\"", "on the word \"without peer\"", "site south: \"take\"",
        "stopped hard", "kept aside there", "Keep VM \"web\" as site south has it?"})
    EXPECT_NE(asked.find(words), std::string::npos) << words << "\n" << asked;
  EXPECT_NE(settle_question({{"name", "web"}}, "south").find("No conflict"), std::string::npos);
}

}  // namespace
}  // namespace hf::cli
