// A site of thousands of VMs: what is asked of the launcher is answered whatever there ever was,
// and while something takes long.
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <future>

#include "launcher/process/process.h"
#include "launcher/test_site.h"

namespace {

// An unlinkat(2) of this name waits: a directory that takes long to remove.
constexpr std::string_view kSlowName = "slow-to-remove";

std::mutex g_mutex;
std::condition_variable g_changed;
bool g_hold = false;
bool g_held = false;

}  // namespace

// In front of libc's, for this program only.
extern "C" int unlinkat(int directory, const char* name, int flags) {
  if (name == kSlowName) {
    std::unique_lock lock(g_mutex);
    g_held = g_hold;
    g_changed.notify_all();
    g_changed.wait_for(lock, std::chrono::seconds(30), [] { return !g_hold; });
  }
  return static_cast<int>(::syscall(SYS_unlinkat, directory, name, flags));
}

namespace hf::launcher {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kLimit{5000};

VmId numbered_vm(uint32_t number) {
  VmId vm = test_vm(1);
  store_le<uint32_t>(vm.bytes.data(), number);
  return vm;
}

void raise_descriptor_limit() {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
}

// Thousands of units that need no process each: as a dead launcher left them, all one process.
TEST(SupervisorScale, tells_of_thousands_of_units_that_run) {
  constexpr size_t kUnits = 2'100;
  raise_descriptor_limit();
  TestSite site;
  auto process = spawn({.program = "/bin/sleep", .argv = {"sleep", "60"}});
  ASSERT_TRUE(process.ok()) << process.error().describe();
  auto started = start_time_of(process->pid);
  ASSERT_TRUE(started.ok());
  ASSERT_TRUE(StateTree::open(site.path())->prepare().ok());
  for (uint32_t i = 0; i < kUnits; ++i) {
    const std::string vm = numbered_vm(i).hex();
    site.write("run/pids/caretaker-" + vm,
               std::to_string(process->pid) + " " + std::to_string(*started) + " 2 " + vm + " 0\n");
  }
  RunningSupervisor running(site, "true");
  auto status = running.client().status(kLimit);
  ASSERT_TRUE(status.ok()) << status.error().describe();
  std::set<std::string> names;
  for (const UnitStatus& unit : status->units) {
    EXPECT_TRUE(unit.running) << unit.unit;
    names.insert(unit.unit);
  }
  EXPECT_EQ(names.size(), kUnits);
  EXPECT_EQ(status->units.size(), kUnits) << "each once";
}

TEST(SupervisorScale, tells_the_bars_of_thousands_of_vms) {
  constexpr uint32_t kVms = 5'000;
  TestSite site;
  RunningSupervisor running(site, "true");
  std::map<VmId, Bar> raised;
  for (uint32_t i = 0; i < kVms; ++i) {
    auto bar = running.client().fence(numbered_vm(i), FenceReach::kAll, kLimit);
    ASSERT_TRUE(bar.ok()) << bar.error().describe();
    raised.emplace(numbered_vm(i), *bar);
  }
  auto status = running.client().status(kLimit);
  ASSERT_TRUE(status.ok()) << status.error().describe();
  EXPECT_EQ(status->bars, raised);
}

TEST(SupervisorScale, keeps_so_many_bars_and_lets_nothing_start_that_was_decided_before) {
  TestSite site;
  RunningSupervisor running(site, "sleep 60");
  const VmId never_fenced = test_vm(7);
  const VmId fenced = numbered_vm(0);
  const StartRequest first = running.keeper(never_fenced, "keeper-7");
  const StartRequest second = running.keeper(fenced, "keeper-8");
  ASSERT_TRUE(running.client().fence(fenced, FenceReach::kAll, kLimit).ok());
  for (uint32_t i = 1; i < kBarsMax + 100; ++i)
    ASSERT_TRUE(running.client().fence(numbered_vm(i), FenceReach::kAll, kLimit).ok());
  auto status = running.client().status(kLimit);
  ASSERT_TRUE(status.ok()) << status.error().describe();
  EXPECT_LE(status->bars.size(), kBarsMax);
  const auto refused = [&](const StartRequest& request) {
    const auto started = running.client().start(request, {}, kLimit);
    return !started.ok() && started.error().code == ErrorCode::kConflict;
  };
  EXPECT_TRUE(refused(second)) << "it was decided before the fence";
  EXPECT_TRUE(refused(first)) << "nobody knows any more";
  EXPECT_TRUE(running.client().start(running.keeper(fenced, "keeper-8"), {}, kLimit).ok())
      << "decided now";
}

TEST(SupervisorScale, forgets_units_that_ended_long_ago) {
  constexpr size_t kMore = 60;
  TestSite site;
  RunningSupervisor running(site, "exit 3");
  const size_t count = kEndedUnitsMax + kMore;
  for (size_t i = 0; i < count; ++i) {
    const std::string unit = "keeper-" + std::to_string(i);
    ASSERT_TRUE(running.client().start(running.keeper(test_vm(1), unit), {}, kLimit).ok());
    ASSERT_EQ(running.wait_for(Event::Kind::kExited, unit).exit_status, 3);
  }
  auto status = running.client().status(kLimit);
  ASSERT_TRUE(status.ok()) << status.error().describe();
  std::set<std::string> names;
  for (const UnitStatus& unit : status->units) names.insert(unit.unit);
  EXPECT_LE(names.size(), kEndedUnitsMax);
  EXPECT_TRUE(names.contains("keeper-" + std::to_string(count - 1))) << "the newest stays";
  EXPECT_FALSE(names.contains("keeper-0")) << "the oldest goes";
}

TEST(SupervisorScale, forgets_the_units_of_a_vm_that_is_removed) {
  TestSite site;
  RunningSupervisor running(site, "exit 3");
  for (uint8_t number : {uint8_t{1}, uint8_t{2}}) {
    const std::string unit = "keeper-" + std::to_string(number);
    StartRequest request = running.keeper(test_vm(number), unit);
    request.vm_number = number;
    ASSERT_TRUE(running.client().start(request, {}, kLimit).ok());
    ASSERT_EQ(running.wait_for(Event::Kind::kExited, unit).exit_status, 3);
  }
  ASSERT_TRUE(running.client().stop({.unit = "keeper-1", .remove_vm = test_vm(1)}, kLimit).ok());
  auto status = running.client().status(kLimit);
  ASSERT_TRUE(status.ok());
  ASSERT_EQ(status->units.size(), 1u);
  EXPECT_EQ(status->units.at(0).unit, "keeper-2");
}

class SlowRemoval : public ::testing::Test {
 protected:
  SlowRemoval() {
    std::lock_guard lock(g_mutex);
    g_hold = true;
    g_held = false;
  }
  ~SlowRemoval() override { let_go(); }

  static void let_go() {
    std::lock_guard lock(g_mutex);
    g_hold = false;
    g_changed.notify_all();
  }
  static bool wait_held() {
    std::unique_lock lock(g_mutex);
    return g_changed.wait_for(lock, std::chrono::seconds(10), [] { return g_held; });
  }
  void make_slow(VmId vm) {
    ASSERT_TRUE(running_.client().start(running_.keeper(vm), {}, kLimit).ok());
    site_.write("vms/" + vm.hex() + "/journal/" + std::string(kSlowName), "x");
  }
  bool there(VmId vm) { return ::access(site_.file("vms/" + vm.hex()).c_str(), F_OK) == 0; }
  std::future<Status> remove(VmId vm, milliseconds limit = milliseconds(30'000)) {
    return std::async(std::launch::async, [this, vm, limit] {
      return running_.client().stop({.unit = "keeper-1", .signal = 9, .remove_vm = vm}, limit);
    });
  }

  TestSite site_;
  RunningSupervisor running_{site_, "exec sleep 60"};
};

TEST_F(SlowRemoval, leaves_fences_stops_and_starts_of_others_their_turn) {
  make_slow(test_vm(1));
  StartRequest other = running_.keeper(test_vm(2), "keeper-2");
  other.vm_number = 4;
  std::future<Status> removed = remove(test_vm(1));
  ASSERT_TRUE(wait_held());
  auto fenced = running_.client().fence(test_vm(3), FenceReach::kAll, kLimit);
  EXPECT_TRUE(fenced.ok()) << fenced.error().describe();
  auto started = running_.client().start(other, {}, kLimit);
  EXPECT_TRUE(started.ok()) << started.error().describe();
  Status stopped = running_.client().stop({.unit = "keeper-2", .signal = 9}, kLimit);
  EXPECT_TRUE(stopped.ok()) << stopped.error().describe();
  EXPECT_EQ(removed.wait_for(milliseconds(0)), std::future_status::timeout) << "not done yet";
  let_go();
  Status done = removed.get();
  EXPECT_TRUE(done.ok()) << done.error().describe();
  EXPECT_FALSE(there(test_vm(1)));
}

TEST_F(SlowRemoval, of_a_vm_starts_nothing_of_it_and_may_be_asked_for_twice) {
  make_slow(test_vm(1));
  std::future<Status> removed = remove(test_vm(1));
  ASSERT_TRUE(wait_held());
  StartRequest same = running_.keeper(test_vm(1), "keeper-7");
  auto refused = running_.client().start(same, {}, kLimit);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict) << refused.error().describe();
  EXPECT_NE(refused.error().cause.find("removed"), std::string::npos) << refused.error().cause;
  std::future<Status> again = remove(test_vm(1));
  EXPECT_EQ(again.wait_for(milliseconds(200)), std::future_status::timeout);
  let_go();
  EXPECT_TRUE(removed.get().ok());
  EXPECT_TRUE(again.get().ok());
  EXPECT_FALSE(there(test_vm(1)));
  EXPECT_TRUE(running_.client().start(same, {}, kLimit).ok()) << "a new one of that name may come";
}

TEST_F(SlowRemoval, does_not_outlast_the_launcher) {
  make_slow(test_vm(1));
  for (int i = 0; i < 50; ++i) {
    site_.write("vms/" + test_vm(1).hex() + "/journal/slow-z" + std::to_string(i), "x");
  }
  std::future<Status> removed = remove(test_vm(1), kLimit);
  ASSERT_TRUE(wait_held());
  std::future<void> stopped = std::async(std::launch::async, [this] { running_.stop(); });
  EXPECT_EQ(stopped.wait_for(milliseconds(500)), std::future_status::timeout)
      << "what is under way is not left to itself";
  let_go();
  EXPECT_EQ(stopped.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_TRUE(there(test_vm(1))) << "the rest stays for the next time it is asked for";
}

}  // namespace
}  // namespace hf::launcher
