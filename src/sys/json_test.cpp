#include "sys/json.h"

#include <gtest/gtest.h>

namespace hf::sys {
namespace {

TEST(Json, reads_typed_members_and_names_the_wrong_one) {
  auto object =
      parse_json_object(R"({"s":"x","n":7,"big":18446744073709551615,"b":true,"a":["p"]})");
  ASSERT_TRUE(object.ok());
  EXPECT_EQ(*get_string(*object, "s"), "x");
  EXPECT_EQ(*get_u64(*object, "n"), 7u);
  EXPECT_EQ(*get_u64(*object, "big"), UINT64_MAX);
  EXPECT_TRUE(*get_bool(*object, "b"));
  EXPECT_EQ(get_strings(*object, "a")->at(0), "p");
  EXPECT_EQ(get_string(*object, "n").error().cause, "member \"n\" is not a string");
  EXPECT_EQ(get_u64(*object, "zz").error().cause, "member \"zz\" is missing");
  EXPECT_EQ(*get_u64_or(*object, "zz", 3), 3u);
}

TEST(Json, refuses_deep_long_and_foreign_text) {
  EXPECT_EQ(parse_json_object("[1]").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(parse_json_object("{\"a\":1} x").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(parse_json_object("").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(parse_json_object("{\"a\":[[[[]]]]}", {.depth_max = 3}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(parse_json_object("{\"a\":1}", {.bytes_max = 3}).error().code, ErrorCode::kLimit);
}

TEST(Json, an_error_survives_the_way_to_a_peer) {
  Error error{.code = ErrorCode::kNoSpace, .cause = "c", .effect = "e", .mend = "m"};
  Error back = error_from_json(error_to_json(error));
  EXPECT_EQ(back.code, ErrorCode::kNoSpace);
  EXPECT_EQ(back.describe(), error.describe());
}

TEST(Json, an_error_that_is_read_moves_no_cursor_and_has_an_end) {
  const Error error{.code = ErrorCode::kConflict,
                    .cause = "a\x1b]0;owned\x07" + std::string(100'000, 'x'),
                    .effect = "b\x1b[2J\r\u202e",
                    .mend = "c\x1b[1A\n"};
  const Error back = error_from_json(error_to_json(error));
  EXPECT_TRUE(back.cause.starts_with("a ]0;owned x"));
  EXPECT_EQ(back.cause.size(), kErrorTextMax);
  EXPECT_EQ(back.effect, "b [2J  ");
  EXPECT_EQ(back.mend, "c [1A ");
}

TEST(Json, finds_the_reason_of_a_failed_start_behind_other_lines) {
  Error error{.code = ErrorCode::kWrongKey, .cause = "wrong secret"};
  std::string tail = "noise\n" + start_failure_line(error) + "later noise\n\n";
  auto found = find_start_failure(tail);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->code, ErrorCode::kWrongKey);
  EXPECT_FALSE(find_start_failure("only noise\n").has_value());
  EXPECT_FALSE(find_start_failure("").has_value());
}

TEST(Json, refuses_a_member_twice_where_asked_to) {
  const JsonLimits strict{.duplicates = JsonDuplicates::kRefuse};
  for (std::string_view text : {R"({"a":1,"a":1})", R"({"a":1,"b":2,"\u0061":3})",
                                R"({"x":[{"a":1,"a":2}]})", R"([[{"a":{"b":1,"c":2,"b":3}}]])"}) {
    EXPECT_TRUE(parse_json(text).ok()) << text;
    EXPECT_FALSE(parse_json(text, strict).ok()) << text;
  }
  for (std::string_view text :
       {R"({"a":{"a":1},"b":{"a":1}})", R"([{"a":1},{"a":1}])", "{}", "7",
        R"({"t":"ä\n\u00e4","n":null,"d":1.5,"i":-3,"u":18446744073709551615})"}) {
    Result<JsonValue> value = parse_json(text, strict);
    ASSERT_TRUE(value.ok()) << text;
    EXPECT_EQ(*value, parse_json(text).value());
  }
  for (std::string_view text : {R"({"a":1)", R"({"a":1} x)", "", R"({"a" 1})", R"({"a":1}{})"}) {
    EXPECT_FALSE(parse_json(text, strict).ok()) << text;
  }
}

TEST(Json, takes_its_values_from_the_memory_given) {
  boost::json::monotonic_resource memory;
  for (JsonDuplicates duplicates : {JsonDuplicates::kLastCounts, JsonDuplicates::kRefuse}) {
    const Result<JsonObject> object = parse_json_object(
        R"({"a":["b"]})", {.duplicates = duplicates, .storage = boost::json::storage_ptr(&memory)});
    ASSERT_TRUE(object.ok());
    EXPECT_EQ((*object).storage().get(), &memory);
    EXPECT_EQ(object->at("a").as_array().front().storage().get(), &memory);
  }
}

}  // namespace
}  // namespace hf::sys
