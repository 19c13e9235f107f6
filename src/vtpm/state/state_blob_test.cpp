#include "vtpm/state/state_blob.h"

#include <gtest/gtest.h>

namespace hf::vtpm {
namespace {

StateBlob example() {
  return {.libtpms_version = 0x000902,
          .permanent = {std::byte{1}, std::byte{2}, std::byte{3}},
          .volatile_state = {std::byte{0xA}, std::byte{0xB}}};
}

// docs/formats/vtpm-state.md shows these bytes.
constexpr std::string_view kGolden =
    "4846545001002000020900000100000003000000020000000000000000000000"
    "0102030a0b";

Bytes golden() { return std::move(from_hex(kGolden)).value(); }

TEST(StateBlob, has_the_documented_bytes) {
  EXPECT_EQ(to_hex(encode_state_blob(example()).value()), kGolden);
}

TEST(StateBlob, reads_the_golden_blob) {
  const StateBlob state = std::move(decode_state_blob(golden())).value();
  EXPECT_EQ(state.libtpms_version, 0x000902U);
  EXPECT_EQ(state.state_level, 1U);
  EXPECT_EQ(state.permanent, example().permanent);
  EXPECT_EQ(state.volatile_state, example().volatile_state);
}

TEST(StateBlob, refuses_every_truncation_and_any_byte_too_many) {
  Bytes bytes = golden();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_state_blob(ByteSpan(bytes).first(size)).ok()) << size;
  }
  bytes.push_back(std::byte{0});
  EXPECT_FALSE(decode_state_blob(bytes).ok());
}

ErrorCode code_with(size_t at, uint32_t value) {
  Bytes bytes = golden();
  store_le(bytes.data() + at, value);
  const Result<StateBlob> state = decode_state_blob(bytes);
  return state.ok() ? ErrorCode::kInternal : state.error().code;
}

TEST(StateBlob, refuses_lengths_that_overflow_or_lie) {
  EXPECT_EQ(code_with(16, 0xFFFFFFFF), ErrorCode::kCorrupt);
  EXPECT_EQ(code_with(20, 0xFFFFFFFF), ErrorCode::kCorrupt);
  EXPECT_EQ(code_with(16, 0), ErrorCode::kCorrupt);
  EXPECT_EQ(code_with(0, 0), ErrorCode::kCorrupt);
  EXPECT_EQ(code_with(24, 1), ErrorCode::kCorrupt);
}

TEST(StateBlob, says_which_libtpms_wrote_what_this_one_cannot_read) {
  Bytes bytes = golden();
  store_le(bytes.data() + 8, uint32_t{0x000A01});
  store_le(bytes.data() + 12, uint32_t{2});
  const Result<StateBlob> state = decode_state_blob(bytes);
  ASSERT_FALSE(state.ok());
  EXPECT_EQ(state.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(state.error().cause.find("libtpms 0.10.1 at state level 2"), std::string::npos);
  EXPECT_FALSE(state.error().mend.empty());
  EXPECT_EQ(code_with(4, 0x00200002), ErrorCode::kUnsupported);
}

TEST(StateBlob, is_bounded) {
  StateBlob state = example();
  state.permanent.resize(kStateBlobSizeMax);
  EXPECT_EQ(encode_state_blob(state).error().code, ErrorCode::kLimit);
  EXPECT_EQ(decode_state_blob(Bytes(kStateBlobSizeMax + 1)).error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace hf::vtpm
