#include "base/text.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace hf {
namespace {

TEST(Text, characters_are_those_of_rfc_3629) {
  EXPECT_EQ(utf8_character_size("a"), 1U);
  EXPECT_EQ(utf8_character_size("\xc3\xa9"), 2U);
  EXPECT_EQ(utf8_character_size("\xe2\x82\xac"), 3U);
  EXPECT_EQ(utf8_character_size("\xf0\x9f\x92\xbe"), 4U);
  EXPECT_EQ(utf8_character_size("\xf4\x8f\xbf\xbf"), 4U);  // U+10FFFF
  for (std::string_view broken : {"\x80", "\xc0\xaf", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf",
                                  "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xff"}) {
    EXPECT_EQ(utf8_character_size(broken), 0U) << static_cast<int>(broken[0]);
    EXPECT_FALSE(is_utf8(broken));
  }
}

TEST(Text, what_a_terminal_would_obey_is_taken_out) {
  EXPECT_EQ(clean_text("a\x1b[31mb\nc\x7f", 100), "a [31mb c ");
  EXPECT_EQ(clean_text("x\xc2\x9b"
                       "31my",
                       100),
            "x 31my");  // CSI as one C1 control
  EXPECT_EQ(clean_text("bad \xff\xfe end", 100), "bad ?? end");
  EXPECT_EQ(clean_text("\xc2\xa0", 100), "\xc2\xa0");
}

// U+202E shows "gpj.exe" as "exe.jpg".
TEST(Text, what_turns_or_breaks_lines_is_taken_out) {
  for (std::string_view turned :
       {"\u061c", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202b", "\u202c", "\u202d",
        "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"}) {
    EXPECT_EQ(clean_text("a" + std::string(turned) + "b", 100), "a b") << to_hex(as_bytes(turned));
  }
  for (std::string_view plain :
       {"\u061b", "\u2010", "\u2027", "\u202f", "\u2065", "\u206a", "\u20ac"})
    EXPECT_EQ(clean_text(plain, 100), plain) << to_hex(as_bytes(plain));
}

TEST(Text, is_cut_between_characters) {
  EXPECT_EQ(clean_text("\xe2\x82\xac\xe2\x82\xac", 5), "\xe2\x82\xac");
  EXPECT_EQ(clean_text("abc", 2), "ab");
  EXPECT_EQ(clean_text("abc", 0), "");
}

TEST(DurationWords, say_what_matters) {
  const auto words = [](uint64_t seconds) { return duration_words(seconds * 1'000'000); };
  EXPECT_EQ(words(0), "0 s");
  EXPECT_EQ(words(59), "59 s");
  EXPECT_EQ(words(60), "1 min");
  EXPECT_EQ(words(3600), "1 h");
  EXPECT_EQ(words(3905), "1 h 5 min");
  EXPECT_EQ(words(86'400), "1 day");
  EXPECT_EQ(words(26 * 3600), "1 day 2 h");
  EXPECT_EQ(words(50 * 3600), "2 days 2 h");
  EXPECT_EQ(words(400 * 86'400 + 7200), "400 days");
}

}  // namespace
}  // namespace hf
