#include "sys/typed_json.h"

#include <gtest/gtest.h>

namespace hf::sys::example {

enum class Colour { kRed, kBlue };
constexpr auto json_words(JsonOf<Colour>) {
  return std::array{JsonWord{"red", Colour::kRed}, JsonWord{"blue", Colour::kBlue}};
}

struct Disk {
  VolumeId id;
  std::string name;
  bool operator==(const Disk&) const = default;
};
constexpr auto json_members(JsonOf<Disk>) {
  return std::tuple(json_member("id", &Disk::id, {.min = 1}),
                    json_member("name", &Disk::name, {.length_min = 1, .length_max = 8}));
}

struct Everything {
  bool yes = false;
  uint16_t port = 0;
  int32_t degrees = 0;
  uint64_t big = 0;
  double share = 0;
  std::string text;
  std::string note;
  Bytes hex;
  Bytes base64;
  VmId vm;
  Epoch epoch{1};
  std::array<std::byte, 4> tag{};
  Colour colour = Colour::kRed;
  std::vector<Disk> disks;
  std::map<std::string, std::vector<uint8_t>> banks;
  std::optional<Disk> spare;
  uint64_t limit = 17;
  JsonValue raw;
  bool operator==(const Everything&) const = default;
};
constexpr auto json_members(JsonOf<Everything>) {
  return std::tuple(
      json_member("yes", &Everything::yes), json_member("port", &Everything::port, {.min = 1}),
      json_member("degrees", &Everything::degrees, {.min = -40, .max = 60}),
      json_member("big", &Everything::big, {.max = UINT64_MAX}),
      json_member("share", &Everything::share),
      json_member("text", &Everything::text, {.length_max = 8}),
      json_member("note", &Everything::note, {.text = JsonText::kAny}),
      json_member("hex", &Everything::hex, {.length_min = 1, .length_max = 4}),
      json_member("base64", &Everything::base64, {.length_max = 5, .bytes = JsonBytes::kBase64}),
      json_member("vm", &Everything::vm), json_member("epoch", &Everything::epoch),
      json_member("tag", &Everything::tag), json_member("colour", &Everything::colour),
      json_member("disks", &Everything::disks, {.items_max = 2}),
      json_member("banks", &Everything::banks, {.max = 23, .length_max = 6}),
      json_member("spare", &Everything::spare), json_member_or_default("limit", &Everything::limit),
      json_member_or_default("raw", &Everything::raw));
}
Status json_check(const Everything& all) {
  if (all.disks.size() == 2 && all.disks[0].id == all.disks[1].id) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "two disks of one id"};
  }
  return {};
}

struct Ask {
  static constexpr std::string_view kOp = "ask";
  uint32_t from = 0;
};
constexpr auto json_members(JsonOf<Ask>) { return std::tuple(json_member("from", &Ask::from)); }
struct Stop {
  static constexpr std::string_view kOp = "stop";
};
constexpr auto json_members(JsonOf<Stop>) { return std::tuple(); }

namespace {

Everything sample() {
  Everything all{.yes = true,
                 .port = 443,
                 .degrees = -40,
                 .big = UINT64_MAX,
                 .share = 0.25,
                 .text = "eight ä",
                 .note = "two\nlines",
                 .hex = {std::byte{0xab}},
                 .base64 = {std::byte{1}, std::byte{2}},
                 .epoch = Epoch(kJsonNumberMax),
                 .colour = Colour::kBlue,
                 .disks = {{.id = VolumeId(1), .name = "a"}, {.id = VolumeId(2), .name = "b"}},
                 .banks = {{"sha1", {0, 23}}, {"sha256", {}}},
                 .spare = Disk{.id = VolumeId(UINT32_MAX), .name = "c"},
                 .limit = 18,
                 .raw = JsonArray{1, "x"}};
  all.vm.bytes.fill(std::byte{7});
  all.tag.fill(std::byte{9});
  return all;
}

// The sample with one member replaced.
std::string cause_with(std::string_view name, const JsonValue& value) {
  JsonObject object = encode_json(sample());
  object[typed_json::boosted(name)] = value;
  const auto decoded = decode_json<Everything>(object);
  if (decoded.ok()) return "taken";
  EXPECT_EQ(decoded.error().code, ErrorCode::kInvalidArgument);
  return decoded.error().cause;
}
std::string cause_without(std::string_view name) {
  JsonObject object = encode_json(sample());
  object.erase(typed_json::boosted(name));
  const auto decoded = decode_json<Everything>(object);
  return decoded.ok() ? "taken" : decoded.error().cause;
}

TEST(TypedJson, comes_back_as_it_went) {
  const auto decoded = decode_json<Everything>(encode_json_text(sample()));
  ASSERT_TRUE(decoded.ok()) << decoded.error().cause;
  EXPECT_EQ(*decoded, sample());
  Everything least = sample();
  least.spare.reset();
  const std::string text = encode_json_text(least);
  EXPECT_EQ(text.find("spare"), std::string::npos);
  EXPECT_EQ(*decode_json<Everything>(text), least);
  EXPECT_EQ(cause_with("spare", nullptr), "taken");
}

TEST(TypedJson, refuses_what_it_does_not_know_and_names_it) {
  EXPECT_EQ(cause_with("colours", 1), "unknown member \"colours\"");
  EXPECT_EQ(cause_with("spare", JsonObject{{"id", 1}, {"name", "x"}, {"size", 3}}),
            "unknown member \"spare.size\"");
  EXPECT_EQ(cause_with("colour", "green"), "member \"colour\" is \"green\", not one of red, blue");
  EXPECT_EQ(cause_with(std::string(300, 'x') + "\x1b]0;owned", 1),
            "unknown member \"" + std::string(64, 'x') + "\"");
  EXPECT_EQ(cause_with("colour", "\x1b[2J"), "member \"colour\" is \" [2J\", not one of red, blue");
}

TEST(TypedJson, names_what_is_missing) {
  EXPECT_EQ(cause_without("vm"), "member \"vm\" is missing");
  EXPECT_EQ(cause_without("limit"), "taken");
  EXPECT_EQ(cause_without("spare"), "taken");
  EXPECT_EQ(cause_with("disks", JsonArray{JsonObject{{"id", 1}}}),
            "member \"disks[0].name\" is missing");
  JsonObject object = encode_json(sample());
  object.erase("limit");
  EXPECT_EQ(decode_json<Everything>(object)->limit, 17u);
}

TEST(TypedJson, holds_numbers_to_their_bounds) {
  EXPECT_EQ(cause_with("port", 0), "member \"port\" is 0, not from 1 to 65535");
  EXPECT_EQ(cause_with("port", 65536), "member \"port\" is 65536, not from 1 to 65535");
  EXPECT_EQ(cause_with("port", -1), "member \"port\" is -1, not from 1 to 65535");
  EXPECT_EQ(cause_with("port", 1.0), "member \"port\" is not a whole number");
  EXPECT_EQ(cause_with("port", true), "member \"port\" is not a whole number");
  EXPECT_EQ(cause_with("port", nullptr), "member \"port\" is not a whole number");
  EXPECT_EQ(cause_with("degrees", -41), "member \"degrees\" is -41, not from -40 to 60");
  EXPECT_EQ(cause_with("degrees", UINT64_MAX),
            "member \"degrees\" is 18446744073709551615, not from -40 to 60");
  EXPECT_EQ(cause_with("epoch", kJsonNumberMax + 1),
            "member \"epoch\" is 4611686018427387905, not from 0 to 4611686018427387904");
  EXPECT_EQ(cause_with("disks", JsonArray{JsonObject{{"id", 0}, {"name", "x"}}}),
            "member \"disks[0].id\" is 0, not from 1 to 4294967295");
  EXPECT_EQ(cause_with("banks", JsonObject{{"sha1", JsonArray{1, 24}}}),
            "member \"banks.sha1[1]\" is 24, not from 0 to 23");
  EXPECT_EQ(cause_with("share", "x"), "member \"share\" is not a number");
}

TEST(TypedJson, holds_texts_bytes_and_lists_to_their_lengths) {
  EXPECT_EQ(cause_with("text", "nine char"), "member \"text\" has 9 bytes, not from 0 to 8");
  EXPECT_EQ(cause_with("text", "a\nb"), "member \"text\" has control characters");
  EXPECT_EQ(cause_with("text", "a\xc2\x9b"), "member \"text\" has control characters");
  EXPECT_EQ(cause_with("text", 1), "member \"text\" is not a string");
  EXPECT_EQ(cause_with("hex", ""), "member \"hex\" does not hold from 1 to 4 bytes");
  EXPECT_EQ(cause_with("hex", "0011223344"), "member \"hex\" does not hold from 1 to 4 bytes");
  EXPECT_EQ(cause_with("hex", "0g"), "member \"hex\" is not hexadecimal");
  EXPECT_EQ(cause_with("base64", "AAAAAAAA"), "member \"base64\" does not hold from 0 to 5 bytes");
  EXPECT_EQ(cause_with("base64", "AA="), "member \"base64\" is not base64");
  EXPECT_EQ(cause_with("vm", "00"), "member \"vm\" does not hold from 16 to 16 bytes");
  EXPECT_EQ(cause_with("tag", "0011"), "member \"tag\" does not hold from 4 to 4 bytes");
  EXPECT_EQ(cause_with("disks", JsonArray{1, 2, 3}), "member \"disks\" has 3 entries, more than 2");
  EXPECT_EQ(cause_with("disks", JsonArray{1}), "member \"disks[0]\" is not an object");
  EXPECT_EQ(cause_with("disks", "x"), "member \"disks\" is not a list");
  EXPECT_EQ(cause_with("banks", JsonObject{{"sha2222", JsonArray{}}}),
            "member \"banks.sha2222\" has 7 bytes, not from 0 to 6");
}

TEST(TypedJson, refuses_a_member_twice_and_what_the_whole_forbids) {
  std::string text = encode_json_text(sample());
  text.insert(1, R"("port":1,)");
  EXPECT_EQ(decode_json<Everything>(text).error().cause, "JSON that names a member twice");
  const JsonObject disk{{"id", 1}, {"name", "x"}};
  EXPECT_EQ(cause_with("disks", JsonArray{disk, disk}), "two disks of one id");
  EXPECT_EQ(decode_json<Everything>("[]").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(decode_json<Everything>("{}", {.bytes_max = 1}).error().code, ErrorCode::kLimit);
}

TEST(TypedJson, tells_operations_apart_by_their_word) {
  using Request = std::variant<Ask, Stop>;
  EXPECT_EQ(to_text(encode_operation(Ask{.from = 3})), R"({"op":"ask","from":3})");
  const Request request = Ask{.from = 3};
  const auto decoded = decode_operation<Request>(encode_operation(request));
  ASSERT_TRUE(decoded.ok()) << decoded.error().cause;
  EXPECT_EQ(std::get<Ask>(*decoded).from, 3u);
  EXPECT_TRUE(std::holds_alternative<Stop>(*decode_operation<Request>({{"op", "stop"}})));
  const auto cause = [](const JsonObject& object) {
    return decode_operation<Request>(object).error().cause;
  };
  EXPECT_EQ(cause({{"op", "go"}}), "member \"op\" is \"go\", not one of ask, stop");
  EXPECT_EQ(cause({{"op", 1}}), "member \"op\" is not a string");
  EXPECT_EQ(cause({}), "member \"op\" is missing");
  EXPECT_EQ(cause({{"op", "ask"}}), "member \"from\" is missing");
  EXPECT_EQ(cause({{"op", "stop"}, {"from", 1}}), "unknown member \"from\"");
}

}  // namespace
}  // namespace hf::sys::example
