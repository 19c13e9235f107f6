#include "replication/wire.h"

#include <gtest/gtest.h>

namespace hf::replication {
namespace {

template <typename Id>
Id id_of(uint8_t value) {
  Id id;
  id.bytes.fill(std::byte{value});
  return id;
}
const VmId kVm = id_of<VmId>(0x11);

journal::LineEnd some_end() {
  return {
      .position = {.incarnation = id_of<IncarnationId>(0x22), .sequence = Sequence(0x0102030405)},
      .chain = id_of<Digest>(0x33)};
}

Hello some_hello() {
  Hello hello{.epoch = Epoch(7),
              .home = id_of<SiteId>(4),
              .replica = id_of<SiteId>(5),
              .public_key = {std::byte{9}}};
  hello.ephemeral.fill(std::byte{0x66});
  hello.nonce.fill(std::byte{0x77});
  return hello;
}
Answer some_answer() {
  Answer answer{.epoch = Epoch(8)};
  answer.ephemeral.fill(std::byte{0x66});
  answer.nonce.fill(std::byte{0x77});
  answer.signature.fill(std::byte{0x88});
  return answer;
}

template <typename Body, typename Decoder>
void expect_round_trip(const Bytes& bytes, FrameType type, const Body& body, Decoder decode) {
  const Result<Frame> frame = decode_frame(bytes);
  ASSERT_TRUE(frame.ok());
  EXPECT_EQ(frame->type, type);
  EXPECT_EQ(frame->vm, kVm);
  const auto back = decode(frame->body);
  ASSERT_TRUE(back.ok()) << back.error().cause;
  EXPECT_EQ(*back, body);
  for (size_t size = 0; size < frame->body.size(); size++) {
    EXPECT_FALSE(decode(frame->body.first(size)).ok()) << "cut to " << size;
  }
}

TEST(Wire, every_frame_comes_back_as_it_was) {
  const Hello hello = some_hello();
  expect_round_trip(encode(kVm, hello), FrameType::kHello, hello, decode_hello);
  const Answer answer = some_answer();
  expect_round_trip(encode(kVm, answer), FrameType::kAnswer, answer, decode_answer);
  const Auth auth{.signature = answer.signature};
  expect_round_trip(encode(kVm, auth), FrameType::kAuth, auth, decode_auth);
  const Begin begin{.durable = some_end(), .window_bytes = 16u << 20, .mac = id_of<Mac>(0x55)};
  expect_round_trip(encode(kVm, begin), FrameType::kBegin, begin, decode_begin);
  const Ack ack{.durable = some_end(), .mac = id_of<Mac>(0x55)};
  expect_round_trip(encode(kVm, ack), FrameType::kAck, ack, decode_ack);
  expect_round_trip(encode_stopped(kVm, ack), FrameType::kStopped, ack, decode_ack);
  const ErrorFrame error{.refusal = Refusal::kStaleEpoch,
                         .epoch = Epoch(3),
                         .cause = "why",
                         .effect = "so what",
                         .mend = "do that",
                         .mac = id_of<Mac>(0x55)};
  expect_round_trip(encode(kVm, error), FrameType::kError, error, decode_error);
  const EpochInfo info{.epoch = Epoch(3),
                       .site = id_of<SiteId>(5),
                       .role = SiteRole::kPrimary,
                       .running = true,
                       .durable = some_end()};
  expect_round_trip(encode_epoch_query(kVm, info), FrameType::kEpochQuery, info, decode_epoch_info);
  expect_round_trip(encode_epoch_reply(kVm, info), FrameType::kEpochReply, info, decode_epoch_info);
  const Stop stop{.epoch = Epoch(3), .site = id_of<SiteId>(5)};
  expect_round_trip(encode_stop(kVm, stop), FrameType::kStop, stop, decode_stop);
}

// The bytes on the wire are a promise to the other site's release: they change only with the
// version.
std::string repeated(std::string_view byte, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += byte;
  return text;
}
std::string header_of(std::string_view type, std::string_view length) {
  return "48465250"
         "0200" +
         std::string(type) + "00" + std::string(length) + "00000000" + repeated("11", 16);
}

TEST(Wire, golden_bytes_of_a_sessions_beginning) {
  EXPECT_EQ(to_hex(encode(kVm, some_hello())), header_of("01", "88000000") + "0700000000000000" +
                                                   repeated("04", 16) + repeated("05", 16) + "09" +
                                                   repeated("00", 31) + repeated("66", 32) +
                                                   repeated("77", 32));
  EXPECT_EQ(to_hex(encode(kVm, some_answer())), header_of("02", "88000000") + "0800000000000000" +
                                                    repeated("66", 32) + repeated("77", 32) +
                                                    repeated("88", 64));
  EXPECT_EQ(to_hex(encode(kVm, Auth{.signature = some_answer().signature})),
            header_of("0d", "40000000") + repeated("88", 64));
  EXPECT_EQ(
      to_hex(encode(
          kVm, Begin{.durable = some_end(), .window_bytes = 16u << 20, .mac = id_of<Mac>(0x55)})),
      header_of("0e", "70000000") + repeated("22", 32) + "0504030201000000" + repeated("33", 32) +
          "00000001" + "00000000" + repeated("55", 32));
  EXPECT_EQ(to_hex(encode(kVm, Ack{.durable = some_end(), .mac = id_of<Mac>(0x55)})),
            header_of("04", "68000000") + repeated("22", 32) + "0504030201000000" +
                repeated("33", 32) + repeated("55", 32));
}

TEST(Wire, golden_bytes_of_records_and_error) {
  const Bytes records(journal::kRecordAlignment, std::byte{0xaa});
  const Bytes bytes = encode(
      kVm, Records{.home_durable = Sequence(5), .records = records, .mac = id_of<Mac>(0x55)});
  EXPECT_EQ(
      to_hex(ByteSpan(bytes).first(kFrameHeaderSize + kRecordsPrefixSize)),
      header_of("03", "70000000") + "0500000000000000" + "0000000000000000" + repeated("55", 32));
  EXPECT_EQ(to_hex(encode(kVm, ErrorFrame{.refusal = Refusal::kDiverged,
                                          .epoch = Epoch(2),
                                          .cause = "c",
                                          .effect = "ef",
                                          .mend = ""})),
            header_of("05", "3b000000") + "04000000" + "0200000000000000" + "01000000" +
                "02000000" + "00000000" + repeated("00", 32) + "63" + "6566");
}

TEST(Wire, refuses_headers_it_could_not_have_written) {
  const Bytes good = encode(kVm, Ack{.durable = some_end()});
  for (const size_t at : {0u, 3u, 6u, 7u, 12u, 15u}) {
    Bytes bad = good;
    bad[at] ^= std::byte{0x80};
    EXPECT_EQ(decode_frame_header(bad).error().code, ErrorCode::kCorrupt) << at;
  }
  Bytes version = good;
  version[4] = std::byte{3};
  EXPECT_EQ(decode_frame_header(version).error().code, ErrorCode::kUnsupported);
  Bytes length = good;
  length[11] = std::byte{0x7f};
  EXPECT_EQ(decode_frame_header(length).error().code, ErrorCode::kCorrupt);
}

TEST(Wire, seed_frames_come_back_as_they_were_and_impossible_ones_are_refused) {
  const Bytes some(100, std::byte{9});
  const Bytes seed = encode(kVm, Seed{.description = some});
  EXPECT_TRUE(std::ranges::equal(decode_seed_frame(decode_frame(seed)->body)->description, some));
  const Bytes part = encode(kVm, SeedBytes{.offset = 7, .bytes = some});
  EXPECT_EQ(decode_seed_bytes(decode_frame(part)->body)->offset, 7u);
  EXPECT_TRUE(std::ranges::equal(decode_seed_bytes(decode_frame(part)->body)->bytes, some));
  const SeedAck ack{.taken = 5, .total = 5, .installed = true, .mac = id_of<Mac>(0x55)};
  const Bytes good = encode(kVm, ack);
  EXPECT_EQ(to_hex(good), header_of("0c", "38000000") + "0500000000000000" + "0500000000000000" +
                              "0100000000000000" + repeated("55", 32));
  EXPECT_EQ(*decode_seed_ack(decode_frame(good)->body), ack);
  EXPECT_FALSE(decode_seed_frame({}).ok());
  EXPECT_FALSE(decode_seed_bytes(Bytes(kSeedBytesPrefixSize)).ok());
  EXPECT_FALSE(decode_seed_bytes(Bytes(kSeedBytesPrefixSize + journal::kSeedReadMax + 1)).ok());
  for (const size_t at : {0u, 16u, 17u}) {  // more taken than there is; flags
    Bytes bad = good;
    bad[kFrameHeaderSize + at] ^= std::byte{2};
    EXPECT_FALSE(decode_seed_ack(decode_frame(bad)->body).ok()) << at;
  }
}

TEST(Wire, refuses_numbers_that_nobody_could_count_on_from) {
  const uint64_t over = kNumberMax + 1;
  const auto body = [](const Bytes& bytes) { return ByteSpan(bytes).subspan(kFrameHeaderSize); };
  journal::LineEnd far = some_end();
  far.position.sequence = Sequence(over);
  EXPECT_FALSE(decode_hello(body(encode(kVm, Hello{.epoch = Epoch(over)}))).ok());
  EXPECT_FALSE(decode_ack(body(encode(kVm, Ack{.durable = far}))).ok());
  const Bytes records(journal::kRecordAlignment);
  EXPECT_FALSE(
      decode_records(body(encode(kVm, Records{.home_durable = Sequence(over), .records = records})))
          .ok());
  EXPECT_FALSE(decode_error(body(encode(kVm, ErrorFrame{.epoch = Epoch(over)}))).ok());
  const EpochInfo info{.epoch = Epoch(over), .site = {}, .durable = {}};
  EXPECT_FALSE(decode_epoch_info(body(encode_epoch_query(kVm, info))).ok());
  EXPECT_FALSE(decode_stop(body(encode_stop(kVm, {.epoch = Epoch(over), .site = {}}))).ok());
  EXPECT_FALSE(
      decode_seed_bytes(body(encode(kVm, SeedBytes{.offset = over, .bytes = records}))).ok());
  EXPECT_FALSE(decode_seed_ack(body(encode(kVm, SeedAck{.taken = over, .total = over}))).ok());
  // At the limit they are numbers like others.
  EXPECT_TRUE(decode_hello(body(encode(kVm, Hello{.epoch = Epoch(kNumberMax)}))).ok());
}

TEST(Wire, error_texts_are_bounded_and_without_control_characters) {
  const Bytes bytes = encode(
      kVm, ErrorFrame{.cause = std::string(5000, 'x') + "\x1b[2J", .effect = "a\x1b[31mb\n\u202e"});
  const auto error = decode_error(decode_frame(bytes)->body);
  ASSERT_TRUE(error.ok());
  EXPECT_EQ(error->cause.size(), kErrorTextMax);
  EXPECT_EQ(error->effect, "a [31mb  ");
}

TEST(FrameReader, cuts_a_stream_into_frames_whatever_the_pieces) {
  Bytes stream;
  for (uint64_t i = 1; i <= 5; i++) {
    const Bytes frame = encode_stop(kVm, {.epoch = Epoch(i), .site = {}});
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  for (const size_t piece : {1u, 7u, 33u, 1000u}) {
    FrameReader reader;
    uint64_t seen = 0;
    for (size_t at = 0; at < stream.size(); at += piece) {
      reader.push(ByteSpan(stream).subspan(at, std::min(piece, stream.size() - at)));
      for (;;) {
        const auto frame = reader.next();
        ASSERT_TRUE(frame.ok());
        if (!frame->has_value()) break;
        EXPECT_EQ(decode_stop((*frame)->body)->epoch, Epoch(++seen));
      }
    }
    EXPECT_EQ(seen, 5u);
  }
}

}  // namespace
}  // namespace hf::replication
