// For the tests of the link: sites with authorities of their own, the real process, a client beside
// it, and a site that breaks the rules.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include "launcher/process/process.h"
#include "link/tls_channel.h"
#include "peer/frame.h"
#include "peer/link_client.h"
#include "peer/trust.h"
#include "sys/bounded_io.h"
#include "sys/system_clock.h"

namespace hf::link::testing {

using namespace std::chrono_literals;
using peer::Millis;

inline Micros wall_now() { return sys::SystemClock().wall_time(); }

// A site's authority.
struct Authority {
  // `made`: by its clock.
  explicit Authority(uint8_t number, Micros made = wall_now())
      : key(crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256)),
        ca(crypto::make_ca(key, {.common_name = "ca", .now = made, .valid_days = 10})) {
    id.bytes[0] = std::byte{number};
  }
  crypto::Certificate issue(const crypto::SpkiKey& subject) const {
    return std::move(crypto::issue_leaf(ca, key, subject,
                                        {.common_name = "site",
                                         .dns_names = {},
                                         .ip_addresses = {},
                                         .uris = {"holdfast:site:" + id.hex()},
                                         .now = at.value_or(wall_now()),
                                         .valid_days = 10}))
        .value();
  }
  std::optional<Micros> at;  // what its clock shows, if that is another time than it is
  SiteId id;
  crypto::KeyPair key;
  crypto::Certificate ca;
};

inline VmId test_vm(uint8_t number) {
  VmId vm;
  vm.bytes[15] = std::byte{number};
  return vm;
}

struct BoundListener {
  sys::UniqueFd fd;
  std::string address;
};
inline BoundListener listen_tcp(const char* host = "127.0.0.1") {
  BoundListener listener;
  listener.fd.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  ::inet_pton(AF_INET, host, &any.sin_addr);
  HF_ASSERT(::bind(listener.fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) == 0);
  HF_ASSERT(::listen(listener.fd.get(), 4096) == 0);
  socklen_t size = sizeof any;
  ::getsockname(listener.fd.get(), reinterpret_cast<sockaddr*>(&any), &size);
  listener.address = std::string(host) + ":" + std::to_string(ntohs(any.sin_port));
  return listener;
}

// holdfast-link with its listeners, which outlive it as they do in the launcher.
class LinkProcess {
 public:
  explicit LinkProcess(const char* host = "127.0.0.1") : tcp_(listen_tcp(host)) {
    HF_ASSERT(::mkdtemp(dir_.data()) != nullptr);
    unix_ = std::move(sys::listen_unix(socket_path(), sys::SocketType::kSeqPacket)).value();
    start();
  }
  ~LinkProcess() {
    kill(SIGKILL);
    std::filesystem::remove_all(dir_);
  }
  LinkProcess(const LinkProcess&) = delete;
  LinkProcess& operator=(const LinkProcess&) = delete;

  void start() {
    launcher::ProcessSpec spec{
        .program = HOLDFAST_LINK_PROGRAM,
        .argv = {"holdfast-link"},
        .environment = {"PATH=/usr/bin:/bin"},
        .fds = {{.name = "link", .fd = unix_.get()}, {.name = "peers", .fd = tcp_.fd.get()}}};
    process_ = std::move(launcher::spawn(spec)).value();
  }
  void kill(int signal) {
    if (!process_.pidfd) return;
    static_cast<void>(launcher::send_signal(process_.pidfd.get(), signal));
    static_cast<void>(*sys::wait_ready(process_.pidfd.get(), POLLIN, 10s));
    exit_ = launcher::reap(process_.pidfd.get());
    read_log();
    process_.pidfd.reset();
  }
  bool alive() const {
    return process_.pidfd.valid() && !*sys::wait_ready(process_.pidfd.get(), POLLIN, 0ms);
  }
  std::optional<launcher::ExitStatus> exit() const { return exit_; }
  std::string socket_path() const { return dir_ + "/link.sock"; }
  const std::string& address() const { return tcp_.address; }
  pid_t pid() const { return process_.pid; }

  // KiB of its own memory.
  size_t own_memory_kib() const { return status_number("RssAnon:"); }
  size_t threads() const { return status_number("Threads:"); }
  // Of its processor time, user's and system's.
  Millis processor_time() const {
    std::ifstream stat("/proc/" + std::to_string(process_.pid) + "/stat");
    std::string line;
    std::getline(stat, line);
    std::istringstream fields(line.substr(line.rfind(')') + 1));
    std::string skipped;
    for (int field = 3; field < 14; ++field) fields >> skipped;
    long user = 0;
    long system = 0;
    fields >> user >> system;
    return Millis((user + system) * 1000 / ::sysconf(_SC_CLK_TCK));
  }
  size_t voluntary_switches() const { return status_number("voluntary_ctxt_switches:"); }
  size_t descriptors() const {
    const std::filesystem::path fds("/proc/" + std::to_string(process_.pid) + "/fd");
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(fds), {}));
  }
  const std::string& read_log() {
    char buffer[4096];
    for (ssize_t got = 0; (got = ::read(process_.stderr_pipe.get(), buffer, sizeof buffer)) > 0;)
      log_.append(buffer, static_cast<size_t>(got));
    return log_;
  }

 private:
  size_t status_number(const std::string& name) const {
    std::ifstream status("/proc/" + std::to_string(process_.pid) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with(name)) return std::strtoull(line.c_str() + name.size(), nullptr, 10);
    }
    return 0;
  }

  std::string dir_ = "/tmp/hf-link-XXXXXX";
  BoundListener tcp_;
  sys::UniqueFd unix_;
  launcher::Process process_;
  std::optional<launcher::ExitStatus> exit_;
  std::string log_;
};

// What happened, for tests that wait for it.
class Record {
 public:
  void stream(const peer::StreamEvent& event) {
    const std::lock_guard lock(mutex_);
    streams_.push_back(event);
    changed_.notify_all();
  }
  void peer(const peer::PeerState& state) {
    const std::lock_guard lock(mutex_);
    states_[state.site] = state;
    changed_.notify_all();
  }
  // The stream's first event of that kind; nullopt: none came in time.
  std::optional<peer::StreamEvent> wait_stream(peer::StreamId id, peer::StreamEvent::Kind kind,
                                               Millis limit = 10s) {
    std::optional<peer::StreamEvent> found;
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, limit, [&] {
      for (const peer::StreamEvent& event : streams_) {
        if (event.id == id && event.kind == kind) found = event;
      }
      return found.has_value();
    });
    return found;
  }
  bool wait_reach(SiteId site, peer::Reach reach, Millis limit = 10s) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, limit, [&] { return states_[site].reach == reach; });
  }
  peer::PeerState state(SiteId site) {
    const std::lock_guard lock(mutex_);
    return states_[site];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<peer::StreamEvent> streams_;
  std::map<SiteId, peer::PeerState> states_;
};

// A site: authority, process, client. Keepers are the test's own ends of socket pairs.
class Site {
 public:
  explicit Site(uint8_t number, const char* host = "127.0.0.1")
      : authority(number), process(host), name("site" + std::to_string(number)) {}
  ~Site() { client.reset(); }

  void run(std::vector<peer::PeerSettings> peers, peer::LinkClientOptions options = {}) {
    peer::LinkHandlers handlers;
    handlers.issue_leaf = [this](const std::string& pem) -> Result<std::string> {
      if (on_issue) on_issue();
      return authority.issue(TRY(crypto::SpkiKey::from_pem(pem))).to_pem();
    };
    handlers.on_request = [this](SiteId from, ByteSpan request, Millis limit) {
      return on_request ? on_request(from, request, limit)
                        : Result<Bytes>(Bytes(request.begin(), request.end()));
    };
    handlers.on_stream_asked = [this](const peer::StreamAsk& ask) { return take_stream(ask); };
    handlers.on_stream = [this](const peer::StreamEvent& event) { record.stream(event); };
    handlers.on_peer = [this](const peer::PeerState& state) { record.peer(state); };
    handlers.on_pairing = [this](peer::PairingSession& session) {
      if (on_pairing) on_pairing(session);
    };
    options.socket_path = process.socket_path();
    options.identity = {.site = authority.id, .name = name, .ca_pem = authority.ca.to_pem()};
    options.handlers = std::move(handlers);
    client = peer::LinkClient::start(std::move(options), std::move(peers));
    const Status ready = client->wait_ready(20s);
    ASSERT_TRUE(ready.ok()) << ready.error().describe() << process.read_log();
  }
  peer::PeerSettings as_peer(bool keep_connected = false) const {
    return {.site = authority.id,
            .name = name,
            .ca_pem = authority.ca.to_pem(),
            .address = process.address(),
            .keep_connected = keep_connected};
  }
  // Its end of the next incoming stream for that VM.
  sys::UniqueFd taken(VmId vm, peer::StreamId* id = nullptr) {
    std::unique_lock lock(mutex_);
    sys::UniqueFd end;
    changed_.wait_for(lock, 10s, [&] {
      const auto at = taken_.find(vm);
      if (at == taken_.end()) return false;
      end = std::move(at->second.first);
      if (id != nullptr) *id = at->second.second;
      taken_.erase(at);
      return true;
    });
    return end;
  }
  // Opens a stream to `other` and gives this side's end.
  sys::UniqueFd open(const Site& other, VmId vm, peer::StreamId* id = nullptr) {
    sys::SocketPair pair = std::move(sys::socket_pair(sys::SocketType::kStream)).value();
    const auto opened = client->open_stream(other.authority.id, vm, std::move(pair.first));
    EXPECT_TRUE(opened.ok());
    if (opened.ok() && id != nullptr) *id = *opened;
    return std::move(pair.second);
  }

  Authority authority;
  LinkProcess process;
  std::string name;
  Record record;
  std::function<Result<Bytes>(SiteId, ByteSpan, Millis)> on_request;
  std::function<std::optional<peer::StreamRefusal>(const peer::StreamAsk&)> refuse_stream;
  std::function<void(peer::PairingSession&)> on_pairing;
  std::function<void()> on_issue;
  std::unique_ptr<peer::LinkClient> client;

 private:
  peer::StreamReply take_stream(const peer::StreamAsk& ask) {
    if (refuse_stream) {
      if (auto refusal = refuse_stream(ask)) return {.keeper = {}, .refusal = std::move(refusal)};
    }
    sys::SocketPair pair = std::move(sys::socket_pair(sys::SocketType::kStream)).value();
    const std::lock_guard lock(mutex_);
    taken_[ask.vm] = {std::move(pair.second), ask.id};
    changed_.notify_all();
    return {.keeper = std::move(pair.first)};
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<VmId, std::pair<sys::UniqueFd, peer::StreamId>> taken_;
};

inline void pair_up(Site& a, Site& b, bool keep_connected = false) {
  a.run({b.as_peer(keep_connected)});
  b.run({a.as_peer(keep_connected)});
}

// Someone who speaks TLS and frames by hand, with whatever certificate the authority gives.
class Outsider {
 public:
  Outsider(const Authority& authority, const std::string& address,
           std::string_view alpn = peer::kAlpnSites, const char* from = nullptr)
      : key_(crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256)) {
    const crypto::Certificate leaf = authority.issue(key_.public_key());
    identity_.emplace(std::move(TlsIdentity::make(key_, leaf, authority.ca)).value());
    sys::UniqueFd socket = dial(address, from);
    if (!socket) return;
    channel_ = TlsChannel::client(*identity_, std::move(socket), alpn);
    connected_ = wait([&]() -> std::optional<bool> {
      const auto step = channel_->handshake();
      if (!step.ok()) return false;
      if (*step == TlsChannel::Step::kDone) return true;
      return std::nullopt;
    });
  }

  static sys::UniqueFd dial(const std::string& address, const char* from = nullptr) {
    sys::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const size_t colon = address.rfind(':');
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + colon + 1)));
    ::inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
    if (from != nullptr) {
      sockaddr_in source{};
      source.sin_family = AF_INET;
      ::inet_pton(AF_INET, from, &source.sin_addr);
      if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&source), sizeof source) != 0) return {};
    }
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return {};
    static_cast<void>(sys::set_nonblocking(fd.get(), true));
    return fd;
  }

  bool connected() const { return connected_; }
  // What it was shown.
  std::vector<crypto::Certificate> peer_chain() const {
    if (!connected_) return {};
    auto chain = channel_->peer_chain();
    return chain.ok() ? *std::move(chain) : std::vector<crypto::Certificate>();
  }
  // False: it does not take them all in that time, or it has closed.
  bool send(ByteSpan bytes, Millis limit = 5s) {
    return wait(
        [&]() -> std::optional<bool> {
          while (!bytes.empty()) {
            const auto moved = channel_->write(bytes);
            if (!moved.ok() || moved->step == TlsChannel::Step::kClosed) return false;
            if (moved->step == TlsChannel::Step::kBlocked) return std::nullopt;
            bytes = bytes.subspan(moved->bytes);
          }
          return true;
        },
        limit);
  }
  bool hello() { return send(peer::encode_hello()); }

  struct Got {
    peer::FrameHeader header;
    Bytes body;
  };
  // The next frame; nullopt: it has closed, or nothing came.
  std::optional<Got> receive(Millis limit = 5s) {
    std::optional<Got> got;
    wait(
        [&]() -> std::optional<bool> {
          for (;;) {
            const auto frame = peer::first_frame(in_);
            if (frame.ok() && frame->has_value()) {
              got = Got{(*frame)->header, Bytes((*frame)->body.begin(), (*frame)->body.end())};
              in_.erase(in_.begin(), in_.begin() + static_cast<ptrdiff_t>(peer::kFrameHeaderSize +
                                                                          got->body.size()));
              return true;
            }
            std::byte buffer[16384];
            const auto moved = channel_->read(buffer);
            if (!moved.ok() || moved->step == TlsChannel::Step::kClosed) return false;
            if (moved->step == TlsChannel::Step::kBlocked) return std::nullopt;
            in_.insert(in_.end(), buffer, buffer + moved->bytes);
          }
        },
        limit);
    return got;
  }
  std::optional<Got> receive_type(peer::FrameType type, Millis limit = 5s) {
    for (;;) {
      std::optional<Got> got = receive(limit);
      if (!got || got->header.type == type) return got;
    }
  }
  // It ends the connection: what it says before is read.
  bool is_dropped(Millis limit = 5s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (std::chrono::steady_clock::now() < end) {
      if (!receive(100ms)) {
        std::byte byte;
        const ssize_t got = ::recv(channel_->fd(), &byte, 1, MSG_DONTWAIT | MSG_PEEK);
        if (got == 0 || (got < 0 && errno != EAGAIN)) return true;
      }
    }
    return false;
  }

 private:
  template <typename Attempt>
  bool wait(Attempt attempt, Millis limit = 5s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    for (;;) {
      if (const std::optional<bool> done = attempt()) return *done;
      const auto left = std::chrono::ceil<Millis>(end - std::chrono::steady_clock::now());
      if (left <= 0ms) return false;
      static_cast<void>(
          sys::wait_ready(channel_->fd(), POLLIN, std::min<Millis>(left, Millis(20))));
    }
  }

  crypto::KeyPair key_;
  std::optional<TlsIdentity> identity_;
  std::unique_ptr<TlsChannel> channel_;
  bool connected_ = false;
  Bytes in_;
};

inline Bytes pattern(size_t size, uint8_t seed) {
  Bytes bytes(size);
  uint32_t state = 2463534242U + seed;
  for (std::byte& byte : bytes) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    byte = static_cast<std::byte>(state);
  }
  return bytes;
}

// All of it, to the end of the stream or `limit`.
inline Bytes read_to_end(int fd, Millis limit = 30s) {
  Bytes all;
  std::byte buffer[65536];
  for (;;) {
    const Result<size_t> got = sys::receive_some(fd, buffer, limit);
    if (!got.ok() || *got == 0) return all;
    all.insert(all.end(), buffer, buffer + *got);
  }
}

}  // namespace hf::link::testing
