#include <signal.h>

#include "launcher/test_site.h"

namespace hf::launcher {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kLimit{5000};
constexpr const char* kUntilTerm = "trap 'exit 0' TERM; echo up >&2; while :; do sleep 0.02; done";

struct Running {
  explicit Running(const TestSite& test_site, const std::string& guest)
      : supervisor(test_site, kUntilTerm) {
    auto& client = supervisor.client();
    HF_ASSERT(client.start(supervisor.keeper(test_vm(1)), {}, kLimit).ok());
    auto started = client.start(supervisor.shell(test_vm(1), guest), {}, kLimit);
    HF_ASSERT(started.ok());
    qemu = *started;
    HF_ASSERT(eventually([&] {
      return test_site.read("run/log/keeper-1.log") == "up\n" &&
             test_site.read("run/log/qemu-1.log").starts_with("up\n");
    }));
  }
  RunningSupervisor supervisor;
  int64_t qemu = 0;
};

TEST(SupervisorShutdown, ends_qemu_before_the_keeper) {
  TestSite site;
  RunningSupervisor running(site,
                            "trap 'test -e $HOLDFAST_STATE/qemu-gone && echo after >&2; exit 0' "
                            "TERM; echo up >&2; while :; do sleep 0.02; done");
  ASSERT_TRUE(running.client().start(running.keeper(test_vm(1)), {}, kLimit).ok());
  ASSERT_TRUE(
      running.client()
          .start(running.shell(test_vm(1),
                               "trap 'sleep 0.1; touch $HOLDFAST_STATE/qemu-gone; exit 0' TERM; "
                               "echo up >&2; while :; do sleep 0.02; done"),
                 {}, kLimit)
          .ok());
  ASSERT_TRUE(eventually([&] {
    return site.read("run/log/keeper-1.log") == "up\n" && site.read("run/log/qemu-1.log") == "up\n";
  }));
  running.stop();
  EXPECT_EQ(site.read("run/log/keeper-1.log"), "up\nafter\n");
}

// The daemon presses the power buttons; here the test does.
TEST(SupervisorShutdown, waits_for_guests_that_were_asked_to_shut_down) {
  TestSite site;
  Running running(site,
                  "trap 'echo cut >&2; exit 0' TERM; echo up >&2; until test -e "
                  "$HOLDFAST_STATE/button; do sleep 0.02; done; echo down >&2");
  running.supervisor.begin_stop(StopKind::kGuestsFirst);
  const Event closing = running.supervisor.wait_for(Event::Kind::kClosing, "");
  EXPECT_EQ(closing.kind, Event::Kind::kClosing);
  EXPECT_GT(closing.limit_ms, 0u);
  EXPECT_LE(closing.limit_ms, 2000u);
  // Asked again, it changes nothing.
  running.supervisor.begin_stop(StopKind::kGuestsFirst);
  EXPECT_TRUE(running.supervisor.client().status(kLimit).ok());
  site.write("button", "");
  running.supervisor.await_end();
  EXPECT_EQ(site.read("run/log/qemu-1.log"), "up\ndown\n");
}

TEST(SupervisorShutdown, cuts_the_power_of_guests_that_do_not_hear) {
  TestSite site;
  Running running(site,
                  "trap 'echo cut >&2; exit 0' TERM; echo up >&2; while :; do sleep 0.02; done");
  const auto began = std::chrono::steady_clock::now();
  running.supervisor.begin_stop(StopKind::kGuestsFirst);
  running.supervisor.await_end();
  EXPECT_GE(std::chrono::steady_clock::now() - began, milliseconds(2000));
  EXPECT_EQ(site.read("run/log/qemu-1.log"), "up\ncut\n");
}

TEST(SupervisorShutdown, a_power_off_does_not_wait_for_guests_that_were_asked) {
  TestSite site;
  Running running(site,
                  "trap 'echo cut >&2; exit 0' TERM; echo up >&2; while :; do sleep 0.02; done");
  const auto began = std::chrono::steady_clock::now();
  running.supervisor.begin_stop(StopKind::kGuestsFirst);
  running.supervisor.wait_for(Event::Kind::kClosing, "");
  running.supervisor.begin_stop(StopKind::kPowerOff);
  running.supervisor.await_end();
  EXPECT_LT(std::chrono::steady_clock::now() - began, milliseconds(1900));
  EXPECT_EQ(site.read("run/log/qemu-1.log"), "up\ncut\n");
}

// What dies meanwhile comes back: a guest that shuts down needs its keeper.
TEST(SupervisorShutdown, a_keeper_that_dies_meanwhile_is_started_again) {
  TestSite site;
  RunningSupervisor running(site, "echo up >&2; exec sleep 60");
  StartRequest request = running.keeper(test_vm(1));
  request.restart = RestartPolicy::kAlways;
  auto keeper = running.client().start(request, {}, kLimit);
  ASSERT_TRUE(keeper.ok());
  ASSERT_TRUE(running.client().start(running.shell(test_vm(1), "exec sleep 60"), {}, kLimit).ok());
  running.begin_stop(StopKind::kGuestsFirst);
  running.wait_for(Event::Kind::kClosing, "");
  ASSERT_EQ(::kill(static_cast<pid_t>(*keeper), SIGKILL), 0);
  EXPECT_EQ(running.wait_for(Event::Kind::kStarted, "keeper-1").kind, Event::Kind::kStarted);
}

TEST(SupervisorShutdown, leaves_guests_and_keepers_to_the_next_launcher) {
  TestSite site;
  int64_t qemu = 0;
  {
    Running running(site, kUntilTerm);
    qemu = running.qemu;
    running.supervisor.begin_stop(StopKind::kLeaveGuests);
    running.supervisor.await_end();
  }
  RunningSupervisor next(site, kUntilTerm);
  auto status = next.client().status(kLimit);
  ASSERT_TRUE(status.ok());
  ASSERT_EQ(status->units.size(), 2u);
  for (const UnitStatus& unit : status->units) EXPECT_TRUE(unit.running) << unit.unit;
  EXPECT_EQ(status->units.at(1).pid, qemu);
}

}  // namespace
}  // namespace hf::launcher
