#include "control/host/units.h"

#include "control/test_services.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;
using Verb = launcher::Request::Verb;
using launcher::Bar;
using launcher::Event;
using launcher::Reply;
using launcher::Request;

constexpr auto kPrompt = 5s;
constexpr auto kShort = 300ms;

VmId vm(uint8_t number) {
  VmId id;
  id.bytes[0] = std::byte{number};
  return id;
}

launcher::StartRequest keeper(VmId id) {
  return {.unit = keeper_unit(id), .kind = launcher::UnitKind::kKeeper, .vm = id, .bar = Bar(1)};
}

TEST(Units, a_start_that_was_not_answered_is_found_out_about) {
  FakeLauncher launcher([](const Request& request) -> std::optional<Reply> {
    if (request.verb == Verb::kStart) return std::nullopt;
    Reply reply;
    reply.units = {{.unit = keeper_unit(vm(1)), .pid = 71, .running = true}};
    return reply;
  });
  Units units(launcher.take_daemons_end(), nullptr, nullptr, kShort);
  EXPECT_EQ(units.start(keeper(vm(1)), {}).error().code, ErrorCode::kTimeout);
  EXPECT_TRUE(units.running(keeper_unit(vm(1))));
  EXPECT_EQ(units.pid(keeper_unit(vm(1))), 71);
}

TEST(Units, an_end_that_was_not_told_is_found_out_about) {
  std::atomic<bool> runs = true;
  FakeLauncher launcher([&](const Request& request) -> std::optional<Reply> {
    if (request.verb == Verb::kStart) return Reply{.pid = 71};
    if (request.verb == Verb::kStop) {
      runs = false;
      return std::nullopt;
    }
    Reply reply;  // the launcher has forgotten it
    if (runs) reply.units = {{.unit = keeper_unit(vm(1)), .pid = 71, .running = true}};
    return reply;
  });
  std::atomic<int> events = 0;
  Units units(
      launcher.take_daemons_end(),
      [&](const Event& event) {
        EXPECT_EQ(event.kind, Event::Kind::kExited);
        EXPECT_EQ(event.pid, 71);
        events += 1;
      },
      nullptr, kShort);
  ASSERT_TRUE(units.start(keeper(vm(1)), {}).ok());
  ASSERT_TRUE(units.refresh().ok());
  EXPECT_TRUE(units.running(keeper_unit(vm(1))));
  EXPECT_EQ(events, 0);
  EXPECT_FALSE(units.stop(keeper_unit(vm(1)), 9, 10ms).ok());
  EXPECT_FALSE(units.running(keeper_unit(vm(1))));
  EXPECT_TRUE(units.wait_end(keeper_unit(vm(1)), 0ms).ok());
  EXPECT_EQ(events, 1) << "who acts on ends hears of it";
}

// The launcher starts it again at once: who looked only whether it runs missed the end, and waited
// for the successor's.
TEST(Units, the_end_of_a_process_is_not_missed_when_its_successor_is_there_at_once) {
  FakeLauncher launcher([](const Request& request) -> std::optional<Reply> {
    if (request.verb == Verb::kStart) return Reply{.pid = 71};
    return Reply{};
  });
  Units units(launcher.take_daemons_end(), nullptr, nullptr, kPrompt);
  const std::string unit = keeper_unit(vm(1));
  ASSERT_TRUE(units.start(keeper(vm(1)), {}).ok());
  launcher.announce({.kind = Event::Kind::kExited, .unit = unit, .pid = 71, .will_restart = true});
  launcher.announce({.kind = Event::Kind::kStarted, .unit = unit, .pid = 72});
  const auto until = std::chrono::steady_clock::now() + kPrompt;
  while (units.pid(unit) != 72 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(1ms);
  ASSERT_EQ(units.pid(unit), 72);
  const auto began = std::chrono::steady_clock::now();
  EXPECT_FALSE(units.wait_over(unit, 71, 60s)) << "its successor is still to be stopped";
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
  launcher.announce({.kind = Event::Kind::kExited, .unit = unit, .pid = 72});
  EXPECT_TRUE(units.wait_over(unit, 72, 60s));
}

TEST(Units, one_that_is_about_to_be_started_again_is_not_over) {
  FakeLauncher launcher([](const Request&) -> std::optional<Reply> { return Reply{.pid = 71}; });
  Units units(launcher.take_daemons_end(), nullptr, nullptr, kPrompt);
  const std::string unit = keeper_unit(vm(1));
  ASSERT_TRUE(units.start(keeper(vm(1)), {}).ok());
  launcher.announce({.kind = Event::Kind::kExited, .unit = unit, .pid = 71, .will_restart = true});
  EXPECT_FALSE(units.wait_over(unit, 71, kPrompt));
}

// Else nothing of the VM starts any more: the launcher counts the fence, and this side does not.
TEST(Units, a_fence_that_was_not_answered_counts) {
  FakeLauncher launcher([](const Request& request) -> std::optional<Reply> {
    if (request.verb == Verb::kFence) return std::nullopt;
    Reply reply{.bar = Bar(5)};
    reply.bars = {{vm(1).hex(), Bar(6)}};
    return reply;
  });
  Units units(launcher.take_daemons_end(), nullptr, nullptr, kShort);
  EXPECT_EQ(units.kill_guests(vm(1)).error().code, ErrorCode::kTimeout);
  EXPECT_EQ(units.bar(vm(1)), Bar(6));
  EXPECT_EQ(units.bar(vm(2)), Bar(5));
}

TEST(Units, says_that_it_is_in_doubt_until_the_launcher_answers) {
  std::atomic<bool> answers = false;
  FakeLauncher launcher([&](const Request&) -> std::optional<Reply> {
    if (!answers) return std::nullopt;
    return Reply{};
  });
  std::atomic<int> doubts = 0;
  Units units(launcher.take_daemons_end(), nullptr, nullptr, kShort);
  units.set_on_doubt([&] { doubts += 1; });
  EXPECT_FALSE(units.in_doubt());
  EXPECT_FALSE(units.start(keeper(vm(1)), {}).ok());
  EXPECT_TRUE(units.in_doubt());
  EXPECT_EQ(doubts, 1);
  answers = true;
  EXPECT_TRUE(units.refresh().ok());
  EXPECT_FALSE(units.in_doubt());
}

// The launcher's answer may be on its way here while its next event is read.
TEST(Units, an_event_that_came_meanwhile_is_newer_than_the_status) {
  FakeLauncher* fake = nullptr;
  FakeLauncher launcher([&](const Request& request) -> std::optional<Reply> {
    if (request.verb == Verb::kStart) return Reply{.pid = 71};
    // Told before the answer, and the answer does not know it: as if it had been read later.
    fake->announce({.kind = Event::Kind::kExited, .unit = keeper_unit(vm(1)), .pid = 71});
    Reply reply;
    reply.units = {{.unit = keeper_unit(vm(1)), .pid = 71, .running = true}};
    return reply;
  });
  fake = &launcher;
  Units units(launcher.take_daemons_end(), nullptr, nullptr, kPrompt);
  ASSERT_TRUE(units.start(keeper(vm(1)), {}).ok());
  ASSERT_TRUE(units.refresh().ok());
  EXPECT_FALSE(units.running(keeper_unit(vm(1))));
}

TEST(Units, forgets_what_a_removed_vm_had) {
  FakeLauncher launcher([](const Request& request) -> std::optional<Reply> {
    if (request.verb == Verb::kStart) return Reply{.pid = 71};
    return Reply{};
  });
  Units units(launcher.take_daemons_end(), nullptr, nullptr, kPrompt);
  ASSERT_TRUE(units.start(keeper(vm(1)), {}).ok());
  launcher.announce({.kind = Event::Kind::kExited, .unit = keeper_unit(vm(1)), .pid = 71});
  ASSERT_TRUE(units.wait_end(keeper_unit(vm(1)), kPrompt).ok());
  ASSERT_TRUE(units.remove_vm(vm(1)).ok());
  EXPECT_FALSE(units.ended(keeper_unit(vm(1))).has_value());
}

}  // namespace
}  // namespace hf::control
