#include "vtpm/control_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>

#include "sys/testing.h"
#include "sys/unix_socket.h"
#include "vtpm/tpm_test_support.h"

namespace hf::vtpm {
namespace {

using std::chrono::milliseconds;

Bytes hex(std::string_view text) { return std::move(from_hex(text)).value(); }

// A client of the control or data channel. Every wait is bounded.
class Client {
 public:
  explicit Client(sys::UniqueFd fd) : fd_(std::move(fd)) {}
  void send(ByteSpan bytes) {
    ASSERT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  bool readable(int timeout_ms) {
    pollfd fd{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&fd, 1, timeout_ms) == 1;
  }
  // As many bytes as the answer has; "" at the end of the connection, "timeout" after 5 s.
  std::string receive(size_t size) {
    Bytes out;
    while (out.size() < size) {
      if (!readable(5000)) return "timeout";
      std::array<std::byte, 8192> buffer;
      const ssize_t n =
          ::recv(fd_.get(), buffer.data(), std::min(buffer.size(), size - out.size()), 0);
      if (n <= 0) return "";
      out.insert(out.end(), buffer.begin(), buffer.begin() + n);
    }
    return to_hex(out);
  }
  std::string ask(std::string_view request, size_t answer_size) {
    send(hex(request));
    return receive(answer_size);
  }
  void close() { fd_.reset(); }
  int fd() const { return fd_.get(); }

 private:
  sys::UniqueFd fd_;
};

class ControlServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hf-vtpm-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    engine_ = std::move(Engine::create({.store = &store_})).value();
  }
  void TearDown() override {
    server_.reset();
    ::unlink(path().c_str());
    ::rmdir(directory_.c_str());
  }
  std::string path() const { return directory_ + "/s"; }

  void start(BlobSealer* sealer) {
    ControlServerOptions options{
        .listener = std::move(sys::listen_unix(path(), sys::SocketType::kStream)).value(),
        .sealer = sealer,
        .on_state = [this](ControlState state) {
          const std::lock_guard lock(mutex_);
          states_.push_back(state);
          changed_.notify_all();
        }};
    server_ = std::make_unique<ControlServer>(*engine_, std::move(options));
    server_->start();
  }
  Client connect() {
    return Client(std::move(sys::connect_unix(path(), sys::SocketType::kStream)).value());
  }
  bool wait_states(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, milliseconds(5000), [&] { return states_.size() >= count; });
  }

  // QEMU's opening: the data socket by SCM_RIGHTS.
  Client pass_data_fd(Client& control, int type = SOCK_STREAM) {
    int pair[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
    const sys::UniqueFd theirs(pair[1]);
    pass(control, theirs.get());
    return Client(sys::UniqueFd(pair[0]));
  }
  void pass(Client& control, int fd) {
    const int fds[] = {fd};
    EXPECT_TRUE(sys::send_with_fds(control.fd(), hex("00000010"), fds).ok());
  }

  MemoryStateStore store_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<ControlServer> server_;
  std::string directory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ControlState> states_;
};

constexpr std::string_view kReadClock = "80010000000a00000181";

TEST_F(ControlServerTest, follows_qemus_order_over_a_machines_life) {
  start(nullptr);
  Client control = connect();
  Client data = pass_data_fd(control);
  EXPECT_EQ(control.receive(4), "00000000");
  EXPECT_EQ(data.ask(kReadClock, 10), "80010000000a00000101") << "the probe before INIT";
  EXPECT_EQ(control.ask("00000001", 8), "0000000000017cff") << "no sealer: no migration";
  for (const std::string_view buffer : {"00000000", "00000f80"}) {
    EXPECT_EQ(control.ask("0000000e", 4), "00000000");
    EXPECT_EQ(control.ask("00000011" + std::string(buffer), 16).substr(0, 8), "00000000");
  }
  EXPECT_EQ(control.ask("0000000200000000", 4), "00000000");
  EXPECT_EQ(control.ask("00000004", 8), "0000000000000000");
  EXPECT_EQ(control.ask("0000000500000000", 4), "00000000");
  EXPECT_EQ(data.ask("80010000000c000001440000", 10), "80010000000a00000000");
  EXPECT_EQ(server_->state(), ControlState::kConnected);
  EXPECT_EQ(control.ask("00000003", 4), "00000000");
  EXPECT_FALSE(engine_->running());
}

TEST_F(ControlServerTest, frames_by_command_and_not_by_read) {
  start(nullptr);
  Client control = connect();
  for (const std::byte byte : hex("0000000200000000")) {
    EXPECT_FALSE(control.readable(2));
    control.send(ByteSpan(&byte, 1));
  }
  EXPECT_EQ(control.receive(4), "00000000");
  EXPECT_EQ(control.ask("00000006", 4), "00000000");
  control.send(hex("0000000700000003"));
  EXPECT_FALSE(control.readable(2));
  EXPECT_EQ(control.ask("616263", 4), "00000000");
  EXPECT_EQ(control.ask("00000008", 4), "00000000");
  EXPECT_EQ(control.ask("00000004", 8), "0000000001000000") << "a DRTM was established";
  // libtpms keeps the flag for the process's life.
  EXPECT_EQ(control.ask("0000000b03000000", 4), "00000000");
  EXPECT_EQ(control.ask("00000004", 8), "0000000000000000");
}

// Swtpm takes all that one read gave it for one request. As it answers, so do we; e2e.vtpm_peers
// compares.
TEST_F(ControlServerTest, gives_one_answer_to_a_client_that_does_not_wait_for_it) {
  start(nullptr);
  Client control = connect();
  const auto answers = [&](std::string_view frames, std::string_view answer) {
    EXPECT_EQ(control.ask(frames, answer.size() / 2), answer) << frames;
    EXPECT_FALSE(control.readable(20)) << "a second answer to " << frames;
    EXPECT_EQ(control.ask("0000000f", 8), "0000000000000000") << "after " << frames;
  };
  answers("000000020000000000000002", "00000003");
  EXPECT_FALSE(engine_->running()) << "nothing of what is refused is done";
  answers("0000000600000008", "0000000a");
  answers("0000000100000001", "0000000000017cff");
  answers(
      "0000000502000000"
      "00000009",
      "00000000");
  answers("000000050200000009", "00000000");
  const std::string sizes = control.ask("0000001100000000", 16);
  answers("00000011000000000000000e", sizes);
  answers("0000006300000002", "0000000a");
  EXPECT_EQ(control.ask("0000000200000000", 4), "00000000");
  // HASH_START, HASH_DATA with three bytes, HASH_END.
  answers("00000006000000070000000361626300000008", "00000003");
  answers("000000070000000361626300000008", "00000003");
  answers("0000000300000003", "00000003");
  answers("0000000e0000000e", "00000003");
  EXPECT_TRUE(engine_->running());
}

TEST_F(ControlServerTest, hashes_data_of_any_length_as_it_comes) {
  start(nullptr);
  Client control = connect();
  EXPECT_EQ(control.ask("0000000200000000", 4), "00000000");
  const auto pcr_after = [&](size_t size) {
    EXPECT_EQ(control.ask("00000006", 4), "00000000");
    for (size_t left = size; left > 0;) {
      const size_t frame = std::min<size_t>(left, 4096);
      control.send(hex("00000007"));
      control.send(result_answer(static_cast<uint32_t>(frame)));
      control.send(Bytes(frame, std::byte{'z'}));
      EXPECT_EQ(control.receive(4), "00000000");
      left -= frame;
    }
    EXPECT_EQ(control.ask("00000008", 4), "00000000");
    return GuestTpm(*engine_).read_pcr(17);
  };
  ASSERT_TRUE(engine_->process(startup_command(StartupType::kClear)).ok());
  for (const uint32_t size : {0U, 4096U, 4097U, 5000U, 3'000'000U}) {
    const Bytes in_pieces = pcr_after(size);
    EXPECT_EQ(control.ask("00000006", 4), "00000000");
    control.send(hex("00000007"));
    control.send(result_answer(size));
    const Bytes data(size, std::byte{'z'});
    for (ByteSpan rest(data); !rest.empty();) {
      const ByteSpan piece = rest.first(std::min<size_t>(rest.size(), 50'000));
      control.send(piece);
      rest = rest.subspan(piece.size());
    }
    EXPECT_EQ(control.receive(4), "00000000") << size;
    EXPECT_EQ(control.ask("00000008", 4), "00000000");
    EXPECT_EQ(GuestTpm(*engine_).read_pcr(17), in_pieces) << size;
  }
  control.send(hex("0000000700002000"));
  control.send(Bytes(0x2000 + 4, std::byte{0}));
  EXPECT_EQ(control.receive(4), "00000003") << "more than was announced";
  EXPECT_EQ(control.ask("0000000e", 4), "00000000");
  EXPECT_EQ(control.ask("00000007ffffffff", 4), "0000000a") << "refused before it has come";
  control.send(Bytes(100, std::byte{0}));
  EXPECT_FALSE(control.readable(20)) << "data is not taken for commands";
}

TEST_F(ControlServerTest, waits_a_moment_for_padding_and_no_longer) {
  start(nullptr);
  Client control = connect();
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(control.ask("0000000502", 4), "00000000");
  EXPECT_LT(std::chrono::steady_clock::now() - before, milliseconds(2000));
  control.send(hex("0000000502"));
  EXPECT_EQ(control.ask("000000", 4), "00000000");
  EXPECT_EQ(control.ask("0000000509000000", 4), "0000003d") << "bad locality";
}

TEST_F(ControlServerTest, gives_up_a_client_that_lies_about_lengths) {
  start(nullptr);
  Client control = connect();
  EXPECT_EQ(control.ask("0000000d0000000000000001ffffffff", 4), "00000003");
  EXPECT_EQ(control.receive(1), "");
  Client other = connect();
  EXPECT_EQ(other.ask("00000063", 4), "0000000a") << "unknown command";
  EXPECT_EQ(other.ask("0000000f", 8), "0000000000000000");
}

TEST_F(ControlServerTest, takes_a_data_socket_that_keeps_messages_apart) {
  start(nullptr);
  for (const int type : {SOCK_SEQPACKET, SOCK_DGRAM}) {
    Client control = connect();
    Client data = pass_data_fd(control, type);
    EXPECT_EQ(control.receive(4), "00000000");
    EXPECT_EQ(data.ask(kReadClock, 10), "80010000000a00000101") << "the probe before INIT";
    EXPECT_EQ(control.ask("0000000200000000", 4), "00000000");
    EXPECT_EQ(data.ask("80010000000c000001440000", 10), "80010000000a00000000");
    EXPECT_EQ(data.ask("80010000000b00000181", 10), "80010000000a00000142") << "of another length";
    EXPECT_EQ(data.ask("8001", 10), "80010000000a00000142") << "no header";
    data.send(Bytes(5000, std::byte{0}));
    EXPECT_EQ(data.receive(10), "80010000000a00000142") << "longer than any command";
    EXPECT_EQ(data.ask("80010000000c0000017b0004", 16).substr(0, 20), "80010000001000000000")
        << type;
    control.close();
    EXPECT_TRUE(wait_states(type == SOCK_SEQPACKET ? 2 : 4));
  }
}

TEST_F(ControlServerTest, refuses_at_once_what_can_carry_no_commands) {
  start(nullptr);
  Client control = connect();
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const sys::UniqueFd out(ends[0]);
  const sys::UniqueFd in(ends[1]);
  const sys::UniqueFd lonely(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sys::UniqueFd listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un any{.sun_family = AF_UNIX, .sun_path = {}};  // a name of the kernel's choice
  ASSERT_EQ(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any.sun_family),
            0);
  ASSERT_EQ(::listen(listening.get(), 1), 0);
  const sys::UniqueFd idle(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sys::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const sys::UniqueFd* fd : {&out, &in, &lonely, &listening, &idle, &null}) {
    pass(control, fd->get());
    EXPECT_EQ(control.receive(4), "00000003");
  }
  EXPECT_EQ(server_->state(), ControlState::kReady);
  Client data = pass_data_fd(control);
  EXPECT_EQ(control.receive(4), "00000000") << "a good one is still taken";
}

TEST_F(ControlServerTest, serves_the_next_qemu_when_one_has_died_and_only_one_at_a_time) {
  start(nullptr);
  for (size_t round = 0; round < 3; ++round) {
    Client control = connect();
    Client data = pass_data_fd(control);
    EXPECT_EQ(control.receive(4), "00000000");
    EXPECT_EQ(control.ask("0000000200000000", 4), "00000000");
    EXPECT_EQ(data.ask("80010000000c000001440000", 10), "80010000000a00000000");
    Client second = connect();
    EXPECT_EQ(second.receive(1), "") << "refused";
    control.close();
    data.close();
    ASSERT_TRUE(wait_states(2 * round + 2));
    EXPECT_FALSE(engine_->running()) << "powered off in good order";
  }
  EXPECT_EQ(states_,
            (std::vector{ControlState::kConnected, ControlState::kReady, ControlState::kConnected,
                         ControlState::kReady, ControlState::kConnected, ControlState::kReady}));
}

TEST_F(ControlServerTest, takes_cancel_while_a_command_runs) {
  start(nullptr);
  Client control = connect();
  Client data = pass_data_fd(control);
  EXPECT_EQ(control.receive(4), "00000000");
  EXPECT_EQ(control.ask("0000000200000000", 4), "00000000");
  EXPECT_EQ(data.ask("80010000000c000001440000", 10), "80010000000a00000000");
  // CreatePrimary RSA-3072 takes long. Whether the cancel comes in time or not, both are answered.
  Bytes area = CommandBuilder(0, 0)
                   .u16(kAlgRsa)
                   .u16(kAlgSha256)
                   .u32(0x00030472)
                   .u16(0)
                   .u16(kAlgAes)
                   .u16(128)
                   .u16(kAlgCfb)
                   .u16(kAlgNull)
                   .u16(3072)
                   .u32(0)
                   .u16(0)
                   .finish();
  data.send(CommandBuilder(kTagSessions, kCcCreatePrimary)
                .u32(kHandleOwner)
                .password()
                .u16(4)
                .u16(0)
                .u16(0)
                .sized(ByteSpan(area).subspan(kTpmHeaderSize))
                .u16(0)
                .u32(0)
                .finish());
  EXPECT_EQ(control.ask("00000009", 4), "00000000");
  const Bytes header = hex(data.receive(kTpmHeaderSize));
  ASSERT_EQ(header.size(), kTpmHeaderSize);
  const uint32_t code = load_be<uint32_t>(header.data() + 6);
  EXPECT_TRUE(code == kRcSuccess || code == 0x909) << std::hex << code;  // 0x909: TPM_RC_CANCELED
}

TEST_F(ControlServerTest, migrates_between_two_servers_sealed) {
  crypto::SystemRng rng;
  const crypto::Secret key(32);
  GspBlobSealer sealer(key, VmId{}, rng);
  start(&sealer);
  Client control = connect();
  EXPECT_EQ(control.ask("0000000200000000", 4), "00000000");
  ASSERT_TRUE(engine_->process(startup_command(StartupType::kClear)).ok());
  GuestTpm guest(*engine_);
  ASSERT_EQ(guest.extend_pcr(10, std::byte{3}), kRcSuccess);
  const Bytes pcr = guest.read_pcr(10);

  Bytes blobs[2];
  for (uint32_t type = 1; type <= 2; ++type) {
    const std::string head =
        control.ask("0000000c00000001" + to_hex(result_answer(type)) + "00000000", 16);
    ASSERT_EQ(head.substr(0, 16), "0000000000000002");
    const uint32_t length = load_be<uint32_t>(hex(head).data() + 12);
    blobs[type - 1] = hex(control.receive(length));
  }
  EXPECT_EQ(control.ask("0000000c000000010000000300000000", 16),
            "00000800000000000000000000000000");
  EXPECT_EQ(control.ask("0000000e", 4), "00000000");

  for (uint32_t type = 1; type <= 2; ++type) {
    const Bytes& blob = blobs[type - 1];
    control.send(hex("0000000d00000002"));
    control.send(result_answer(type));
    control.send(result_answer(static_cast<uint32_t>(blob.size())));
    control.send(ByteSpan(blob).first(100));
    control.send(ByteSpan(blob).subspan(100));
    EXPECT_EQ(control.receive(4), "00000000");
  }
  EXPECT_EQ(control.ask("0000000200000001", 4), "00000000");
  EXPECT_EQ(guest.read_pcr(10), pcr);
  // Altered on the way.
  EXPECT_EQ(control.ask("0000000e", 4), "00000000");
  blobs[0].back() ^= std::byte{1};
  control.send(hex("0000000d0000000200000001"));
  control.send(result_answer(static_cast<uint32_t>(blobs[0].size())));
  control.send(blobs[0]);
  EXPECT_EQ(control.receive(4), "00000021");
}

TEST_F(ControlServerTest, withholds_the_answer_of_a_command_that_was_not_stored) {
  start(nullptr);
  Client control = connect();
  Client data = pass_data_fd(control);
  EXPECT_EQ(control.receive(4), "00000000");
  EXPECT_EQ(control.ask("0000000200000000", 4), "00000000");
  EXPECT_EQ(data.ask("80010000000c000001440000", 10), "80010000000a00000000");
  store_.fail = true;
  data.send(hex("80010000000c000001450000"));  // TPM2_Shutdown writes NV
  EXPECT_FALSE(data.readable(300)) << "neither an answer nor the end";
  EXPECT_EQ(server_->state(), ControlState::kFailed);
  EXPECT_EQ(control.ask("0000000200000000", 4), "0000001f");
  store_.fail = false;
}

TEST_F(ControlServerTest, without_descriptors_left_it_does_not_burn_the_processor) {
  start(nullptr);
  sys::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  milliseconds spent{0};
  {
    const sys::testing::NoDescriptorsLeft none;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const milliseconds before = sys::testing::processor_time();
    std::this_thread::sleep_for(milliseconds(1000));
    spent = sys::testing::processor_time() - before;
  }
  EXPECT_LT(spent, milliseconds(200));
  Client control(std::move(socket));
  EXPECT_EQ(control.ask("0000000200000000", 4), "00000000") << "it was only kept waiting";
}

TEST_F(ControlServerTest, stops_with_clients_connected) {
  start(nullptr);
  Client control = connect();
  Client data = pass_data_fd(control);
  EXPECT_EQ(control.receive(4), "00000000");
  server_->stop();
  EXPECT_EQ(control.receive(1), "");
}

}  // namespace
}  // namespace hf::vtpm
