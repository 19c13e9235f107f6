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

}  // namespace
}  // namespace hf::cli
