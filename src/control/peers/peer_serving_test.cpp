// What another site hears and may say, of VMs that it has to do with and of all others.
#include <gtest/gtest.h>

#include "control/test_services.h"

namespace hf::control {
namespace {

class PeerServingTest : public testing::Test {
 protected:
  PeerServingTest() {
    friend_ = here_.pair(2, "friend");
    stranger_ = here_.pair(3, "stranger");
    add(1, "out", VmRole::kActive, Direction::kOut);
    add(2, "in", VmRole::kStandby, Direction::kIn);
    here_.add_vm(3, VmRole::kActive, "alone");
    here_.add_vm(4, VmRole::kActive, "deleted");
    protect(4, Direction::kOut);
    HF_ASSERT(here_.services->catalog->remove_vm(vm_of(4), VmRemains::kNone).ok());
  }
  void protect(uint8_t n, Direction direction) {
    HF_ASSERT(here_.services->catalog
                  ->put_protection({.vm = vm_of(n), .peer = friend_.site, .direction = direction})
                  .ok());
  }
  void add(uint8_t n, std::string name, VmRole role, Direction direction) {
    here_.add_vm(n, role, std::move(name));
    protect(n, direction);
  }

  // The answer, or the error with its code: all that comes back.
  template <typename Question>
  std::string ask(const PeerRow& peer, const Question& question) {
    const std::string text = sys::to_text(sys::encode_operation(question));
    Result<Bytes> answer = here_.services->peers->answer(peer.site, as_bytes(text));
    if (answer.ok()) return std::string(as_text(*answer));
    return std::string(to_string(answer.error().code)) + ": " + answer.error().describe();
  }
  // What the three questions of a VM are answered with.
  std::vector<std::string> ask_all(const PeerRow& peer, uint8_t n) {
    return {ask(peer, EpochQuestion{.vm = vm_of(n), .epoch = Epoch(9)}),
            ask(peer, HandOverOrder{.vm = vm_of(n)}), ask(peer, Withdrawal{.vm = vm_of(n)})};
  }

  TestServices here_;
  PeerRow friend_;
  PeerRow stranger_;
};

TEST_F(PeerServingTest, of_others_vms_a_peer_hears_what_it_hears_of_none) {
  const std::vector<std::string> none = ask_all(stranger_, 99);
  for (uint8_t n = 1; n <= 4; ++n) EXPECT_EQ(ask_all(stranger_, n), none) << int{n};
  EXPECT_EQ(ask_all(friend_, 3), ask_all(friend_, 99));
  EXPECT_TRUE(none[0].starts_with("not_found")) << none[0];
  EXPECT_TRUE(none[1].starts_with("not_found")) << none[1];
  EXPECT_EQ(none[2], R"({"removed":true,"title":""})") << "there is no replica of its";
}

TEST_F(PeerServingTest, nothing_that_it_says_of_them_has_an_effect) {
  for (uint8_t n = 1; n <= 3; ++n) ask_all(stranger_, n);
  for (uint8_t n = 1; n <= 3; ++n) {
    ASSERT_TRUE(here_.services->catalog->vm(vm_of(n)).ok()) << int{n};
    EXPECT_EQ(here_.services->catalog->vm(vm_of(n))->epoch, Epoch(1)) << int{n};
    EXPECT_EQ(here_.services->catalog->vm(vm_of(n))->role,
              n == 2 ? VmRole::kStandby : VmRole::kActive);
  }
}

TEST_F(PeerServingTest, the_other_end_of_a_protection_hears_of_its_vm) {
  const std::string answer = ask(friend_, EpochQuestion{.vm = vm_of(1), .epoch = Epoch(1)});
  EXPECT_TRUE(answer.contains("primary")) << answer;
}

TEST_F(PeerServingTest, who_had_to_do_with_a_vm_hears_that_it_is_gone) {
  EXPECT_TRUE(ask(friend_, Withdrawal{.vm = vm_of(4)}).contains("removed"));
}

// A name is no id, whoever chose it.
TEST_F(PeerServingTest, a_vm_named_as_anothers_id_is_not_reached_by_it) {
  here_.add_vm(5, VmRole::kStandby, vm_of(6).hex());
  protect(5, Direction::kIn);
  EXPECT_EQ(ask_all(friend_, 6), ask_all(friend_, 99));
}

}  // namespace
}  // namespace hf::control
