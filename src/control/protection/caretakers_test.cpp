#include "control/protection/caretakers.h"

#include "control/test_services.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;
using Verb = launcher::Request::Verb;
using launcher::Event;
using launcher::Reply;
using launcher::Request;

// Far above what an answered call takes, far below what an unanswered one does.
constexpr auto kPrompt = 5s;

class CaretakersTest : public ::testing::Test {
 protected:
  void begin(FakeLauncher::Answer answer,
             std::chrono::milliseconds call_limit = Units::kCallLimit) {
    site_ = std::make_unique<TestServices>(std::move(answer), call_limit);
    caretakers_ = std::make_unique<Caretakers>(*site_->services, [](SiteId) { return true; });
    site_->on_event = [this](const Event& event) {
      if (std::optional<VmId> vm = vm_of_unit(event.unit, "caretaker-"))
        caretakers_->on_unit(*vm, event);
    };
    vm_ = site_->add_vm(1).id;
    peer_ = site_->protect(vm_).peer;
  }
  ~CaretakersTest() override {
    if (site_) site_->services->units.reset();  // its thread uses the caretakers
  }
  static Event ended(VmId vm, int64_t pid, int status = 0) {
    return {.kind = Event::Kind::kExited,
            .unit = caretaker_unit(vm),
            .pid = pid,
            .exit_status = status};
  }
  static Reply running(const std::string& unit, int64_t pid) {
    Reply reply;
    reply.units = {{.unit = unit, .pid = pid, .running = true}};
    return reply;
  }
  // As its control socket would: none is there, so it is killed.
  Units& units() { return *site_->services->units; }

  std::unique_ptr<TestServices> site_;
  std::unique_ptr<Caretakers> caretakers_;
  VmId vm_;
  SiteId peer_;
};

TEST_F(CaretakersTest, one_starts_while_another_one_ends) {
  begin([this](const Request& request) -> std::optional<Reply> {
    if (request.verb != Verb::kStart) return Reply{};
    // Of another VM, between the question and its answer.
    VmId other;
    other.bytes[0] = std::byte{2};
    site_->launcher.announce(ended(other, 70));
    return Reply{.pid = 71};
  });
  const auto begun = std::chrono::steady_clock::now();
  Result<bool> runs = caretakers_->tend(vm_, peer_);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, kPrompt);
  ASSERT_TRUE(runs.ok()) << runs.error().describe();
  EXPECT_TRUE(*runs);
}

TEST_F(CaretakersTest, one_that_ends_before_its_start_is_answered_is_not_missed) {
  begin([this](const Request& request) -> std::optional<Reply> {
    if (request.verb == Verb::kStart) {
      site_->launcher.announce(ended(vm_, 71));
      return Reply{.pid = 71};
    }
    return Reply{};
  });
  Result<bool> runs = caretakers_->tend(vm_, peer_);
  ASSERT_TRUE(runs.ok()) << runs.error().describe();
  EXPECT_TRUE(within(kPrompt, [&] { return caretakers_->level(vm_); }))
      << "it has said that the replica has all";
}

TEST_F(CaretakersTest, one_whose_start_was_not_answered_is_found_and_ended) {
  const std::string unit = caretaker_unit(VmId{{std::byte{1}}});
  begin(
      [unit](const Request& request) -> std::optional<Reply> {
        if (request.verb == Verb::kStart) return std::nullopt;  // it runs, and nobody hears of it
        if (request.verb == Verb::kStatus) return running(unit, 71);
        return Reply{};
      },
      300ms);
  static_cast<void>(caretakers_->tend(vm_, peer_));
  EXPECT_TRUE(within(kPrompt, [&] { return units().running(unit); }));
  Result<bool> runs = caretakers_->tend(vm_, peer_);
  ASSERT_TRUE(runs.ok()) << runs.error().describe();
  EXPECT_TRUE(*runs);
  EXPECT_EQ(site_->launcher.asked(Verb::kStart), 1u) << "not started twice";
  caretakers_->end(vm_);
  EXPECT_GE(site_->launcher.asked(Verb::kStop), 1u) << "who holds it off ends it";
  EXPECT_FALSE(units().running(unit));
}

TEST_F(CaretakersTest, who_holds_it_off_waits_for_the_start_that_is_under_way) {
  std::atomic<bool> asked = false;
  std::atomic<bool> go_on = false;
  begin([&](const Request& request) -> std::optional<Reply> {
    if (request.verb == Verb::kStart) {
      asked = true;
      EXPECT_TRUE(within(10s, [&] { return go_on.load(); }));
      return Reply{.pid = 71};
    }
    return Reply{};
  });
  std::thread tends([&] { static_cast<void>(caretakers_->tend(vm_, peer_)); });
  ASSERT_TRUE(within(kPrompt, [&] { return asked.load(); }));
  std::atomic<bool> held = false;
  std::thread holds([&] {
    Caretakers::Hold hold(*caretakers_, vm_);
    held = true;
    EXPECT_FALSE(units().running(caretaker_unit(vm_)));
  });
  EXPECT_FALSE(within(100ms, [&] { return held.load(); }));
  go_on = true;
  tends.join();
  holds.join();
  EXPECT_TRUE(held);
  EXPECT_EQ(site_->launcher.asked(Verb::kStop), 1u);
}

}  // namespace
}  // namespace hf::control
