#include "vtpm/control_server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>

#include "sys/unix_socket.h"

namespace hf::vtpm {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kConnectionsMax = 8;
constexpr milliseconds kPaddingWait{50};
constexpr milliseconds kFrameLimit{5'000};   // from a frame's first byte to its last; of a long
                                             // HASH_DATA, from one piece to the next
constexpr unsigned kAnswerLimitMs = 10'000;  // for a client to take an answer
constexpr milliseconds kAcceptPause{100};    // without descriptors or memory left
constexpr size_t kReadChunk = 64 * 1024;

Status send_answer(int fd, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "answer a vTPM control command");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

}  // namespace

std::string_view to_string(ControlState state) {
  switch (state) {
    case ControlState::kReady:
      return "ready";
    case ControlState::kConnected:
      return "connected";
    case ControlState::kLost:
      return "lost";
    case ControlState::kFailed:
      return "failed";
  }
  return "failed";
}

struct ControlServer::Connection {
  sys::UniqueFd fd;
  Bytes buffered;
  std::vector<sys::UniqueFd> passed;                     // descriptors that came with the frame
  std::optional<SteadyClock::time_point> padding_until;  // then the frame is taken as it is
  std::optional<SteadyClock::time_point> whole_until;    // then the connection is given up
  struct HashData {
    uint64_t left;
    TpmResult result = kTpmSuccess;
    bool answered = false;
  };
  std::optional<HashData> hash_data;  // a long one is coming in
  bool owns_data = false;             // this is QEMU
  bool dropped = false;
};

ControlServer::ControlServer(Engine& engine, ControlServerOptions options)
    : engine_(engine), options_(std::move(options)), state_(options_.initial) {
  HF_ASSERT(options_.listener.valid());
}

ControlServer::~ControlServer() { stop(); }

void ControlServer::start() {
  HF_ASSERT(!control_thread_.joinable());
  control_thread_ = std::thread([this] { control_loop(); });
  if (options_.tcti_data_listener.valid()) tcti_thread_ = std::thread([this] { tcti_loop(); });
}

void ControlServer::stop() {
  stop_.signal();
  if (control_thread_.joinable()) control_thread_.join();
  if (tcti_thread_.joinable()) tcti_thread_.join();
}

ControlState ControlServer::state() const {
  return engine_.fatal() ? ControlState::kFailed : state_.load();
}

void ControlServer::set_state(ControlState state) {
  if (state_.exchange(state) != state && options_.on_state) options_.on_state(state);
}

TpmResult ControlServer::report(Status status, TpmResult otherwise) {
  if (status.ok()) return kTpmSuccess;
  if (options_.on_error) options_.on_error(status.error());
  return engine_.fatal() ? kTpmIoError : otherwise;
}

// ---- the loops

void ControlServer::control_loop() {
  while (true) {
    std::vector<pollfd> fds = {
        {.fd = stop_.fd(), .events = POLLIN, .revents = 0},
        {.fd = options_.listener.get(), .events = POLLIN, .revents = 0},
        // -1, which poll ignores, if there is none
        {.fd = options_.tcti_control_listener.get(), .events = POLLIN, .revents = 0}};
    const size_t first_connection = fds.size();
    std::optional<SteadyClock::time_point> wake;
    if (SteadyClock::now() < accepts_from_) {
      wake = accepts_from_;
      fds[1].fd = fds[2].fd = -1;
    }
    for (const auto& connection : connections_) {
      fds.push_back({.fd = connection->fd.get(), .events = POLLIN, .revents = 0});
      for (const auto& deadline : {connection->padding_until, connection->whole_until}) {
        if (deadline && (!wake || *deadline < *wake)) wake = deadline;
      }
    }
    int timeout_ms = -1;
    if (wake) {
      const auto left = std::chrono::ceil<milliseconds>(*wake - SteadyClock::now());
      timeout_ms = static_cast<int>(std::max<int64_t>(0, left.count()));
    }
    if (::poll(fds.data(), fds.size(), timeout_ms) < 0) {
      HF_ASSERT(errno == EINTR);
      continue;
    }
    if (fds[0].revents != 0) break;
    // Connections before listeners: the QEMU that has gone makes room for the one that comes.
    for (size_t i = first_connection; i < fds.size(); ++i) {
      if (fds[i].revents != 0) read_from(*connections_[i - first_connection]);
    }
    check_deadlines();
    remove_dropped();
    if (fds[1].revents != 0) accept_from(fds[1].fd);
    if (fds[2].revents != 0) accept_from(fds[2].fd);
  }
  connections_.clear();
  end_data();
}

void ControlServer::tcti_loop() {
  while (true) {
    pollfd fds[2] = {{.fd = stop_.fd(), .events = POLLIN, .revents = 0},
                     {.fd = options_.tcti_data_listener.get(), .events = POLLIN, .revents = 0}};
    if (::poll(fds, 2, -1) < 0) {
      HF_ASSERT(errno == EINTR);
      continue;
    }
    if (fds[0].revents != 0) return;
    const sys::UniqueFd peer(::accept4(fds[1].fd, nullptr, nullptr, SOCK_CLOEXEC));
    if (!peer.valid() && sys::is_exhausted(errno)) {
      pollfd stop{.fd = stop_.fd(), .events = POLLIN, .revents = 0};
      static_cast<void>(::poll(&stop, 1, static_cast<int>(kAcceptPause.count())));
    }
    if (peer.valid() && serve_data(engine_, peer.get(), stop_) == DataEnd::kStopped) return;
  }
}

void ControlServer::accept_from(int listener) {
  sys::UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.valid()) {  // gone again, or it waits there and is readable all the while
    if (sys::is_exhausted(errno)) accepts_from_ = SteadyClock::now() + kAcceptPause;
    return;
  }
  const bool one_qemu_is_here =
      listener == options_.listener.get() &&
      std::ranges::any_of(connections_, [](const auto& other) { return other->owns_data; });
  if (one_qemu_is_here || connections_.size() >= kConnectionsMax) return;  // closes it
  if (!sys::set_socket_timeouts(fd.get(), kAnswerLimitMs).ok()) return;
  connections_.push_back(std::make_unique<Connection>());
  connections_.back()->fd = std::move(fd);
}

void ControlServer::read_from(Connection& connection) {
  const size_t before = connection.buffered.size();
  connection.buffered.resize(before + kReadChunk);
  Result<sys::ReceivedMessage> message = sys::receive_with_fds(
      connection.fd.get(), MutableByteSpan(connection.buffered).subspan(before));
  const size_t received = message.ok() ? message->size : 0;
  connection.buffered.resize(before + received);
  if (received == 0) {
    connection.dropped = true;
    return;
  }
  for (sys::UniqueFd& fd : message->fds) {
    if (connection.passed.empty()) connection.passed.push_back(std::move(fd));  // others close
  }
  serve_frames(connection);
}

void ControlServer::serve_frames(Connection& connection) {
  connection.padding_until.reset();
  while (!connection.dropped && !connection.buffered.empty()) {
    if (connection.hash_data) {
      take_hash_data(connection);
      continue;
    }
    const FrameSize frame = measure_frame(connection.buffered);
    const auto now = SteadyClock::now();
    switch (frame.state) {
      case FrameState::kComplete:
        serve_frame(connection, frame.size);
        connection.whole_until.reset();
        break;
      case FrameState::kLongHashData:
        begin_hash_data(connection, frame);
        break;
      case FrameState::kInvalid:
        (void)send_answer(connection.fd.get(), result_answer(kTpmBadParameter));
        connection.dropped = true;
        break;
      case FrameState::kPaddingMayFollow:
        connection.padding_until = now + kPaddingWait;
        return;
      case FrameState::kIncomplete:
        if (!connection.whole_until) connection.whole_until = now + kFrameLimit;
        return;
    }
  }
}

void ControlServer::serve_frame(Connection& connection, size_t size) {
  const Result<ControlRequest> request = parse_frame(ByteSpan(connection.buffered).first(size));
  const bool refused = request.ok() && size < connection.buffered.size() &&
                       what_follows(request->command) == WhatFollows::kRefused;
  Bytes answer;
  if (!request.ok()) {
    answer = result_answer(kTpmBadOrdinal);
  } else if (refused) {
    answer = result_answer(refusal(request->command));
  } else {
    answer = execute(connection, *request);
  }
  connection.passed.clear();
  connection.buffered.clear();  // what_follows()
  if (!send_answer(connection.fd.get(), answer).ok()) connection.dropped = true;
  if (request.ok() && !refused && request->command == ControlCommand::kShutdown &&
      options_.on_shutdown) {
    options_.on_shutdown();
  }
}

// Whether the TPM is on is asked before what came is looked at.
TpmResult ControlServer::refusal(ControlCommand command) const {
  switch (command) {
    case ControlCommand::kGetTpmEstablished:
    case ControlCommand::kHashStart:
    case ControlCommand::kHashData:
    case ControlCommand::kHashEnd:
    case ControlCommand::kCancelTpmCommand:
    case ControlCommand::kStoreVolatile:
      return engine_.running() ? kTpmBadParameter : kTpmBadOrdinal;
    case ControlCommand::kSetStateBlob:
      return engine_.running() ? kTpmBadOrdinal : kTpmBadParameter;
    default:
      return kTpmBadParameter;
  }
}

void ControlServer::begin_hash_data(Connection& connection, const FrameSize& head) {
  connection.hash_data.emplace(Connection::HashData{.left = head.data_size});
  connection.passed.clear();
  connection.buffered.erase(connection.buffered.begin(),
                            connection.buffered.begin() + static_cast<ptrdiff_t>(head.size));
  connection.whole_until = SteadyClock::now() + kFrameLimit;
  if (engine_.running()) return;
  // Refused before all of it has come; the rest is let by, or it would be taken for commands.
  connection.hash_data->result = kTpmBadOrdinal;
  connection.hash_data->answered = true;
  if (!send_answer(connection.fd.get(), result_answer(kTpmBadOrdinal)).ok()) {
    connection.dropped = true;
  }
}

void ControlServer::take_hash_data(Connection& connection) {
  HF_ASSERT(connection.hash_data.has_value());
  Connection::HashData& hash = *connection.hash_data;
  const size_t size = std::min<uint64_t>(hash.left, connection.buffered.size());
  if (hash.result == kTpmSuccess) {
    hash.result = engine_.hash_data(ByteSpan(connection.buffered).first(size));
  }
  hash.left -= size;
  const bool more = size < connection.buffered.size();
  connection.buffered.clear();
  connection.whole_until = SteadyClock::now() + kFrameLimit;
  if (hash.left > 0) return;
  if (more && hash.result == kTpmSuccess) hash.result = kTpmBadParameter;  // what_follows()
  if (!hash.answered && !send_answer(connection.fd.get(), result_answer(hash.result)).ok()) {
    connection.dropped = true;
  }
  connection.hash_data.reset();
  connection.whole_until.reset();
}

void ControlServer::check_deadlines() {
  const auto now = SteadyClock::now();
  const auto past = [&](const std::optional<SteadyClock::time_point>& deadline) {
    return deadline.value_or(SteadyClock::time_point::max()) <= now;
  };
  for (const auto& connection : connections_) {
    if (connection->dropped) continue;
    if (past(connection->padding_until)) {
      connection->padding_until.reset();
      serve_frame(*connection, connection->buffered.size());
    }
    if (past(connection->whole_until)) connection->dropped = true;
  }
}

void ControlServer::remove_dropped() {
  for (const auto& connection : connections_) {
    if (connection->dropped && connection->owns_data) {
      end_data();
      (void)power_off();
      set_state(ControlState::kReady);
    }
  }
  std::erase_if(connections_, [](const auto& connection) { return connection->dropped; });
}

// ---- the commands

Bytes ControlServer::execute(Connection& connection, const ControlRequest& request) {
  switch (request.command) {
    case ControlCommand::kGetCapability:
      return capability_answer(options_.sealer != nullptr ? kCaps : kCaps & ~kCapsForMigration);
    case ControlCommand::kInit:
      return init();
    case ControlCommand::kStop:
    case ControlCommand::kShutdown:
      return power_off();
    case ControlCommand::kGetTpmEstablished: {
      const Engine::Established flag = engine_.established();
      if (flag.result != kTpmSuccess) return result_answer(flag.result);
      return established_answer(flag.bit);
    }
    case ControlCommand::kSetLocality:
      return result_answer(engine_.set_locality(request.locality));
    case ControlCommand::kHashStart:
      return result_answer(engine_.hash_start());
    case ControlCommand::kHashData:
      return result_answer(engine_.hash_data(request.data));
    case ControlCommand::kHashEnd:
      return result_answer(engine_.hash_end());
    case ControlCommand::kCancelTpmCommand:
      return result_answer(engine_.cancel());
    case ControlCommand::kStoreVolatile:
      return result_answer(report(engine_.store_volatile(), kTpmBadOrdinal));
    case ControlCommand::kResetTpmEstablished:
      return result_answer(engine_.reset_established(request.locality));
    case ControlCommand::kGetStateBlob:
      return get_state_blob(request);
    case ControlCommand::kSetStateBlob:
      return set_state_blob(request);
    case ControlCommand::kGetConfig:
      return config_answer(options_.sealer != nullptr ? kConfigMigrationKey : 0);
    case ControlCommand::kSetDataFd:
      return set_data_fd(connection);
    case ControlCommand::kSetBufferSize:
      return set_buffer_size(request);
    case ControlCommand::kGetInfo:
      return info_answer(engine_.info(static_cast<uint32_t>(request.flags & 7)), request.offset);
    // The storage is the owner's and was never let go.
    case ControlCommand::kLockStorage:
      return result_answer(kTpmSuccess);
  }
  return result_answer(kTpmBadOrdinal);
}

Bytes ControlServer::init() {
  // The flag "delete the volatile state afterwards" needs no heed: it is always used once only.
  for (Bytes& old : sealed_) old.clear();
  return result_answer(report(engine_.init(), kTpmFail));
}

Bytes ControlServer::power_off() { return result_answer(report(engine_.power_off(), kTpmFail)); }

Bytes ControlServer::get_state_blob(const ControlRequest& request) {
  if (options_.sealer == nullptr) return state_blob_answer(kTpmBadOrdinal, {}, 0);
  if (request.blob_type < 1 || request.blob_type > 3) {
    return state_blob_answer(kTpmBadParameter, {}, 0);
  }
  Bytes& sealed = sealed_[request.blob_type];
  if (request.offset == 0) {
    // Sealed anew, as the state may have changed; later offsets read on in these same bytes.
    const auto type = static_cast<StateType>(request.blob_type);
    Result<Bytes> state = engine_.get_state(type);
    sealed.clear();
    if (!state.ok()) {
      const bool none = state.error().code == ErrorCode::kNotFound;
      const bool off = state.error().code == ErrorCode::kUnavailable;
      return state_blob_answer(none ? kTpmRetry : off ? kTpmBadOrdinal : kTpmFail, {}, 0);
    }
    sealed = options_.sealer->seal(type, *state);
    crypto::wipe(*state);
  }
  return state_blob_answer(kTpmSuccess, sealed, request.offset);
}

Bytes ControlServer::set_state_blob(const ControlRequest& request) {
  if (options_.sealer == nullptr || engine_.running()) return result_answer(kTpmBadOrdinal);
  if (request.blob_type < 1 || request.blob_type > 2) return result_answer(kTpmBadParameter);
  const auto type = static_cast<StateType>(request.blob_type);
  Result<Bytes> state = options_.sealer->open(type, request.data);
  if (!state.ok()) return result_answer(report(std::move(state).error(), kTpmDecryptError));
  const TpmResult result = report(engine_.stage_incoming(type, *state), kTpmBadParameter);
  crypto::wipe(*state);
  return result_answer(result);
}

Bytes ControlServer::set_buffer_size(const ControlRequest& request) {
  if (request.number != 0) {
    const TpmResult result = engine_.set_buffer_size(request.number);
    if (result != kTpmSuccess) return result_answer(result);
  }
  return buffer_size_answer(engine_.buffer_sizes());
}

// ---- QEMU's data channel

Bytes ControlServer::set_data_fd(Connection& connection) {
  if (data_thread_.joinable() && !data_ended_.load()) return result_answer(kTpmIoError);
  if (connection.passed.empty() || !can_serve_data(connection.passed.front().get())) {
    return result_answer(kTpmBadParameter);
  }
  end_data();
  start_data(std::move(connection.passed.front()));
  for (const auto& other : connections_) other->owns_data = false;
  connection.owns_data = true;
  set_state(ControlState::kConnected);
  return result_answer(kTpmSuccess);
}

void ControlServer::start_data(sys::UniqueFd fd) {
  HF_ASSERT(!data_thread_.joinable());
  data_stop_ = std::make_unique<StopSignal>();
  data_ended_ = false;
  data_thread_ = std::thread([this, stop = data_stop_.get(), peer = std::move(fd)] {
    // kFatal: the socket stays open and silent, the guest's driver waits, the owner decides.
    const DataEnd end = serve_data(engine_, peer.get(), *stop);
    if (end == DataEnd::kFatal) {
      pollfd wait{.fd = stop->fd(), .events = POLLIN, .revents = 0};
      while (::poll(&wait, 1, -1) < 0) HF_ASSERT(errno == EINTR);
    }
    data_ended_ = true;
  });
}

void ControlServer::end_data() {
  if (!data_thread_.joinable()) return;
  data_stop_->signal();
  data_thread_.join();
}

}  // namespace hf::vtpm
