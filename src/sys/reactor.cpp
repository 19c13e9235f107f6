#include "sys/reactor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <optional>

namespace hf::sys {
namespace {

constexpr unsigned kEntries = 512;  // of the submission queue; more are submitted in several goes
constexpr unsigned kCompletions = 4096;  // beyond that the kernel keeps them for us (NODROP)
constexpr int kReadyRounds = 3;

Error no_ring(int error_number, std::string_view step) {
  Error error = errno_error(error_number, step);
  error.code = ErrorCode::kUnsupported;
  return std::move(error)
      .with_effect("this process serves its I/O with io_uring and cannot start")
      .with_mend(
          "use Linux 6.1 or later and set kernel.io_uring_disabled=0 (sysctl), or allow io_uring "
          "in the container's seccomp profile");
}

// What the ring may do. READ, WRITE, SEND, RECV, SENDMSG, FSYNC, POLL work on held descriptors;
// ACCEPT makes one only from a listener that was handed down.
constexpr uint8_t kAllowed[] = {
    IORING_OP_READ, IORING_OP_WRITE,    IORING_OP_FSYNC,  IORING_OP_SEND,         IORING_OP_SENDMSG,
    IORING_OP_RECV, IORING_OP_POLL_ADD, IORING_OP_ACCEPT, IORING_OP_ASYNC_CANCEL,
};
// These take a path. Landlock sees them as it sees the system calls.
constexpr uint8_t kAllowedForFiles[] = {IORING_OP_OPENAT, IORING_OP_UNLINKAT, IORING_OP_RENAMEAT};

}  // namespace

Result<std::unique_ptr<Reactor>> Reactor::create(Ring may) {
  std::unique_ptr<Reactor> reactor(new Reactor());
  TRY(reactor->set_up(may));
  return reactor;
}

Status Reactor::set_up(Ring may) {
  io_uring_params params{};
  params.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL;
  params.cq_entries = kCompletions;
  int failed = ::io_uring_queue_init_params(kEntries, &ring_, &params);
  if (failed < 0) return no_ring(-failed, "set up io_uring");
  ring_ready_ = true;
  if ((params.features & IORING_FEAT_NODROP) == 0 || (params.features & IORING_FEAT_EXT_ARG) == 0) {
    return no_ring(ENOSYS, "io_uring without NODROP and EXT_ARG");
  }
  std::vector<uint8_t> allowed(std::begin(kAllowed), std::end(kAllowed));
  if (may == Ring::kFiles) {
    allowed.insert(allowed.end(), std::begin(kAllowedForFiles), std::end(kAllowedForFiles));
  }
  std::vector<io_uring_restriction> restrictions(allowed.size());
  for (size_t i = 0; i < restrictions.size(); ++i) {
    restrictions[i].opcode = IORING_RESTRICTION_SQE_OP;
    restrictions[i].sqe_op = allowed[i];
  }
  // liburing 2.3 declares both calls but its library does not export them.
  if (::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_RESTRICTIONS,
                restrictions.data(), restrictions.size()) < 0) {
    return no_ring(errno, "restrict io_uring");
  }
  if (::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) <
      0) {
    return no_ring(errno, "enable io_uring");
  }

  wake_fd_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!wake_fd_) return errno_error(errno, "create an eventfd");
  waker_.on_result(0);
  return {};
}

Reactor::~Reactor() {
  if (!ring_ready_) return;
  closing_ = true;
  cancel_operation(waker_);
  while (waker_.in_flight()) run_once(Micros(now().value + 1000));
  HF_ASSERT(operations_in_flight_ == 0);
  ::io_uring_queue_exit(&ring_);
}

io_uring_sqe& Reactor::next_entry() {
  io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
  while (entry == nullptr) {
    int count = ::io_uring_submit(&ring_);
    HF_ASSERT(count >= 0 || count == -EINTR || count == -EAGAIN || count == -EBUSY);
    entry = ::io_uring_get_sqe(&ring_);
  }
  return *entry;
}

io_uring_sqe& Reactor::start(Operation& operation) {
  HF_ASSERT(!operation.in_flight_);
  operation.in_flight_ = true;
  ++operations_in_flight_;
  return next_entry();
}

void Reactor::accept(int listener, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_accept(&entry, listener, nullptr, nullptr, SOCK_CLOEXEC);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::receive(int socket, MutableByteSpan to, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_recv(&entry, socket, to.data(), to.size(), 0);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::send(int socket, ByteSpan from, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_send(&entry, socket, from.data(), from.size(), MSG_NOSIGNAL);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::send_message(int socket, const msghdr& message, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_sendmsg(&entry, socket, &message, MSG_NOSIGNAL);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::poll_readable(int fd, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_poll_add(&entry, fd, POLLIN);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::read(int file, uint64_t offset, MutableByteSpan to, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_read(&entry, file, to.data(), static_cast<unsigned>(to.size()), offset);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::write(int file, uint64_t offset, ByteSpan from, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_write(&entry, file, from.data(), static_cast<unsigned>(from.size()), offset);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::sync_data(int file, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_fsync(&entry, file, IORING_FSYNC_DATASYNC);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::create_file(int directory, const char* path, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_openat(&entry, directory, path,
                         O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::unlink_file(int directory, const char* path, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_unlinkat(&entry, directory, path, 0);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::rename_file(int directory, const char* from, const char* to, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_renameat(&entry, directory, from, directory, to, 0);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::sync_all(int file, Operation& operation) {
  io_uring_sqe& entry = start(operation);
  ::io_uring_prep_fsync(&entry, file, 0);
  ::io_uring_sqe_set_data(&entry, &operation);
}

void Reactor::cancel_operation(Operation& operation) {
  if (!operation.in_flight_) return;
  io_uring_sqe& entry = next_entry();
  ::io_uring_prep_cancel(&entry, &operation, 0);
  ::io_uring_sqe_set_data(&entry, nullptr);  // nobody waits for the cancellation itself
}

void Reactor::post(std::move_only_function<void()> work) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(work));
  }
  wake();
}

void Reactor::stop() {
  {
    std::lock_guard lock(posted_mutex_);
    stopping_ = true;
  }
  wake();
}

void Reactor::wake() {
  uint64_t one = 1;
  ssize_t count = ::write(wake_fd_.get(), &one, sizeof one);
  HF_ASSERT(count == sizeof one || errno == EAGAIN);
}

void Reactor::Waker::on_result(int32_t result) {
  if (reactor_.closing_) return;
  HF_ASSERT(result >= 0 || result == -EINTR || result == -EAGAIN);
  reactor_.read(reactor_.wake_fd_.get(), 0, {reinterpret_cast<std::byte*>(&count_), sizeof count_},
                *this);
}

void Reactor::run_posted() {
  std::vector<std::move_only_function<void()>> work;
  {
    std::lock_guard lock(posted_mutex_);
    if (posted_.empty()) return;
    work.swap(posted_);
  }
  for (auto& item : work) item();
}

// Runs what is deferred now; what that defers in turn waits for the next round, so that a task that
// defers itself does not keep completions waiting. True if anything is left.
bool Reactor::run_ready() {
  if (deferred_.empty()) return false;
  deferred_.push(end_of_round_);
  while (Task* task = deferred_.pop()) {
    if (task == &end_of_round_) break;
    task->run();
  }
  return !deferred_.empty();
}

void Reactor::run_due_timers() {
  Micros time = now();
  while (Timer* timer = timers_.pop_due(time)) timer->on_timer();
}

void Reactor::wait(Micros until) {
  io_uring_cqe* entry = nullptr;
  __kernel_timespec limit{};
  if (until != kForever) {
    const Micros time = now();
    const uint64_t left = until > time ? until.value - time.value : 0;
    limit = {.tv_sec = static_cast<int64_t>(left / 1'000'000),
             .tv_nsec = static_cast<int64_t>(left % 1'000'000) * 1000};
  }
  int result = ::io_uring_submit_and_wait_timeout(&ring_, &entry, 1,
                                                  until == kForever ? nullptr : &limit, nullptr);
  HF_ASSERT(result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN ||
            result == -EBUSY);
}

void Reactor::hand_out_completions() {
  io_uring_cqe* entry = nullptr;
  while (::io_uring_peek_cqe(&ring_, &entry) == 0) {
    auto* operation = static_cast<Operation*>(::io_uring_cqe_get_data(entry));
    int32_t result = entry->res;
    ::io_uring_cqe_seen(&ring_, entry);
    if (operation == nullptr) continue;
    HF_ASSERT(operation->in_flight_ && operations_in_flight_ > 0);
    operation->in_flight_ = false;
    --operations_in_flight_;
    operation->on_result(result);
  }
}

// True if something is left to do at once.
bool Reactor::run_work() {
  run_posted();
  // Work that follows from work (a request completes, its answer is sent) goes out in one round.
  run_due_timers();
  bool more = run_ready();
  for (int again = 0; more && again < kReadyRounds; ++again) more = run_ready();
  for (size_t i = 0; i < turns_.size(); ++i) turns_[i]->run();
  return more || !deferred_.empty();
}

void Reactor::finish_round(Micros until) {
  if (std::optional<Micros> next = timers_.next(); next && *next < until) until = *next;
  wait(until);
  hand_out_completions();
}

void Reactor::run_once(Micros until) {
  const bool more = run_work();
  finish_round(more ? Micros(0) : until);
}

bool Reactor::stopping() {
  std::lock_guard lock(posted_mutex_);
  return stopping_;
}

void Reactor::run() {
  run_until([this] { return stopping(); });
  std::lock_guard lock(posted_mutex_);
  stopping_ = false;
}

}  // namespace hf::sys
