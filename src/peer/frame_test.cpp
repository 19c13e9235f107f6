#include "peer/frame.h"

#include <gtest/gtest.h>

#include "peer/link_client.h"

namespace hf::peer {
namespace {

Bytes header_bytes(uint8_t type, uint8_t flags, uint16_t reserved, uint32_t length, uint64_t id) {
  Bytes bytes(kFrameHeaderSize);
  bytes[0] = std::byte{type};
  bytes[1] = std::byte{flags};
  store_le<uint16_t>(bytes.data() + 2, reserved);
  store_le<uint32_t>(bytes.data() + 4, length);
  store_le<uint64_t>(bytes.data() + 8, id);
  return bytes;
}

bool refused(const Bytes& header) {
  const auto frame = first_frame(header);
  return !frame.ok() && frame.error().code == ErrorCode::kCorrupt;
}

// The bytes as other implementations will write them: never changed within a version.
TEST(Frame, golden_bytes) {
  VmId vm;
  vm.bytes.fill(std::byte{0xa5});
  EXPECT_EQ(to_hex(encode_frame(FrameType::kOpen, 3, vm.span())),
            "05000000100000000300000000000000a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5");
  EXPECT_EQ(to_hex(encode_hello()), "010000000800000000000000000000000200000000000000");
  EXPECT_EQ(to_hex(encode_ask(5, {.total = 2, .limit_ms = 1000, .part = as_bytes("hi")})),
            "0c0000000a000000050000000000000002000000e80300006869");
  EXPECT_EQ(to_hex(encode_answer(5, {.total = 2, .part = as_bytes("yo")})),
            "0e000000060000000500000000000000020000"
            "00"
            "796f");
}

TEST(Frame, reads_what_it_writes_and_waits_for_the_rest) {
  const Bytes body(100, std::byte{7});
  const Bytes frame = encode_frame(FrameType::kData, 9, body);
  for (size_t size = 0; size < frame.size(); ++size)
    EXPECT_FALSE(first_frame(ByteSpan(frame).first(size))->has_value());
  const auto read = first_frame(frame);
  ASSERT_TRUE(read.ok() && read->has_value());
  EXPECT_EQ((*read)->header.id, 9U);
  EXPECT_TRUE(std::ranges::equal((*read)->body, body));
}

TEST(Frame, a_length_is_bounded_before_anything_of_the_body_came) {
  EXPECT_TRUE(refused(header_bytes(8, 0, 0, kFrameBodyMax + 1, 1)));
  EXPECT_TRUE(refused(header_bytes(8, 0, 0, UINT32_MAX, 1)));
  EXPECT_TRUE(refused(header_bytes(5, 0, 0, 17, 1))) << "an open is 16 bytes";
  EXPECT_TRUE(refused(header_bytes(2, 0, 0, 4096, 0))) << "a ping is 8 bytes";
  EXPECT_TRUE(refused(header_bytes(11, 0, 0, kErrorBodyMax + 1, 1)));
  EXPECT_TRUE(refused(header_bytes(17, 0, 0, kPairMessageMax + 1, 0)));
}

TEST(Frame, what_means_nothing_is_refused) {
  EXPECT_TRUE(refused(header_bytes(0, 0, 0, 0, 0)));
  EXPECT_TRUE(refused(header_bytes(18, 0, 0, 0, 0)));
  EXPECT_TRUE(refused(header_bytes(255, 0, 0, 0, 0)));
  EXPECT_TRUE(refused(header_bytes(6, 1, 0, 0, 1))) << "a flag";
  EXPECT_TRUE(refused(header_bytes(6, 0, 1, 0, 1))) << "reserved bits";
  EXPECT_TRUE(refused(header_bytes(6, 0, 0, 0, 0))) << "an acceptance of nothing";
  EXPECT_TRUE(refused(header_bytes(2, 0, 0, 8, 1))) << "a ping with an id";
  EXPECT_FALSE(refused(header_bytes(14, kFlagError | kFlagUnheard, 0, 0, 1)));
  EXPECT_TRUE(refused(header_bytes(14, kFlagUnheard, 0, 0, 1))) << "an answer that nobody gave";
  EXPECT_TRUE(refused(header_bytes(14, 4, 0, 0, 1)));
}

TEST(Frame, totals_of_questions_and_answers_are_bounded) {
  auto ask = [](uint32_t total, uint32_t limit_ms, size_t part) {
    const Bytes frame = encode_ask(1, {.total = total, .limit_ms = limit_ms, .part = Bytes(part)});
    return decode_ask(ByteSpan(frame).subspan(kFrameHeaderSize)).ok();
  };
  EXPECT_TRUE(ask(0, 1, 0));
  EXPECT_TRUE(ask(kRequestMax, 300'000, 1000));
  EXPECT_FALSE(ask(kRequestMax + 1, 1000, 1000));
  EXPECT_FALSE(ask(10, 0, 10)) << "no limit";
  EXPECT_FALSE(ask(10, 300'001, 10));
  EXPECT_FALSE(ask(10, 1000, 11)) << "more than announced";
  EXPECT_FALSE(ask(10, 1000, 0)) << "would never end";
  auto answer = [](uint32_t total, size_t part) {
    const Bytes frame = encode_answer(1, {.total = total, .part = Bytes(part)});
    return decode_answer(ByteSpan(frame).subspan(kFrameHeaderSize)).ok();
  };
  EXPECT_TRUE(answer(kAnswerMax, 1));
  EXPECT_FALSE(answer(kAnswerMax + 1, 1));
  EXPECT_FALSE(answer(1, 2));
}

TEST(Frame, an_error_arrives_clean_and_cut) {
  const ErrorBody sent{.error = {.code = ErrorCode::kConflict,
                                 .cause = "a\x1b[31mb\u202e" + std::string(5000, 'x'),
                                 .effect = std::string(5000, '"'),
                                 .mend = std::string(5000, '\\')},
                       .detail = {{"epoch", 7}}};
  const Bytes body = encode_error_body(sent);
  ASSERT_LE(body.size(), kErrorBodyMax);
  const ErrorBody read = decode_error_body(body);
  EXPECT_EQ(read.error.code, ErrorCode::kConflict);
  EXPECT_TRUE(read.error.cause.starts_with("a [31mb x"));
  EXPECT_LE(read.error.effect.size(), kErrorTextMax);
  EXPECT_EQ(read.detail.at("epoch").as_int64(), 7);
}

TEST(Frame, a_detail_that_is_too_long_is_left_out) {
  ErrorBody sent{.error = {.cause = "c"}};
  sent.detail["text"] = std::string(kRefusalDetailMax, 'x');
  EXPECT_TRUE(decode_error_body(encode_error_body(sent)).detail.empty());
}

TEST(Frame, an_error_that_cannot_be_read_is_still_one) {
  for (const std::string_view text :
       {"", "{", "[]", "{\"error\":1}", "{\"error\":{},\"more\":1}"}) {
    const ErrorBody read = decode_error_body(as_bytes(text));
    EXPECT_FALSE(read.error.cause.empty()) << text;
  }
}

TEST(PartCounter, takes_what_was_announced_and_no_more) {
  PartCounter parts(10);
  EXPECT_TRUE(parts.take(4).ok());
  EXPECT_FALSE(parts.whole());
  EXPECT_FALSE(parts.take(7).ok());
  EXPECT_TRUE(parts.take(6).ok());
  EXPECT_TRUE(parts.whole());
}

}  // namespace
}  // namespace hf::peer
