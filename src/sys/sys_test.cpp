#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <thread>

#include "sys/inherited_fds.h"
#include "sys/process.h"
#include "sys/reactor.h"
#include "sys/turn_driver.h"
#include "sys/unix_socket.h"
#include "sys/uring_storage.h"

namespace hf::sys {
namespace {

Micros soon(Reactor& reactor) { return Micros(reactor.now().value + 100'000); }

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char path[] = "/tmp/hf-sys-XXXXXX";
    HF_ASSERT(::mkdtemp(path) != nullptr);
    path_ = path;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct Outcome final : Operation {
  void on_result(int32_t value) override {
    result = value;
    ++calls;
  }
  int32_t result = 0;
  int calls = 0;
};

struct Done final : Completion {
  void on_complete(Status value) override {
    status = std::move(value);
    ++calls;
  }
  Status status;
  int calls = 0;
};

struct CountingTask final : Task {
  void run() override {
    ++runs;
    if (again != nullptr) again->defer(*this);
  }
  int runs = 0;
  Scheduler* again = nullptr;
};

struct NotingTimer final : Timer {
  NotingTimer(std::vector<int>& into, int number) : notes(into), mark(number) {}
  void on_timer() override { notes.push_back(mark); }
  std::vector<int>& notes;
  int mark;
};

TEST(Reactor, hands_out_results_only_from_the_loop) {
  auto reactor = *Reactor::create();
  SocketPair pair = *socket_pair(SocketType::kStream);
  Outcome sent;
  Outcome received;
  std::array<std::byte, 16> buffer{};
  reactor->receive(pair.second.get(), buffer, received);
  reactor->send(pair.first.get(), as_bytes("hello"), sent);
  EXPECT_EQ(received.calls, 0);
  while (received.calls == 0 || sent.calls == 0) reactor->run_once(soon(*reactor));
  EXPECT_EQ(sent.result, 5);
  EXPECT_EQ(as_text(ByteSpan(buffer).first(static_cast<size_t>(received.result))), "hello");
}

TEST(Reactor, accepts_and_cancels) {
  TemporaryDirectory directory;
  auto reactor = *Reactor::create();
  UniqueFd listener = *listen_unix(directory.path() + "/s", SocketType::kStream);
  Outcome accepted;
  reactor->accept(listener.get(), accepted);
  UniqueFd client = *connect_unix(directory.path() + "/s", SocketType::kStream);
  while (accepted.calls == 0) reactor->run_once(soon(*reactor));
  ASSERT_GE(accepted.result, 0);
  UniqueFd connection(accepted.result);
  EXPECT_EQ(peer_credentials(connection.get())->uid, ::getuid());

  reactor->accept(listener.get(), accepted);
  reactor->cancel_operation(accepted);
  while (accepted.calls == 1) reactor->run_once(soon(*reactor));
  EXPECT_EQ(accepted.result, -ECANCELED);
}

TEST(Reactor, takes_more_operations_than_its_queue_has_entries) {
  auto reactor = *Reactor::create();
  SocketPair pair = *socket_pair(SocketType::kStream);
  constexpr size_t kMany = 3000;
  std::vector<std::byte> bytes(kMany);
  std::deque<Outcome> receives(kMany);
  for (size_t i = 0; i < kMany; ++i) {
    reactor->receive(pair.second.get(), MutableByteSpan(bytes).subspan(i, 1), receives[i]);
  }
  ASSERT_TRUE(write_all(pair.first.get(), Bytes(kMany)).ok());
  auto all = [&] { return std::ranges::all_of(receives, [](auto& r) { return r.calls == 1; }); };
  while (!all()) reactor->run_once(soon(*reactor));
  for (auto& receive : receives) EXPECT_EQ(receive.result, 1);
}

TEST(Reactor, runs_posted_work_of_another_thread_in_order) {
  auto reactor = *Reactor::create();
  std::vector<int> order;
  std::jthread other([&] {
    for (int i = 0; i < 100; ++i) reactor->post([&order, i] { order.push_back(i); });
    reactor->stop();
  });
  reactor->run();
  other.join();
  reactor->run_once(soon(*reactor));
  ASSERT_EQ(order.size(), 100U);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST(Reactor, a_task_that_defers_itself_does_not_starve_completions) {
  auto reactor = *Reactor::create();
  SocketPair pair = *socket_pair(SocketType::kStream);
  CountingTask task;
  task.again = reactor.get();
  reactor->defer(task);
  Outcome received;
  std::array<std::byte, 1> one{};
  reactor->receive(pair.second.get(), one, received);
  ASSERT_TRUE(write_all(pair.first.get(), one).ok());
  while (received.calls == 0) reactor->run_once(soon(*reactor));
  EXPECT_GT(task.runs, 0);
  reactor->cancel(task);
  EXPECT_FALSE(task.queued());
}

struct TurnTask final : Task {
  void run() override {
    ++turns;
    if (turns == set_at) flag = true;
  }
  int turns = 0;
  int set_at = 0;
  bool flag = false;
};

TEST(Reactor, sleeps_until_something_happens) {
  auto reactor = *Reactor::create();
  TurnTask turns;
  reactor->each_turn(turns);
  bool told = false;
  std::jthread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    reactor->post([&] { told = true; });
  });
  const Micros start = reactor->now();
  reactor->run_until([&] { return told; });
  EXPECT_GE(reactor->now().value - start.value, 250'000U);
  EXPECT_LE(turns.turns, 3) << "it woke for nothing";
  reactor->end_turns(turns);
}

TEST(Reactor, does_not_sleep_on_what_its_own_turn_made_true) {
  auto reactor = *Reactor::create();
  TurnTask turns;
  turns.set_at = 1;
  reactor->each_turn(turns);
  reactor->run_until([&] { return turns.flag; });  // would sleep for ever
  EXPECT_EQ(turns.turns, 1);
  reactor->end_turns(turns);
}

// Has something to do at given times, and counts how often it is ticked.
struct Machine {
  void tick() {
    ++ticks;
    if (!due.empty() && due.front() <= reactor.now()) due.pop_front();
  }
  Micros next_deadline() const { return due.empty() ? kForever : due.front(); }
  Reactor& reactor;
  std::deque<Micros> due;
  int ticks = 0;
};

TEST(TurnDriver, ticks_a_machine_when_it_is_due_and_lets_the_loop_sleep_else) {
  auto reactor = *Reactor::create();
  const Micros start = reactor->now();
  Machine machine{.reactor = *reactor, .due = {}};
  for (const uint64_t at : {0, 20'000, 60'000}) {
    machine.due.push_back(Micros(start.value + at));
  }
  TurnTask turns;
  TurnDriver driver(machine, *reactor);
  reactor->each_turn(turns);
  reactor->run_until([&] { return machine.due.empty(); });
  EXPECT_EQ(machine.ticks, 3);
  EXPECT_GE(reactor->now().value - start.value, 60'000U);
  EXPECT_LE(turns.turns, 8);
  reactor->end_turns(turns);
}

TEST(Timers, fire_in_order_of_their_time_and_not_when_disarmed) {
  TimerHeap heap;
  std::vector<int> order;
  std::deque<NotingTimer> timers;
  for (int i = 0; i < 50; ++i) timers.emplace_back(order, i * 37 % 50);
  for (auto& timer : timers) heap.arm(timer, Micros(static_cast<uint64_t>(timer.mark) + 10));
  for (auto& timer : timers) {
    if (timer.mark % 2 == 1) heap.disarm(timer);
  }
  EXPECT_EQ(heap.pop_due(Micros(9)), nullptr);
  while (Timer* timer = heap.pop_due(Micros(1000))) timer->on_timer();
  EXPECT_EQ(order.size(), 25U);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST(Reactor, fires_timers_at_their_time) {
  auto reactor = *Reactor::create();
  std::vector<int> order;
  NotingTimer late(order, 2);
  NotingTimer early(order, 1);
  Micros start = reactor->now();
  reactor->arm(late, Micros(start.value + 20'000));
  reactor->arm(early, Micros(start.value + 5'000));
  while (order.size() < 2) reactor->run_once(soon(*reactor));
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_GE(reactor->now().value - start.value, 20'000U);
}

TEST(UringStorage, reads_back_what_it_wrote_and_completes_later) {
  TemporaryDirectory directory;
  auto reactor = *Reactor::create();
  auto storage = *UringStorage::open_directory(*reactor, directory.path());
  FileId file = *storage->open("a", OpenMode::kCreate);
  Bytes written(3 << 20, std::byte{7});
  Done done;
  storage->write(file, 100, written, done);
  EXPECT_EQ(done.calls, 0);
  while (done.calls == 0) reactor->run_once(soon(*reactor));
  ASSERT_TRUE(done.status.ok());
  storage->sync(file, done);
  while (done.calls == 1) reactor->run_once(soon(*reactor));
  ASSERT_TRUE(done.status.ok());
  Bytes read(written.size());
  storage->read(file, 100, read, done);
  while (done.calls == 2) reactor->run_once(soon(*reactor));
  ASSERT_TRUE(done.status.ok());
  EXPECT_EQ(read, written);
  storage->read(file, 101, read, done);
  while (done.calls == 3) reactor->run_once(soon(*reactor));
  EXPECT_EQ(done.status.error().code, ErrorCode::kCorrupt);
}

TEST(UringStorage, makes_renames_and_removes_files_from_the_loop) {
  TemporaryDirectory directory;
  auto reactor = *Reactor::create();
  auto storage = *UringStorage::open_directory(*reactor, directory.path());
  Done done;
  const auto wait = [&](int calls) {
    while (done.calls < calls) reactor->run_once(soon(*reactor));
  };
  FileId file = storage->create("a", done);
  EXPECT_EQ(done.calls, 0);
  wait(1);
  ASSERT_TRUE(done.status.ok()) << done.status.error().describe();
  Bytes bytes(5000, std::byte{3});
  storage->write(file, 0, bytes, done);
  wait(2);
  ASSERT_TRUE(done.status.ok());
  FileId taken = storage->create("a", done);
  EXPECT_NE(taken, file);
  wait(3);
  EXPECT_EQ(done.status.error().code, ErrorCode::kExists);
  EXPECT_TRUE(storage->close(taken).ok());
  storage->move("a", "b", done);
  wait(4);
  ASSERT_TRUE(done.status.ok());
  storage->sync_names(done);
  wait(5);
  ASSERT_TRUE(done.status.ok());
  EXPECT_EQ(*storage->list(), std::vector<std::string>{"b"});
  EXPECT_EQ(*storage->size(file), 5000U);
  storage->unlink("b", done);
  wait(6);
  ASSERT_TRUE(done.status.ok());
  storage->unlink("b", done);
  wait(7);
  EXPECT_EQ(done.status.error().code, ErrorCode::kNotFound);
  // Given back before it was made.
  FileId early = storage->create("c", done);
  ASSERT_TRUE(storage->close(early).ok());
  wait(8);
  EXPECT_TRUE(done.status.ok());
  EXPECT_EQ(storage->operations_in_flight(), 0U);
}

TEST(Reactor, a_ring_for_descriptors_makes_and_removes_no_file) {
  TemporaryDirectory directory;
  auto reactor = *Reactor::create(Reactor::Ring::kDescriptors);
  UniqueFd held = *open_private_directory(directory.path());
  Outcome made;
  reactor->create_file(held.get(), "a", made);
  while (made.calls == 0) reactor->run_once(soon(*reactor));
  EXPECT_EQ(made.result, -EACCES);
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(UringStorage, keeps_a_closed_file_until_its_operations_are_done) {
  TemporaryDirectory directory;
  auto reactor = *Reactor::create();
  auto storage = *UringStorage::open_directory(*reactor, directory.path());
  FileId file = *storage->open("a", OpenMode::kCreate);
  Done done;
  Bytes bytes(1000);
  storage->write(file, 0, bytes, done);
  ASSERT_TRUE(storage->close(file).ok());
  FileId other = *storage->open("b", OpenMode::kCreate);
  EXPECT_NE(file, other);
  while (done.calls == 0) reactor->run_once(soon(*reactor));
  EXPECT_TRUE(done.status.ok());
  EXPECT_EQ(*storage->size(*storage->open("a", OpenMode::kRead)), 1000U);
}

TEST(PosixStorage, completes_at_drain_and_keeps_its_file_set) {
  TemporaryDirectory directory;
  auto storage = *PosixStorage::open_directory(directory.path());
  FileId file = *storage->open("b", OpenMode::kCreate);
  EXPECT_EQ(storage->open("b", OpenMode::kCreate).error().code, ErrorCode::kExists);
  Done done;
  storage->write(file, 0, as_bytes("text"), done);
  EXPECT_EQ(done.calls, 0);
  storage->drain();
  EXPECT_EQ(done.calls, 1);
  ASSERT_TRUE(storage->rename("b", "a").ok());
  ASSERT_TRUE(storage->sync_directory().ok());
  EXPECT_EQ(*storage->list(), std::vector<std::string>{"a"});
  std::array<std::byte, 4> text{};
  ASSERT_TRUE(storage->read_now(file, 0, text).ok());
  EXPECT_EQ(as_text(text), "text");
}

TEST(Directory, refuses_what_others_may_read_and_names_that_leave_it) {
  TemporaryDirectory directory;
  ASSERT_EQ(::chmod(directory.path().c_str(), 0750), 0);
  auto refused = PosixStorage::open_directory(directory.path());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kPermission);
  EXPECT_FALSE(refused.error().mend.empty());
  ASSERT_EQ(::chmod(directory.path().c_str(), 0700), 0);
  auto storage = *PosixStorage::open_directory(directory.path());
  for (const char* name : {"", ".", "..", "../x", "a/b", ".hidden", "a b"}) {
    EXPECT_EQ(storage->open(name, OpenMode::kCreate).error().code, ErrorCode::kInvalidArgument)
        << name;
  }
  std::filesystem::create_symlink("/etc/passwd", directory.path() + "/link");
  EXPECT_FALSE(storage->open("link", OpenMode::kRead).ok());
}

TEST(UnixSocket, passes_descriptors) {
  SocketPair pair = *socket_pair(SocketType::kSeqPacket);
  UniqueFd file = *sealed_memfd("text", as_bytes("in memory"));
  int fds[] = {file.get()};
  ASSERT_TRUE(send_with_fds(pair.first.get(), as_bytes("x"), fds).ok());
  std::array<std::byte, 8> buffer{};
  ReceivedMessage message = *receive_with_fds(pair.second.get(), buffer);
  EXPECT_EQ(message.size, 1U);
  ASSERT_EQ(message.fds.size(), 1U);
  EXPECT_EQ(as_text(*read_all(message.fds[0].get(), 100)), "in memory");
  EXPECT_EQ(read_all(message.fds[0].get(), 4).error().code, ErrorCode::kLimit);
  EXPECT_FALSE(pwrite_all(message.fds[0].get(), 0, as_bytes("y")).ok());
}

// The numbers of this process's open descriptors, without the one that lists them.
std::string open_descriptors() {
  std::string list;
  for (int fd = 0; fd < 1024; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) list += std::to_string(fd) + " ";
  }
  return list;
}

TEST(UnixSocket, says_that_nobody_listens) {
  TemporaryDirectory directory;
  EXPECT_EQ(connect_unix(directory.path() + "/none", SocketType::kStream).error().code,
            ErrorCode::kUnavailable);
  const std::string deep = directory.path() + "/" + std::string(200, 'x') + "/s";
  EXPECT_EQ(connect_unix(deep, SocketType::kStream).error().code, ErrorCode::kUnavailable);
}

TEST(UnixSocket, path_may_be_longer_than_an_address) {
  TemporaryDirectory directory;
  const std::string deep = directory.path() + "/" + std::string(200, 'x');
  ASSERT_EQ(::mkdir(deep.c_str(), 0700), 0);
  const std::string before = open_descriptors();
  for (int time = 0; time < 2; ++time) {  // the second one replaces a stale socket
    Result<UniqueFd> listener = listen_unix(deep + "/s", SocketType::kStream);
    ASSERT_TRUE(listener.ok()) << listener.error().describe();
    EXPECT_TRUE(connect_unix(deep + "/s", SocketType::kStream).ok());
    EXPECT_EQ(short_socket_path(deep + "/s")->text.substr(0, 14), "/proc/self/fd/");
  }
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(short_socket_path("/tmp/s")->text, "/tmp/s");
  for (const std::string& bad : {deep + "/" + std::string(110, 'y'), std::string()}) {
    EXPECT_EQ(short_socket_path(bad).error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(DropInheritedDescriptors, leaves_the_standard_ones_and_has_them_all) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // The pipe becomes the last thing that is open, besides much that nobody meant.
    ::dup2(ends[1], 2);
    ::dup2(ends[1], 700);
    ::close(0);
    ::close(1);
    const bool dropped = drop_inherited_descriptors().ok();
    const std::string list = (dropped ? "" : "failed ") + open_descriptors();
    (void)!::write(2, list.data(), list.size());
    ::_exit(0);
  }
  ::close(ends[1]);
  std::array<char, 256> text{};
  size_t size = 0;
  for (ssize_t got = 1; got > 0 && size < text.size(); size += static_cast<size_t>(got)) {
    got = ::read(ends[0], text.data() + size, text.size() - size);
    if (got < 0) break;
  }
  ::close(ends[0]);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_EQ(std::string(text.data()), "0 1 2 ");
}

TEST(InheritedFds, are_none_unless_meant_for_this_process) {
  ::setenv("LISTEN_PID", "1", 1);
  ::setenv("LISTEN_FDS", "2", 1);
  ::setenv("LISTEN_FDNAMES", "a:b", 1);
  InheritedFds fds = *take_inherited_fds();
  EXPECT_EQ(fds.size(), 0U);
  EXPECT_EQ(::getenv("LISTEN_FDS"), nullptr);
  EXPECT_EQ(fds.take("a").error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace hf::sys
