#include "control/vm/unit_events.h"

#include "control/test_services.h"
#include "control/vm/vm_operations.h"
#include "sys/json.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;
using launcher::Event;
using launcher::Reply;
using launcher::Request;

constexpr auto kPrompt = 5s;

Event vault_began() { return {.kind = Event::Kind::kStarted, .unit = "vault", .pid = 5}; }

// All that was ever started runs.
FakeLauncher::Answer running(const std::vector<std::string>& units) {
  return [units](const Request& request) -> std::optional<Reply> {
    Reply reply;
    if (request.verb != Request::Verb::kStatus) return reply;
    int64_t pid = 70;
    for (const std::string& unit : units)
      reply.units.push_back({.unit = unit, .pid = pid++, .running = true});
    return reply;
  };
}

VmId vm(uint8_t number) {
  VmId id;
  id.bytes[0] = std::byte{number};
  return id;
}

// Whoever starts a VM has its pass while the launcher is asked: if the launcher's next event waited
// for that, the answer behind it would not be read.
TEST(UnitEvents, a_new_vault_holds_up_no_answer_of_the_launcher) {
  TestServices site(running({keeper_unit(vm(1))}));
  VmRow row = site.add_vm(1);
  ASSERT_TRUE(site.services->units->refresh().ok());
  UnitEvents events(*site.services);
  site.services->reconciler->start();
  std::atomic<bool> taken = false;
  std::thread taker;
  {
    Result<Reconciler::Pass> pass = site.services->reconciler->pass(row);
    ASSERT_TRUE(pass.ok());
    taker = std::thread([&] {
      events.take(vault_began());
      taken = true;
    });
    EXPECT_TRUE(within(kPrompt, [&] { return taken.load(); }));
  }
  taker.join();
  site.services->reconciler->stop();
}

// A keeper that ends as soon as it is started, again and again.
TEST(UnitEvents, a_keeper_that_does_not_stand_is_revived_ever_more_slowly_and_leaves_no_rows) {
  TestServices site(running({qemu_unit(vm(1))}));
  site.add_vm(1);
  ASSERT_TRUE(site.services->units->refresh().ok());
  std::atomic<int> tries = 0;
  const Event gone{
      .kind = Event::Kind::kExited, .unit = keeper_unit(vm(1)), .pid = 9, .exit_status = 1};
  UnitEvents* events = nullptr;
  UnitEvents own(*site.services, [&](const VmRow&) -> Status {
    tries += 1;
    events->take(gone);
    return Error{.code = ErrorCode::kCorrupt, .cause = "the journal is damaged"};
  });
  events = &own;
  site.services->reconciler->start();
  events->take(gone);
  std::this_thread::sleep_for(2500ms);
  site.services->reconciler->stop();
  site.services->jobs.reset();
  EXPECT_GE(tries, 1);
  EXPECT_LE(tries, 3) << "at once, after a second, after two more";
  EXPECT_TRUE(site.services->catalog->jobs(100)->empty());
}

// One that could not even be started has no end that would be told.
TEST(UnitEvents, a_keeper_that_could_not_be_started_is_tried_again) {
  TestServices site(running({qemu_unit(vm(1))}));
  site.add_vm(1);
  ASSERT_TRUE(site.services->units->refresh().ok());
  std::atomic<int> tries = 0;
  UnitEvents events(*site.services, [&](const VmRow&) -> Status {
    tries += 1;
    return Error{.code = ErrorCode::kTimeout, .cause = "the vault does not answer"};
  });
  site.services->reconciler->start();
  events.take(
      {.kind = Event::Kind::kExited, .unit = keeper_unit(vm(1)), .pid = 9, .exit_status = 1});
  EXPECT_TRUE(within(10s, [&] { return tries >= 2; }));
  site.services->reconciler->stop();
  site.services->jobs.reset();
}

Event gave_up(const Error& why) {
  return {.kind = Event::Kind::kExited,
          .unit = keeper_unit(vm(1)),
          .pid = 9,
          .exit_status = 1,
          .stderr_tail = sys::start_failure_line(why)};
}

TEST(UnitEvents, a_guest_whose_keeper_gave_up_stands_still_and_says_why_until_one_stands) {
  TestServices site(running({qemu_unit(vm(1)), keeper_unit(vm(1))}));
  const VmRow row = site.add_vm(1);
  ASSERT_TRUE(site.services->units->refresh().ok());
  const Error no_space{.code = ErrorCode::kNoSpace,
                       .cause = "write: No space left on device",
                       .effect = "its guest stands still",
                       .mend = "free space"};
  site.services->unit_events = std::make_unique<UnitEvents>(
      *site.services, [&](const VmRow&) -> Status { return no_space; });
  UnitEvents& events = *site.services->unit_events;
  const auto told = [&](std::string_view kind) {
    size_t count = 0;
    for (const EventRow& event : *site.services->catalog->events({.subject = row.name}))
      count += event.kind == kind ? 1 : 0;
    return count;
  };
  EXPECT_EQ(vm_state(*site.services, row), "running");
  site.services->reconciler->start();
  for (int i = 0; i < 3; ++i) events.take(gave_up(no_space));
  EXPECT_EQ(vm_state(*site.services, row), "stalled");
  ASSERT_TRUE(events.stall(row.id).has_value());
  EXPECT_EQ(events.stall(row.id)->code, ErrorCode::kNoSpace);
  EXPECT_EQ(events.stall(row.id)->cause, no_space.cause);
  EXPECT_EQ(events.stall(row.id)->mend, no_space.mend);
  EXPECT_EQ(told("vm.stalled"), 1U) << "once, however often it is tried";
  site.services->reconciler->stop();
  site.services->jobs.reset();
}

TEST(UnitEvents, a_keeper_that_gave_up_before_this_holdfastd_came_is_started_again) {
  TestServices site(running({qemu_unit(vm(1))}));
  site.add_vm(1);
  ASSERT_TRUE(site.services->units->refresh().ok());
  std::atomic<int> revived = 0;
  site.services->unit_events =
      std::make_unique<UnitEvents>(*site.services, [&](const VmRow&) -> Status {
        ++revived;
        return {};
      });
  site.services->unit_events->take_up(vm(1));
  site.services->unit_events->take_up(vm(2));  // does not run
  site.services->reconciler->start();
  EXPECT_TRUE(within(10s, [&] { return revived == 1; }));
  site.services->reconciler->stop();
  site.services->jobs.reset();
}

TEST(UnitEvents, a_keeper_that_the_launcher_starts_again_stands_or_its_guest_stands_still) {
  TestServices site(running({qemu_unit(vm(1)), keeper_unit(vm(1))}));
  const VmRow row = site.add_vm(1);
  ASSERT_TRUE(site.services->units->refresh().ok());
  site.services->unit_events = std::make_unique<UnitEvents>(*site.services);
  UnitEvents& events = *site.services->unit_events;
  site.services->reconciler->start();
  const Event began{.kind = Event::Kind::kStarted, .unit = keeper_unit(vm(1)), .pid = 71};
  Event killed = gave_up({});
  killed.stderr_tail.clear();
  Event away = gave_up({.code = ErrorCode::kUnavailable, .cause = "the vault does not answer"});
  Event full = gave_up({.code = ErrorCode::kNoSpace, .cause = "full"});
  for (Event* event : {&killed, &away, &full}) event->will_restart = true;
  for (int i = 0; i < 3; ++i) events.take(killed);
  EXPECT_FALSE(events.stall(row.id).has_value()) << "it is back in a moment";
  events.take(away);
  EXPECT_FALSE(events.stall(row.id).has_value()) << "once is no loop";
  events.take(away);
  EXPECT_TRUE(events.stall(row.id).has_value());
  events.take(began);
  EXPECT_TRUE(events.stall(row.id).has_value()) << "that is not believed yet";
  EXPECT_TRUE(within(20s, [&] { return !events.stall(row.id); }));
  events.take(full);
  ASSERT_TRUE(events.stall(row.id).has_value());
  EXPECT_EQ(events.stall(row.id)->code, ErrorCode::kNoSpace);
  site.services->reconciler->stop();
  site.services->jobs.reset();
}

TEST(UnitEvents, a_guest_whose_keeper_stands_again_runs_on) {
  TestServices site(running({qemu_unit(vm(1)), keeper_unit(vm(1))}));
  const VmRow row = site.add_vm(1);
  ASSERT_TRUE(site.services->units->refresh().ok());
  site.services->unit_events = std::make_unique<UnitEvents>(
      *site.services, [&](const VmRow&) -> Status { return site.services->units->refresh(); });
  UnitEvents& events = *site.services->unit_events;
  site.services->reconciler->start();
  Event gone = gave_up({.code = ErrorCode::kNoSpace, .cause = "full"});
  gone.pid = site.services->units->pid(keeper_unit(vm(1)));
  site.launcher.announce(gone);
  EXPECT_TRUE(within(5s, [&] { return !site.services->units->running(keeper_unit(vm(1))); }));
  events.take(gone);
  EXPECT_EQ(vm_state(*site.services, row), "stalled");
  EXPECT_TRUE(within(20s, [&] { return vm_state(*site.services, row) == "running"; }));
  const auto kept = site.services->catalog->events({.subject = row.name});
  ASSERT_TRUE(kept.ok());
  ASSERT_EQ(kept->size(), 2U);
  EXPECT_EQ(kept->front().kind, "vm.stalled");
  EXPECT_EQ(kept->back().kind, "vm.runs-on");
  // One that ends is no more.
  events.take(gone);
  events.take({.kind = Event::Kind::kExited, .unit = qemu_unit(vm(1)), .pid = 7});
  EXPECT_FALSE(events.stall(row.id).has_value());
  site.services->reconciler->stop();
  site.services->jobs.reset();
}

}  // namespace
}  // namespace hf::control
