#include "control/vm/revivals.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

using namespace std::chrono_literals;

const VmId kVm{{std::byte{1}}};

TEST(Revivals, pauses_double_to_a_bound_and_begin_anew_after_it_stood) {
  Revivals revivals;
  Revivals::Time now{};
  EXPECT_EQ(revivals.due(kVm, now), now) << "at once";
  for (auto pause : {1s, 2s, 4s, 8s, 16s, 32s, 60s, 60s}) {
    revivals.begins(kVm);
    EXPECT_EQ(revivals.due(kVm, now), now + pause);
    EXPECT_EQ(revivals.due(kVm, now + 500ms), now + pause) << "told twice of one end";
    now += pause;
  }
  revivals.begins(kVm);
  revivals.stands(kVm, now);
  now += 59s;
  EXPECT_EQ(revivals.due(kVm, now), now + 60s) << "that was no standing";
  now += 60s;
  revivals.begins(kVm);
  revivals.stands(kVm, now);
  now += 60s;
  EXPECT_EQ(revivals.due(kVm, now), now);
  revivals.begins(kVm);
  EXPECT_EQ(revivals.due(kVm, now), now + 1s);
}

TEST(Revivals, one_vm_does_not_slow_another_and_a_stopped_one_is_forgotten) {
  Revivals revivals;
  const Revivals::Time now{};
  for (int i = 0; i < 5; ++i) {
    revivals.begins(kVm);
    static_cast<void>(revivals.due(kVm, now));
  }
  const VmId other{{std::byte{2}}};
  EXPECT_EQ(revivals.due(other, now), now);
  revivals.forget(kVm);
  EXPECT_EQ(revivals.due(kVm, now), now);
}

}  // namespace
}  // namespace hf::control
