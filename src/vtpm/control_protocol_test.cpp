#include "vtpm/control_protocol.h"

#include <gtest/gtest.h>

namespace hf::vtpm {
namespace {

Bytes hex(std::string_view text) { return std::move(from_hex(text)).value(); }

// Every command with a body as QEMU or swtpm_ioctl sends it.
const std::vector<Bytes> kWholeFrames = {
    hex("00000001"),
    hex("0000000200000001"),
    hex("00000003"),
    hex("00000004"),
    hex("0000000502000000"),
    hex("00000006"),
    hex("0000000700000003616263"),
    hex("00000008"),
    hex("00000009"),
    hex("0000000a"),
    hex("0000000b03000000"),
    hex("0000000c000000010000000200000000"),
    hex("0000000d000000020000000100000004deadbeef"),
    hex("0000000e"),
    hex("0000000f"),
    hex("00000010"),
    hex("0000001100000f80"),
    hex("0000001200000000000000070000000000000000"),
    hex("000000130000012c"),
};

TEST(ControlProtocol, measures_each_command_whole_and_not_before_its_last_byte) {
  for (const Bytes& frame : kWholeFrames) {
    const uint32_t command = load_be<uint32_t>(frame.data());
    for (size_t size = 0; size < frame.size(); ++size) {
      const FrameSize part = measure_frame(ByteSpan(frame).first(size));
      const bool locality_without_padding = (command == 5 || command == 11) && size >= 5;
      EXPECT_EQ(part.state,
                locality_without_padding ? FrameState::kPaddingMayFollow : FrameState::kIncomplete)
          << command << " cut at " << size;
    }
    const FrameSize whole = measure_frame(frame);
    EXPECT_EQ(whole.state, FrameState::kComplete) << command;
    EXPECT_EQ(whole.size, frame.size()) << command;
    EXPECT_EQ(static_cast<uint32_t>(parse_frame(frame).value().command), command);
  }
}

TEST(ControlProtocol, finds_the_end_of_a_frame_with_another_behind_it) {
  Bytes two = hex("0000001100000f80");
  const Bytes next = hex("00000002");
  two.insert(two.end(), next.begin(), next.end());
  EXPECT_EQ(measure_frame(two).size, 8U);
}

TEST(ControlProtocol, takes_a_locality_of_one_byte_and_of_four) {
  EXPECT_EQ(parse_frame(hex("0000000503")).value().locality, 3);
  EXPECT_EQ(parse_frame(hex("0000000503000000")).value().locality, 3);
}

TEST(ControlProtocol, decodes_the_fields) {
  const Bytes set = hex("0000000d000000020000000100000004deadbeef");
  const ControlRequest blob = parse_frame(set).value();
  EXPECT_EQ(blob.flags, 2U);
  EXPECT_EQ(blob.blob_type, 1U);
  EXPECT_EQ(to_hex(blob.data), "deadbeef");
  const Bytes get = hex("0000000c000000010000000200000010");
  EXPECT_EQ(parse_frame(get).value().blob_type, 2U);
  EXPECT_EQ(parse_frame(get).value().offset, 16U);
  EXPECT_EQ(parse_frame(hex("0000001100000f80")).value().number, 0xF80U);
}

TEST(ControlProtocol, refuses_hostile_lengths_before_buffering_them) {
  EXPECT_EQ(measure_frame(hex("0000000d0000000000000001ffffffff")).state, FrameState::kInvalid);
  EXPECT_EQ(measure_frame(hex("0000000d00000000000000017fffffff")).state, FrameState::kInvalid);
}

TEST(ControlProtocol, tells_hash_data_that_is_taken_in_pieces_by_its_head) {
  EXPECT_EQ(measure_frame(hex("0000000700001000")).state, FrameState::kIncomplete);
  for (const uint32_t size : {0x1001U, 0xFFFFFFFFU}) {
    Bytes head = hex("0000000700000000");
    store_be(head.data() + 4, size);
    const FrameSize frame = measure_frame(head);
    EXPECT_EQ(frame.state, FrameState::kLongHashData);
    EXPECT_EQ(frame.size, 8U);
    EXPECT_EQ(frame.data_size, size);
  }
}

TEST(ControlProtocol, does_not_know_other_commands) {
  for (const char* unknown : {"00000000", "00000014", "ffffffff0102"}) {
    const Bytes frame = hex(unknown);
    EXPECT_EQ(measure_frame(frame).state, FrameState::kComplete);
    EXPECT_EQ(measure_frame(frame).size, frame.size());
    EXPECT_EQ(parse_frame(frame).error().code, ErrorCode::kUnsupported);
  }
}

// From a trace of swtpm 0.7.1 with QEMU 7.2.
TEST(ControlProtocol, answers_in_swtpms_bytes) {
  EXPECT_EQ(to_hex(capability_answer(0xFFFF)), "000000000000ffff");
  EXPECT_EQ(to_hex(buffer_size_answer({.current = 0xF80, .min = 0xAF8, .max = 0x1000})),
            "0000000000000f8000000af800001000");
  EXPECT_EQ(to_hex(established_answer(false)), "0000000000000000");
  EXPECT_EQ(to_hex(established_answer(true)), "0000000001000000");
  EXPECT_EQ(to_hex(state_blob_answer(kTpmRetry, {}, 0)), "00000800000000000000000000000000");
}

TEST(ControlProtocol, reads_a_blob_on_from_an_offset) {
  const Bytes blob = hex("01020304");
  EXPECT_EQ(to_hex(state_blob_answer(0, blob, 3)), "0000000000000002000000010000000104");
  EXPECT_EQ(to_hex(state_blob_answer(0, blob, 9)), "00000000000000020000000000000000");
}

TEST(ControlProtocol, gives_information_in_pieces) {
  const std::string text(4000, 'x');
  const Bytes first = info_answer(text, 0);
  EXPECT_EQ(load_be<uint32_t>(first.data() + 4), 4001U);
  EXPECT_EQ(load_be<uint32_t>(first.data() + 8), kInfoChunkMax);
  const Bytes second = info_answer(text, kInfoChunkMax);
  EXPECT_EQ(load_be<uint32_t>(second.data() + 8), 4001U - kInfoChunkMax);
  EXPECT_EQ(second.back(), std::byte{0});
  EXPECT_EQ(info_answer(text, 4000), result_answer(kTpmBadParameter));
}

}  // namespace
}  // namespace hf::vtpm
