#include "link/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace hf::link {
namespace {

Error broke_rules(std::string cause) {
  return {.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

Error keeper_gone(int error_number, std::string_view doing) {
  Error error = errno_error(error_number, doing);
  error.code = ErrorCode::kUnavailable;
  return error;
}

bool would_block(int error_number) { return error_number == EAGAIN || error_number == EWOULDBLOCK; }

}  // namespace

Stream::Stream(EventLoop& loop, StreamOwner& owner, WindowBudget& budget, uint64_t mux_id,
               uint64_t link_id, VmId vm, State state)
    : loop_(loop),
      owner_(owner),
      budget_(budget),
      mux_id_(mux_id),
      link_id_(link_id),
      vm_(vm),
      state_(state),
      last_grant_(loop.now()) {
  budget_.granted += window_;
}

Stream::~Stream() {
  budget_.granted -= window_;
  close();
}

void Stream::close() {
  if (watched_) loop_.forget(socket_.get(), *this);
  watched_ = false;
  socket_.reset();
}

Status Stream::give_socket(sys::UniqueFd socket) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "holdfastd gave something else than a stream socket"};
  }
  socket_ = std::move(socket);
  return {};
}

Status Stream::open() {
  HF_ASSERT(socket_.valid() && state_ != State::kOpen);
  state_ = State::kOpen;
  TRY(loop_.watch(socket_.get(), *this));
  watched_ = true;
  return {};
}

void Stream::on_ready(uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) writable_ = true;
  owner_.stream_ready(*this);
}

Status Stream::take_data(ByteSpan data) {
  if (state_ != State::kOpen || fin_taken_) return broke_rules("data where none may come");
  if (data.size() > granted_) return broke_rules("more data than was granted");
  granted_ -= data.size();
  if (held_.empty() && writable_) {
    const ssize_t put =
        ::send(socket_.get(), data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put > 0) {
      data = data.subspan(static_cast<size_t>(put));
      consumed_ += static_cast<uint64_t>(put);
    }
    // An error shows again when it is flushed.
    if (!data.empty() && put >= 0) writable_ = false;
    if (put < 0 && would_block(errno)) writable_ = false;
  }
  held_.insert(held_.end(), data.begin(), data.end());
  return {};
}

Status Stream::take_credit(uint32_t bytes) {
  if (state_ != State::kOpen) return broke_rules("a credit where none may come");
  credit_ += bytes;
  // No receiver of ours grants more; what adds up without end is no window.
  if (credit_ > kWindowMax) return broke_rules("more credit than a window has");
  return {};
}

Status Stream::take_fin() {
  if (state_ != State::kOpen || fin_taken_) return broke_rules("an end where none may come");
  fin_taken_ = true;
  return {};
}

Status Stream::flush() {
  while (writable_ && held_from_ < held_.size()) {
    const ssize_t put = ::send(socket_.get(), held_.data() + held_from_, held_.size() - held_from_,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && would_block(errno)) writable_ = false;
    if (put < 0 && !would_block(errno)) return keeper_gone(errno, "write to the keeper");
    if (put <= 0) break;
    held_from_ += static_cast<size_t>(put);
    consumed_ += static_cast<uint64_t>(put);
  }
  if (held_from_ == held_.size()) {
    held_.clear();
    held_from_ = 0;
    if (held_.capacity() > peer::kFirstWindow) Bytes().swap(held_);
  } else if (held_from_ > held_.size() / 2) {
    held_.erase(held_.begin(), held_.begin() + static_cast<ptrdiff_t>(held_from_));
    held_from_ = 0;
  }
  if (held_.empty() && fin_taken_ && !shut_) {
    shut_ = true;
    ::shutdown(socket_.get(), SHUT_WR);
  }
  return {};
}

uint32_t Stream::take_grant() {
  if (state_ != State::kOpen || fin_taken_ || consumed_ < window_ / 2) return 0;
  uint64_t grant = consumed_;
  const Micros now = loop_.now();
  const bool keeps_up = held_.empty() && now.value - last_grant_.value < 1'000'000;
  if (keeps_up && window_ < kWindowMax) {
    const uint64_t room = kWindowsTotalMax - std::min(kWindowsTotalMax, budget_.granted);
    const uint64_t more = std::min<uint64_t>({window_, kWindowMax - window_, room});
    window_ += static_cast<uint32_t>(more);
    budget_.granted += more;
    grant += more;
  }
  last_grant_ = now;
  consumed_ = 0;
  granted_ += grant;
  return static_cast<uint32_t>(grant);
}

Result<size_t> Stream::read(MutableByteSpan to) {
  HF_ASSERT(can_send());
  to = to.first(std::min<uint64_t>(to.size(), credit_));
  for (;;) {
    const ssize_t got = ::recv(socket_.get(), to.data(), to.size(), MSG_DONTWAIT);
    if (got > 0) {
      credit_ -= static_cast<uint64_t>(got);
      return static_cast<size_t>(got);
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && !would_block(errno)) return keeper_gone(errno, "read from the keeper");
    readable_ = false;
    eof_ = got == 0;
    return size_t{0};
  }
}

}  // namespace hf::link
