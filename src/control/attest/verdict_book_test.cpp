#include "control/attest/verdict_book.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

namespace hf::control {
namespace {

using attestation::Verdict;
using attestation::VerdictRecord;

class VerdictBookTest : public ::testing::Test {
 protected:
  VerdictBookTest() {
    char pattern[] = "/tmp/hf-verdicts-XXXXXX";
    dir_ = mkdtemp(pattern);
    catalog_ = std::move(Catalog::open(dir_ + "/catalog.sqlite")).value();
    vm_.bytes[0] = std::byte{1};
    VmRow row;
    row.id = vm_;
    row.name = "web";
    row.definition = "{}";
    row.epoch = Epoch(1);
    HF_ASSERT(catalog_->add_vm(row).ok());
  }
  ~VerdictBookTest() override {
    catalog_.reset();
    std::filesystem::remove_all(dir_);
  }
  static VerdictRecord record(uint64_t time, Verdict verdict) {
    VerdictRecord record;
    record.of = {.time = Micros(time),
                 .verdict = verdict,
                 .boot = "b" + std::to_string(time),
                 .summary = "words"};
    record.token = "x.y.z";
    return record;
  }

  std::string dir_;
  std::unique_ptr<Catalog> catalog_;
  VmId vm_;
};

TEST_F(VerdictBookTest, what_is_added_is_there_newest_first_and_after_a_restart) {
  VerdictBook book(*catalog_);
  EXPECT_TRUE((*book.history(vm_))->empty());
  const uint64_t first = *book.add(vm_, record(1, Verdict::kHealthy));
  const uint64_t second = *book.add(vm_, record(2, Verdict::kUnhealthy));
  EXPECT_GT(second, first);
  const VerdictBook::History now = *book.history(vm_);
  ASSERT_EQ(now->size(), 2U);
  EXPECT_EQ(now->front().id, second);
  EXPECT_EQ(now->front().boot, "b2");
  EXPECT_EQ(now->back().verdict, Verdict::kHealthy);
  VerdictBook after(*catalog_);
  EXPECT_EQ(**after.history(vm_), *now);
  Result<VerdictRecord> whole = after.record(vm_, first);
  ASSERT_TRUE(whole.ok()) << whole.error().describe();
  EXPECT_EQ(whole->of.id, first);
  EXPECT_EQ(whole->token, "x.y.z");
  EXPECT_EQ(after.record(vm_, 999).error().code, ErrorCode::kNotFound);
}

TEST_F(VerdictBookTest, holds_as_many_as_the_catalog) {
  VerdictBook book(*catalog_);
  for (uint64_t i = 1; i <= kVerdictsMax + 3; ++i)
    ASSERT_TRUE(book.add(vm_, record(i, Verdict::kHealthy)).ok());
  const VerdictBook::History remembered = *book.history(vm_);
  EXPECT_EQ(remembered->size(), kVerdictsMax);
  book.forget(vm_);
  EXPECT_EQ(**book.history(vm_), *remembered);
}

TEST_F(VerdictBookTest, forgets_what_was_replaced) {
  VerdictBook book(*catalog_);
  ASSERT_TRUE(book.add(vm_, record(1, Verdict::kHealthy)).ok());
  const std::string came = sys::to_text(attestation::to_json(record(9, Verdict::kUnhealthy)));
  ASSERT_TRUE(catalog_
                  ->replace_attestation(
                      vm_, {}, {{.time = Micros(9), .verdict = "Unhealthy", .record = came}})
                  .ok());
  book.forget(vm_);
  ASSERT_EQ((*book.history(vm_))->size(), 1U);
  EXPECT_EQ((*book.history(vm_))->front().boot, "b9");
}

// The replica of a VM that was deleted here has its id.
TEST_F(VerdictBookTest, no_verdict_outlives_its_vm) {
  VerdictBook book(*catalog_);
  ASSERT_TRUE(book.add(vm_, record(1, Verdict::kHealthy)).ok());
  ASSERT_EQ((*book.history(vm_))->size(), 1U);
  const VmRow row = *catalog_->vm(vm_);
  ASSERT_TRUE(catalog_->remove_vm(vm_, VmRemains::kNone).ok());
  EXPECT_TRUE((*book.history(vm_))->empty());
  ASSERT_TRUE(catalog_->add_vm(row).ok());
  EXPECT_TRUE((*book.history(vm_))->empty());
  ASSERT_TRUE(book.add(vm_, record(2, Verdict::kUnhealthy)).ok());
  ASSERT_EQ((*book.history(vm_))->size(), 1U);
  EXPECT_EQ((*book.history(vm_))->front().boot, "b2");
}

TEST(KeptFromBefore, is_what_a_site_knew_of_a_vm_that_it_does_not_run) {
  VmRow row;
  row.name = "web";
  EXPECT_EQ(kept_from_before(row), "");
  row.adopt_pending = true;
  EXPECT_NE(kept_from_before(row), "");
  row.adopt_pending = false;
  row.role = VmRole::kStandby;
  EXPECT_NE(kept_from_before(row).find("holdfast protection show web"), std::string::npos);
  row.role = VmRole::kSuperseded;
  EXPECT_NE(kept_from_before(row), "");
}

TEST_F(VerdictBookTest, what_cannot_be_read_is_unknown_and_of_no_boot) {
  ASSERT_TRUE(
      catalog_->add_verdict(vm_, {.time = Micros(5), .verdict = "Healthy", .record = "no JSON"})
          .ok());
  VerdictBook book(*catalog_);
  const VerdictBook::History history = *book.history(vm_);
  ASSERT_EQ(history->size(), 1U);
  EXPECT_EQ(history->front().verdict, Verdict::kUnknown);
  EXPECT_EQ(history->front().time, Micros(5));
  EXPECT_FALSE(attestation::is_boots_verdict(history->front()));
  EXPECT_FALSE(book.record(vm_, *history->front().id).ok());
}

}  // namespace
}  // namespace hf::control
