#include "vtpm/state/volatile_state.h"

#include <algorithm>

#include "vtpm/tpm_test_support.h"

namespace hf::vtpm {
namespace {

Bytes state_of_a_running_tpm() {
  MemoryStateStore store;
  MortalGuest guest(store);
  guest.power_on();
  return std::move(guest.engine().get_state(StateType::kVolatile)).value();
}

// A newer libtpms that ends it otherwise fails here rather than in a guest's counters.
TEST(VolatileState, is_laid_out_as_this_hosts_libtpms_does) {
  Bytes state = state_of_a_running_tpm();
  const Bytes before = state;
  ASSERT_TRUE(set_time_of_storing(state, 0x1122334455667788));
  ASSERT_EQ(state.size(), before.size());
  Bytes time(8);
  store_be(time.data(), uint64_t{0x1122334455667788});
  const auto at = std::search(state.begin(), state.end(), time.begin(), time.end());
  ASSERT_NE(at, state.end());
  const auto place = at - state.begin();
  EXPECT_TRUE(std::equal(state.begin(), at, before.begin()));
  EXPECT_TRUE(std::equal(at + 8, state.end() - 20, before.begin() + place + 8));
}

TEST(VolatileState, is_left_alone_if_it_is_anything_else) {
  const Bytes whole = state_of_a_running_tpm();
  for (size_t size : {size_t{0}, size_t{1}, size_t{30}, size_t{200}, whole.size() - 1}) {
    Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    const Bytes before = cut;
    EXPECT_FALSE(set_time_of_storing(cut, 1)) << size;
    EXPECT_EQ(cut, before);
  }
  for (size_t from_end :
       {size_t{1}, size_t{22}, size_t{26}, size_t{60}, size_t{100}, size_t{300}}) {
    Bytes changed = whole;
    changed[changed.size() - from_end] ^= std::byte{1};
    const Bytes before = changed;
    EXPECT_FALSE(set_time_of_storing(changed, 1)) << from_end;
    EXPECT_EQ(changed, before);
  }
}

}  // namespace
}  // namespace hf::vtpm
