// A VM's key is wrapped for those sites only that an operator has named for it.

#include "vault/core/testing.h"

namespace hf::vault {
namespace {

using namespace testing;  // NOLINT

class Members : public ::testing::Test {
 protected:
  void SetUp() override {
    for (TestVault* other : {&b_, &c_}) {
      ASSERT_TRUE(a_->add_recipient((*other)->identity(), "", kDaemon).ok());
    }
    for (const uint8_t number : {uint8_t{1}, uint8_t{2}}) {
      a_.make(number);
    }
  }
  ErrorCode wrapped(uint8_t vm, TestVault& site) {
    const Result<Bytes> wrap = a_->wrap_for(vm_of(vm), site->identity().site, kDaemon);
    return wrap.ok() ? ErrorCode::kInternal : wrap.error().code;
  }
  std::string file(uint8_t vm) const {
    return a_.directory + "/members-" + vm_of(vm).hex() + ".hfv";
  }

  static constexpr ErrorCode kDone = ErrorCode::kInternal;
  TestVault a_{"a"};
  TestVault b_{"b"};
  TestVault c_{"c"};
};

TEST_F(Members, are_those_sites_that_an_operator_named_for_that_vm) {
  const Error error = a_->wrap_for(vm_of(1), b_->identity().site, kDaemon).error();
  EXPECT_EQ(error.code, ErrorCode::kPermission);
  EXPECT_NE(error.cause.find("no operator"), std::string::npos) << error.cause;
  EXPECT_FALSE(error.effect.empty() || error.mend.empty());
  EXPECT_TRUE(*a_->add_member(vm_of(1), b_->identity().site, kOperator));
  EXPECT_FALSE(*a_->add_member(vm_of(1), b_->identity().site, kOperator));
  a_.reopen();
  EXPECT_EQ(wrapped(1, b_), kDone);
  EXPECT_EQ(wrapped(1, c_), ErrorCode::kPermission);
  EXPECT_EQ(wrapped(2, b_), ErrorCode::kPermission);
  EXPECT_EQ(a_->check()->member_records, 1u);
  const std::string log(as_text(read_file(a_.directory + "/audit.log")));
  for (const char* text :
       {"\"event\":\"add_member\"", "\"event\":\"wrap_for\"", "\"outcome\":\"refused\""}) {
    EXPECT_NE(log.find(text), std::string::npos) << text;
  }
}

TEST_F(Members, can_only_be_recipients_and_only_of_a_key_that_is_there) {
  TestVault d("d");
  EXPECT_EQ(a_->add_member(vm_of(1), d->identity().site, kOperator).error().code,
            ErrorCode::kNotFound);
  EXPECT_EQ(a_->add_member(vm_of(9), b_->identity().site, kOperator).error().code,
            ErrorCode::kNotFound);
  EXPECT_FALSE(fs::exists(file(1)));
}

TEST_F(Members, are_none_any_more_once_that_is_taken_back) {
  ASSERT_TRUE(a_->add_member(vm_of(1), b_->identity().site, kOperator).ok());
  ASSERT_TRUE(a_->add_member(vm_of(1), c_->identity().site, kOperator).ok());
  ASSERT_TRUE(a_->remove_member(vm_of(1), b_->identity().site, kOperator).ok());
  EXPECT_EQ(wrapped(1, b_), ErrorCode::kPermission);
  EXPECT_EQ(wrapped(1, c_), kDone);
  ASSERT_TRUE(a_->remove_member(vm_of(1), c_->identity().site, kOperator).ok());
  EXPECT_FALSE(fs::exists(file(1)));
  ASSERT_TRUE(a_->add_member(vm_of(1), c_->identity().site, kOperator).ok());
  ASSERT_TRUE(a_->clear_members(vm_of(1), kOperator).ok());
  EXPECT_TRUE(a_->clear_members(vm_of(1), kOperator).ok());
  EXPECT_EQ(wrapped(1, c_), ErrorCode::kPermission);
}

TEST_F(Members, are_those_keys_that_were_paired_with_when_the_word_was_said) {
  ASSERT_TRUE(a_->add_member(vm_of(1), b_->identity().site, kOperator).ok());
  ASSERT_TRUE(a_->remove_recipient(b_->identity().site, kOperator).ok());
  EXPECT_EQ(wrapped(1, b_), ErrorCode::kNotFound);
  SiteIdentity anew = b_->identity();
  TestVault d("d");
  anew.recipient_public_key_pem = d->identity().recipient_public_key_pem;
  ASSERT_TRUE(a_->add_recipient(anew, "", kDaemon).ok());
  EXPECT_EQ(wrapped(1, b_), ErrorCode::kPermission);
}

TEST_F(Members, go_with_the_vms_key) {
  ASSERT_TRUE(a_->add_member(vm_of(1), b_->identity().site, kOperator).ok());
  ASSERT_TRUE(a_->delete_key(vm_of(1), kDaemon).ok());
  EXPECT_FALSE(fs::exists(file(1)));
  a_.make(1);
  EXPECT_EQ(wrapped(1, b_), ErrorCode::kPermission);
}

TEST_F(Members, are_not_taken_from_a_damaged_or_another_vms_file) {
  ASSERT_TRUE(a_->add_member(vm_of(1), b_->identity().site, kOperator).ok());
  fs::copy_file(file(1), file(2));
  EXPECT_EQ(wrapped(2, b_), ErrorCode::kCorrupt);
  Bytes bad = read_file(file(1));
  bad[bad.size() / 2] ^= std::byte{1};
  write_file(file(1), bad);
  EXPECT_EQ(wrapped(1, b_), ErrorCode::kCorrupt);
  EXPECT_EQ(a_->check()->problems.size(), 2u);
}

}  // namespace
}  // namespace hf::vault
