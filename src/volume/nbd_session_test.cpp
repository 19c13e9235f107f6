#include "volume/nbd_session.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "volume/memory_volume.h"
#include "volume/testing.h"

namespace hf::volume {
namespace {

using nbd::Command;
using nbd::Option;
using nbd::OptionReply;
using nbd::WireError;

constexpr uint64_t kSize = uint64_t{64} << 20;

template <std::unsigned_integral T>
void put(Bytes& out, T value) {
  out.resize(out.size() + sizeof value);
  store_be(out.data() + out.size() - sizeof value, value);
}
void put(Bytes& out, ByteSpan bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

// Passes requests on, or keeps them until the test lets them go, or fails them.
class ControlledVolume final : public Volume {
 public:
  explicit ControlledVolume(Volume& under) : under_(under) {}
  uint64_t size_bytes() const override { return under_.size_bytes(); }
  uint32_t block_bytes() const override { return block; }
  void submit(Request& request) override {
    check(request);
    operations.push_back(request.operation);
    fua.push_back(request.fua);
    data_in_flight += request.data == nullptr ? 0 : request.length;
    data_in_flight_max = std::max(data_in_flight_max, data_in_flight);
    held.push_back(&request);
    if (!hold) release();
  }
  void release() {
    std::vector<Request*> now = std::exchange(held, {});
    for (Request* request : now) {
      data_in_flight -= request->data == nullptr ? 0 : request->length;
      under_.submit(*request);
    }
  }
  void fail(size_t index, Error error) {
    Request* request = held[index];
    held.erase(held.begin() + static_cast<std::ptrdiff_t>(index));
    request->on_done(std::move(error));
  }

  bool hold = false;
  uint32_t block = 1;
  uint64_t data_in_flight = 0;
  uint64_t data_in_flight_max = 0;
  std::vector<Request*> held;
  std::vector<Operation> operations;
  std::vector<bool> fua;

 private:
  Volume& under_;
};

// A client in the test's hands.
class Client : public ::testing::Test {
 protected:
  void give(ByteSpan bytes, size_t cut = ~size_t{0}) {
    while (!bytes.empty()) {
      MutableByteSpan space = session->input();
      size_t count = std::min({space.size(), bytes.size(), cut});
      if (count == 0) {
        scheduler.run_all();
        out(testing::take_output(*session));
        space = session->input();
        if (space.empty()) break;
        continue;
      }
      std::ranges::copy(bytes.first(count), space.begin());
      session->received(count);
      bytes = bytes.subspan(count);
    }
    scheduler.run_all();
    out(testing::take_output(*session));
  }
  void out(const Bytes& bytes) { output.insert(output.end(), bytes.begin(), bytes.end()); }
  ByteSpan take(size_t size) {
    HF_ASSERT(output.size() - taken >= size);
    ByteSpan bytes = ByteSpan(output).subspan(taken, size);
    taken += size;
    return bytes;
  }
  template <std::unsigned_integral T>
  T take() {
    return load_be<T>(take(sizeof(T)).data());
  }
  size_t left() const { return output.size() - taken; }

  void say_hello(uint32_t flags = 3) {
    Bytes hello;
    put(hello, flags);
    give(hello);
    EXPECT_EQ(take<uint64_t>(), nbd::kInitMagic);
    EXPECT_EQ(take<uint64_t>(), nbd::kOptionMagic);
    EXPECT_EQ(take<uint16_t>(), 3);
  }
  void send_option(Option option, ByteSpan data = {}) {
    Bytes bytes;
    put(bytes, nbd::kOptionMagic);
    put(bytes, static_cast<uint32_t>(option));
    put(bytes, static_cast<uint32_t>(data.size()));
    put(bytes, data);
    give(bytes);
  }
  // The type of the next option reply; its data is in reply_data.
  OptionReply option_reply(Option option) {
    EXPECT_EQ(take<uint64_t>(), nbd::kOptionReplyMagic);
    EXPECT_EQ(take<uint32_t>(), static_cast<uint32_t>(option));
    auto type = static_cast<OptionReply>(take<uint32_t>());
    ByteSpan data = take(take<uint32_t>());
    reply_data.assign(data.begin(), data.end());
    return type;
  }
  static Bytes go_data(std::string_view name) {
    Bytes data;
    put(data, static_cast<uint32_t>(name.size()));
    put(data, as_bytes(name));
    put(data, uint16_t{0});
    return data;
  }
  void start(bool structured) {
    say_hello();
    if (structured) {
      send_option(Option::kStructuredReply);
      EXPECT_EQ(option_reply(Option::kStructuredReply), OptionReply::kAck);
    }
    send_option(Option::kGo, go_data("disk"));
    EXPECT_EQ(option_reply(Option::kGo), OptionReply::kInfo);
    EXPECT_EQ(option_reply(Option::kGo), OptionReply::kInfo);
    EXPECT_EQ(option_reply(Option::kGo), OptionReply::kAck);
    ASSERT_TRUE(session->in_transmission());
  }
  static Bytes request(Command command, uint64_t cookie, uint64_t offset, uint32_t length,
                       uint16_t flags = 0) {
    Bytes bytes;
    put(bytes, nbd::kRequestMagic);
    put(bytes, flags);
    put(bytes, static_cast<uint16_t>(command));
    put(bytes, cookie);
    put(bytes, offset);
    put(bytes, length);
    return bytes;
  }
  static Bytes write(uint64_t cookie, uint64_t offset, ByteSpan data, uint16_t flags = 0) {
    Bytes bytes =
        request(Command::kWrite, cookie, offset, static_cast<uint32_t>(data.size()), flags);
    put(bytes, data);
    return bytes;
  }
  WireError simple_reply(uint64_t cookie) {
    EXPECT_EQ(take<uint32_t>(), nbd::kSimpleReplyMagic);
    auto error = static_cast<WireError>(take<uint32_t>());
    EXPECT_EQ(take<uint64_t>(), cookie);
    return error;
  }
  // All chunks of one structured reply to a read of [offset, offset + size).
  WireError read_chunks(uint64_t cookie, uint64_t offset, MutableByteSpan to) {
    WireError error = WireError::kNone;
    for (;;) {
      EXPECT_EQ(take<uint32_t>(), nbd::kChunkMagic);
      auto flags = take<uint16_t>();
      auto type = take<uint16_t>();
      EXPECT_EQ(take<uint64_t>(), cookie);
      auto length = take<uint32_t>();
      if (type == nbd::kChunkOffsetData) {
        auto at = take<uint64_t>() - offset;
        std::ranges::copy(take(length - 8), to.begin() + static_cast<std::ptrdiff_t>(at));
      } else if (type == nbd::kChunkError) {
        error = static_cast<WireError>(take<uint32_t>());
        (void)take(take<uint16_t>());
      } else {
        EXPECT_EQ(length, 0U);
      }
      if ((flags & nbd::kChunkDone) != 0) return error;
    }
  }
  static Bytes pattern(size_t size, unsigned seed) {
    Bytes bytes(size);
    for (size_t i = 0; i < size; ++i) {
      bytes[i] = static_cast<std::byte>((i * 2654435761U + seed * 97U) >> 11);
    }
    return bytes;
  }
  void TearDown() override {
    volume.hold = false;
    if (session != nullptr) {
      session->abandon();
      volume.release();
      scheduler.run_all();
    }
  }

  testing::ManualScheduler scheduler;
  MemoryVolume memory{scheduler, kSize};
  ControlledVolume volume{memory};
  NbdExport offered{.name = "disk", .description = "a disk", .volume = &volume};
  testing::SessionOwner owner;
  std::unique_ptr<NbdSession> session = std::make_unique<NbdSession>(owner, offered);
  Bytes output;
  size_t taken = 0;
  Bytes reply_data;
};

using NbdHandshakeTest = Client;
using NbdSessionTest = Client;

TEST_F(NbdHandshakeTest, tells_size_flags_and_block_sizes) {
  say_hello();
  Bytes data;
  put(data, uint32_t{0});
  put(data, uint16_t{2});
  put(data, uint16_t{1});
  put(data, uint16_t{2});
  send_option(Option::kInfo, data);
  EXPECT_EQ(option_reply(Option::kInfo), OptionReply::kInfo);
  EXPECT_EQ(as_text(ByteSpan(reply_data).subspan(2)), "disk");
  EXPECT_EQ(option_reply(Option::kInfo), OptionReply::kInfo);
  EXPECT_EQ(as_text(ByteSpan(reply_data).subspan(2)), "a disk");
  EXPECT_EQ(option_reply(Option::kInfo), OptionReply::kInfo);
  EXPECT_EQ(load_be<uint32_t>(reply_data.data() + 10), 32U << 20);
  EXPECT_EQ(option_reply(Option::kInfo), OptionReply::kInfo);
  EXPECT_EQ(load_be<uint64_t>(reply_data.data() + 2), kSize);
  unsigned flags = load_be<uint16_t>(reply_data.data() + 10);
  EXPECT_EQ(flags & nbd::kSendDf, 0U);  // only with structured replies
  EXPECT_NE(flags & nbd::kCanMultiConn, 0U);
  EXPECT_EQ(option_reply(Option::kInfo), OptionReply::kAck);
  EXPECT_FALSE(session->in_transmission());
}

TEST_F(NbdHandshakeTest, lists_aborts_and_refuses_other_names) {
  say_hello();
  send_option(Option::kList);
  EXPECT_EQ(option_reply(Option::kList), OptionReply::kServer);
  EXPECT_EQ(as_text(ByteSpan(reply_data).subspan(4)), "disk");
  EXPECT_EQ(option_reply(Option::kList), OptionReply::kAck);
  send_option(Option::kGo, go_data("other"));
  EXPECT_EQ(option_reply(Option::kGo), OptionReply::kUnknownExport);
  send_option(Option::kStartTls);
  EXPECT_EQ(option_reply(Option::kStartTls), OptionReply::kUnsupported);
  send_option(static_cast<Option>(77), as_bytes("data"));
  EXPECT_EQ(option_reply(static_cast<Option>(77)), OptionReply::kUnsupported);
  send_option(Option::kAbort);
  EXPECT_EQ(option_reply(Option::kAbort), OptionReply::kAck);
  EXPECT_TRUE(session->finished());
}

TEST_F(NbdHandshakeTest, serves_old_clients_by_export_name) {
  say_hello(1);  // wants the 124 zeroes
  send_option(Option::kExportName, as_bytes("disk"));
  EXPECT_EQ(take<uint64_t>(), kSize);
  (void)take<uint16_t>();
  EXPECT_EQ(left(), 124U);
  EXPECT_TRUE(session->in_transmission());
}

TEST_F(NbdHandshakeTest, closes_on_unknown_client_flags_or_magic) {
  say_hello(7);
  EXPECT_TRUE(session->finished());
  session = std::make_unique<NbdSession>(owner, offered);
  Bytes bytes;
  put(bytes, uint32_t{3});
  put(bytes, uint64_t{1});
  put(bytes, uint64_t{0});
  give(bytes);
  EXPECT_TRUE(session->finished());
}

TEST_F(NbdHandshakeTest, bounds_option_data_and_the_number_of_options) {
  say_hello();
  send_option(Option::kGo, Bytes(NbdHandshake::kOptionDataMax + 1));
  EXPECT_EQ(option_reply(Option::kGo), OptionReply::kTooBig);
  Bytes wrong_length = go_data("disk");
  wrong_length[3] = std::byte{200};
  send_option(Option::kGo, wrong_length);
  EXPECT_EQ(option_reply(Option::kGo), OptionReply::kInvalid);
  for (size_t i = 0; i < NbdHandshake::kOptionsMax && !session->finished(); ++i) {
    send_option(Option::kList);
  }
  EXPECT_TRUE(session->finished());
}

TEST_F(NbdHandshakeTest, closes_on_an_option_that_is_far_too_long) {
  say_hello();
  Bytes bytes;
  put(bytes, nbd::kOptionMagic);
  put(bytes, uint32_t{7});
  put(bytes, ~uint32_t{0});
  give(bytes);
  EXPECT_TRUE(session->finished());
}

TEST_F(NbdSessionTest, reads_what_was_written_however_the_bytes_are_cut) {
  start(true);
  for (size_t cut : {size_t{1}, size_t{27}, size_t{4096}, ~size_t{0}}) {
    Bytes data = pattern(10'000, static_cast<unsigned>(cut));
    give(write(cut, 12'345, data), cut);
    EXPECT_EQ(simple_reply(cut), WireError::kNone);
    give(request(Command::kRead, 99, 12'345, 10'000), cut);
    Bytes read(data.size());
    EXPECT_EQ(read_chunks(99, 12'345, read), WireError::kNone);
    EXPECT_EQ(read, data);
  }
  EXPECT_EQ(left(), 0U);
}

TEST_F(NbdSessionTest, passes_32_mib_through_in_bounded_memory) {
  start(true);
  Bytes data = pattern(32 << 20, 3);
  give(write(1, 4096, data));
  EXPECT_EQ(simple_reply(1), WireError::kNone);
  give(request(Command::kRead, 2, 4096, 32 << 20));
  Bytes read(data.size());
  while (session->has_output() || !session->idle()) {
    scheduler.run_all();
    out(testing::take_output(*session));
  }
  EXPECT_EQ(read_chunks(2, 4096, read), WireError::kNone);
  EXPECT_TRUE(read == data);
  EXPECT_LE(volume.data_in_flight_max, NbdSession::kLargeBuffers * NbdSession::kPieceMax);
}

TEST_F(NbdSessionTest, a_client_that_does_not_read_is_made_to_wait) {
  start(true);
  volume.hold = true;
  Bytes bytes = request(Command::kRead, 1, 0, 32 << 20);
  for (int i = 0; i < 5000; ++i) put(bytes, request(Command::kRead, 2, 0, 4096));
  size_t accepted = 0;
  while (accepted < bytes.size()) {
    MutableByteSpan space = session->input();
    if (space.empty()) break;
    size_t count = std::min(space.size(), bytes.size() - accepted);
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(accepted), count, space.begin());
    session->received(count);
    accepted += count;
  }
  EXPECT_LT(accepted, bytes.size());
  EXPECT_LE(volume.held.size(), NbdSession::kLargeBuffers);
}

TEST_F(NbdSessionTest, more_small_requests_than_pieces_are_all_answered) {
  start(true);
  volume.hold = true;
  Bytes bytes;
  for (uint64_t i = 0; i < 200; ++i) put(bytes, request(Command::kRead, i, 0, 512));
  give(bytes);
  EXPECT_EQ(volume.held.size(), NbdSession::kPieces);
  volume.hold = false;
  volume.release();
  give({});
  while (session->has_output() || !session->idle()) give({});
  Bytes read(512);
  for (uint64_t i = 0; i < 200; ++i) EXPECT_EQ(read_chunks(i, 0, read), WireError::kNone);
  EXPECT_EQ(left(), 0U);
}

TEST_F(NbdSessionTest, answers_in_the_order_of_completion) {
  start(true);
  volume.hold = true;
  give(request(Command::kRead, 1, 0, 512));
  give(request(Command::kFlush, 2, 0, 0));
  ASSERT_EQ(volume.held.size(), 2U);
  Request* flush = volume.held[1];
  volume.held.pop_back();
  flush->on_done({});
  give({});
  EXPECT_EQ(simple_reply(2), WireError::kNone);
  volume.release();
  give({});
  Bytes read(512);
  EXPECT_EQ(read_chunks(1, 0, read), WireError::kNone);
}

TEST_F(NbdSessionTest, without_structured_replies_large_reads_run_alone_and_in_order) {
  start(false);
  Bytes data = pattern(1 << 20, 9);
  give(write(1, 0, data));
  EXPECT_EQ(simple_reply(1), WireError::kNone);
  Bytes bytes = request(Command::kRead, 2, 0, 512);
  put(bytes, request(Command::kRead, 3, 0, 1 << 20));
  put(bytes, request(Command::kFlush, 4, 0, 0));
  give(bytes);
  while (session->has_output() || !session->idle()) give({});
  EXPECT_EQ(simple_reply(2), WireError::kNone);
  (void)take(512);
  EXPECT_EQ(simple_reply(3), WireError::kNone);
  EXPECT_TRUE(std::ranges::equal(take(1 << 20), data));
  EXPECT_EQ(simple_reply(4), WireError::kNone);
}

TEST_F(NbdSessionTest, a_simple_read_that_fails_after_its_header_ends_the_connection) {
  start(false);
  volume.hold = true;
  give(request(Command::kRead, 1, 0, 1 << 20));
  ASSERT_EQ(volume.held.size(), 1U);
  volume.release();
  give({});
  ASSERT_EQ(volume.held.size(), 1U);
  volume.fail(0, Error{.code = ErrorCode::kCorrupt, .cause = "tag differs"});
  give({});
  EXPECT_TRUE(session->finished());
}

TEST_F(NbdSessionTest, a_failed_piece_is_an_error_chunk_with_no_data) {
  start(true);
  volume.hold = true;
  give(request(Command::kRead, 1, 0, 512 << 10));
  ASSERT_EQ(volume.held.size(), 2U);
  volume.fail(0, Error{.code = ErrorCode::kCorrupt, .cause = "tag differs"});
  volume.release();
  give({});
  Bytes read(512 << 10);
  EXPECT_EQ(read_chunks(1, 0, read), WireError::kIo);
}

TEST_F(NbdSessionTest, fua_goes_down_with_one_piece_and_is_a_flush_after_many) {
  start(true);
  give(write(1, 0, pattern(4096, 1), nbd::kCommandFua));
  EXPECT_EQ(simple_reply(1), WireError::kNone);
  EXPECT_EQ(volume.fua, std::vector<bool>{true});
  volume.operations.clear();
  volume.hold = true;
  give(write(2, 0, pattern(600 << 10, 1), nbd::kCommandFua));
  EXPECT_EQ(volume.operations, (std::vector<Operation>(3, Operation::kWrite)));
  volume.release();
  give({});
  ASSERT_EQ(volume.operations.size(), 4U);
  EXPECT_EQ(volume.operations.back(), Operation::kFlush);
  EXPECT_EQ(left(), 0U);  // not before the flush is done
  volume.release();
  give({});
  EXPECT_EQ(simple_reply(2), WireError::kNone);
}

TEST_F(NbdSessionTest, trims_and_writes_zeroes) {
  start(true);
  give(write(1, 0, pattern(8192, 5)));
  EXPECT_EQ(simple_reply(1), WireError::kNone);
  give(request(Command::kTrim, 2, 0, 1000));
  EXPECT_EQ(simple_reply(2), WireError::kNone);
  give(request(Command::kWriteZeroes, 3, 4096, 4096, nbd::kCommandNoHole | nbd::kCommandFastZero));
  EXPECT_EQ(simple_reply(3), WireError::kNone);
  Bytes expected = pattern(8192, 5);
  std::fill_n(expected.begin(), 1000, std::byte{0});
  std::fill_n(expected.begin() + 4096, 4096, std::byte{0});
  give(request(Command::kRead, 4, 0, 8192));
  Bytes read(8192);
  EXPECT_EQ(read_chunks(4, 0, read), WireError::kNone);
  EXPECT_EQ(read, expected);
}

TEST_F(NbdSessionTest, refuses_what_is_outside_unaligned_or_unknown_and_stays_in_step) {
  volume.block = 512;
  start(true);
  Bytes read;
  give(write(1, kSize - 512, Bytes(1024)));
  EXPECT_EQ(simple_reply(1), WireError::kNoSpace);
  give(write(2, 100, Bytes(512)));
  EXPECT_EQ(simple_reply(2), WireError::kInvalid);
  give(request(Command::kRead, 3, ~uint64_t{0} - 100, 512));
  EXPECT_EQ(read_chunks(3, 0, read), WireError::kInvalid);
  give(request(Command::kTrim, 4, kSize, 512));
  EXPECT_EQ(simple_reply(4), WireError::kInvalid);
  give(request(Command::kBlockStatus, 5, 0, 512));
  EXPECT_EQ(simple_reply(5), WireError::kInvalid);
  give(request(static_cast<Command>(999), 6, 0, 512));
  EXPECT_EQ(simple_reply(6), WireError::kInvalid);
  give(request(Command::kFlush, 7, 1, 1));
  EXPECT_EQ(simple_reply(7), WireError::kInvalid);
  give(request(Command::kTrim, 8, 0, 512, nbd::kCommandDf));
  EXPECT_EQ(simple_reply(8), WireError::kInvalid);
  give(request(Command::kRead, 9, 0, 512 << 10, nbd::kCommandDf));
  EXPECT_EQ(read_chunks(9, 0, read), WireError::kOverflow);
  give(request(Command::kRead, 10, 0, 0));
  EXPECT_EQ(read_chunks(10, 0, read), WireError::kNone);
  give(request(Command::kFlush, 11, 0, 0));
  EXPECT_EQ(simple_reply(11), WireError::kNone);
  EXPECT_EQ(left(), 0U);
  EXPECT_FALSE(session->finished());
}

TEST_F(NbdSessionTest, closes_on_a_wrong_magic_and_on_a_write_beyond_32_mib) {
  start(true);
  give(Bytes(28));
  EXPECT_TRUE(session->finished());
  session = std::make_unique<NbdSession>(owner, offered);
  start(true);
  give(request(Command::kWrite, 1, 0, (32 << 20) + 512));
  EXPECT_TRUE(session->finished());
}

TEST_F(NbdSessionTest, goodbye_waits_for_the_answers_that_are_due) {
  start(true);
  volume.hold = true;
  give(write(1, 0, Bytes(512)));
  give(request(Command::kDisconnect, 2, 0, 0));
  EXPECT_FALSE(session->finished());
  volume.release();
  give({});
  EXPECT_EQ(simple_reply(1), WireError::kNone);
  EXPECT_TRUE(session->finished());
}

TEST_F(NbdSessionTest, output_in_small_pieces_loses_nothing) {
  start(true);
  Bytes data = pattern(3000, 8);
  give(write(1, 0, data));
  EXPECT_EQ(simple_reply(1), WireError::kNone);
  Bytes bytes = request(Command::kRead, 2, 0, 3000);
  std::ranges::copy(bytes, session->input().begin());
  session->received(bytes.size());
  scheduler.run_all();
  while (session->has_output()) out(testing::take_output(*session, 7));
  Bytes read(3000);
  EXPECT_EQ(read_chunks(2, 0, read), WireError::kNone);
  EXPECT_EQ(read, data);
}

}  // namespace
}  // namespace hf::volume
