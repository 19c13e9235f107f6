#include "cli/core/parse.h"

#include <gtest/gtest.h>

#include "cli/core/client.h"
#include "cli/core/output.h"

namespace hf::cli {
namespace {

TEST(Size, takes_the_usual_units_and_nothing_else) {
  EXPECT_EQ(*parse_size("4096"), 4096U);
  EXPECT_EQ(*parse_size("512M"), uint64_t{512} << 20);
  EXPECT_EQ(*parse_size("4GiB"), uint64_t{4} << 30);
  EXPECT_EQ(*parse_size("1T"), uint64_t{1} << 40);
  for (std::string_view bad : {"", "G", "-1", "1.5G", "4g", "99999999999T", "4 G"}) {
    Result<uint64_t> size = parse_size(bad);
    ASSERT_FALSE(size.ok()) << bad;
    EXPECT_FALSE(size.error().mend.empty());
  }
}

TEST(Duration, takes_seconds_to_days) {
  EXPECT_EQ(*parse_duration("30"), 30U);
  EXPECT_EQ(*parse_duration("15m"), 900U);
  EXPECT_EQ(*parse_duration("2h"), 7200U);
  EXPECT_EQ(*parse_duration("1d"), 86400U);
  EXPECT_FALSE(parse_duration("1w").ok());
}

TEST(Since, takes_a_duration_or_a_time_in_utc) {
  constexpr uint64_t kNow = 1'796'000'000'000'000;
  EXPECT_EQ(*parse_since("2h", kNow), kNow - uint64_t{7200} * 1'000'000);
  EXPECT_EQ(*parse_since("1970-01-02", kNow), uint64_t{86'400} * 1'000'000);
  EXPECT_EQ(*parse_since("1970-01-01 00:01", kNow), uint64_t{60} * 1'000'000);
  EXPECT_EQ(*parse_since("1970-01-01T00:00:05Z", kNow), uint64_t{5} * 1'000'000);
  EXPECT_EQ(time_text(*parse_since("2026-11-28 14:10:31Z", kNow)), "2026-11-28 14:10:31Z");
  EXPECT_EQ(*parse_since("99999999d", kNow), 0U);
  for (std::string_view bad : {"yesterday", "2026-13-01", "2026-11-28 14:00:00+01:00", ""})
    EXPECT_FALSE(parse_since(bad, kNow).ok()) << bad;
}

TEST(Url, escapes_what_is_not_plain) {
  EXPECT_EQ(url_escape("vm-1"), "vm-1");
  EXPECT_EQ(url_escape("a/b c"), "a%2Fb%20c");
}

TEST(Cell, finds_members_of_members) {
  sys::JsonObject row{{"a", 1}, {"error", {{"cause", "why"}}}, {"empty", ""}, {"yes", true}};
  EXPECT_EQ(cell(row, "a"), "1");
  EXPECT_EQ(cell(row, "error.cause"), "why");
  EXPECT_EQ(cell(row, "error.none"), "-");
  EXPECT_EQ(cell(row, "empty"), "-");
  EXPECT_EQ(cell(row, "yes"), "yes");
}

TEST(Cell, shows_times_as_times_and_no_token_in_whole) {
  const std::string token = "eyJ" + std::string(300, 'a') + "." + std::string(300, 'b') + ".c";
  sys::JsonObject row{{"created_us", 1'796'000'000'000'000}, {"wait_us", 250}, {"token", token}};
  EXPECT_EQ(cell(row, "created_us"), "2026-11-30 00:53:20Z");
  EXPECT_EQ(cell(row, "wait_us"), "250");
  EXPECT_LT(cell(row, "token").size(), 80U);
  testing::internal::CaptureStdout();
  print_object({}, row);
  const std::string shown = testing::internal::GetCapturedStdout();
  EXPECT_NE(shown.find("created  2026-11-30"), std::string::npos) << shown;
  EXPECT_EQ(shown.find(token), std::string::npos);
}

}  // namespace
}  // namespace hf::cli
