#include "daemon/jobs.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <future>

namespace hf::daemon {
namespace {

using namespace std::chrono_literals;

class JobsTest : public ::testing::Test {
 protected:
  JobsTest() {
    char pattern[] = "/tmp/hf-jobs-XXXXXX";
    dir_ = mkdtemp(pattern);
    catalog_ = std::move(Catalog::open(dir_ + "/catalog.sqlite")).value();
  }
  ~JobsTest() override { std::filesystem::remove_all(dir_); }

  sys::JsonObject wait_for_end(JobEngine& engine, uint64_t id) {
    for (int i = 0; i < 100; ++i) {
      sys::JsonObject view = *engine.view(id, 1000, 100ms);
      if (view.at("state").as_string() != "running") return view;
    }
    ADD_FAILURE() << "the job did not end";
    return {};
  }

  std::string dir_;
  std::unique_ptr<Catalog> catalog_;
};

TEST_F(JobsTest, steps_and_result_are_shown) {
  JobEngine engine(*catalog_);
  uint64_t id = *engine.submit("test", "vm", [](Progress& progress) -> Result<sys::JsonObject> {
    progress.step("first");
    progress.step("second");
    return sys::JsonObject{{"answer", 42}};
  });
  sys::JsonObject view = wait_for_end(engine, id);
  EXPECT_EQ(view.at("state").as_string(), "done");
  EXPECT_EQ(view.at("steps").as_array().size(), 2U);
  EXPECT_EQ(view.at("result").as_object().at("answer").as_int64(), 42);
}

TEST_F(JobsTest, an_error_outlives_the_engine) {
  uint64_t id = 0;
  {
    JobEngine engine(*catalog_);
    id = *engine.submit("test", "vm", [](Progress&) -> Result<sys::JsonObject> {
      return Error{.code = ErrorCode::kConflict, .cause = "c", .effect = "e", .mend = "m"};
    });
    wait_for_end(engine, id);
  }
  JobEngine again(*catalog_);
  sys::JsonObject view = *again.view(id);
  EXPECT_EQ(view.at("state").as_string(), "failed");
  EXPECT_EQ(view.at("error").as_object().at("mend").as_string(), "m");
}

TEST_F(JobsTest, one_job_at_a_time_for_one_subject) {
  JobEngine engine(*catalog_);
  std::promise<void> go;
  std::shared_future<void> gate = go.get_future().share();
  JobWork waits = [gate](Progress&) -> Result<sys::JsonObject> {
    gate.wait();
    return sys::JsonObject{};
  };
  uint64_t id = *engine.submit("test", "vm", waits);
  Result<uint64_t> second = engine.submit("test", "vm", waits);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_TRUE(engine.submit("test", "other", waits).ok());
  go.set_value();
  wait_for_end(engine, id);
  EXPECT_TRUE(engine.submit("test", "vm", waits).ok());
}

TEST_F(JobsTest, waiting_work_is_bounded) {
  JobEngine engine(*catalog_, {.threads = 1, .waiting_max = 1});
  std::promise<void> go;
  std::shared_future<void> gate = go.get_future().share();
  std::promise<void> begun;
  uint64_t first =
      *engine.submit("test", "a", [gate, &begun](Progress&) -> Result<sys::JsonObject> {
        begun.set_value();
        gate.wait();
        return sys::JsonObject{};
      });
  begun.get_future().wait();
  JobWork nothing = [](Progress&) -> Result<sys::JsonObject> { return sys::JsonObject{}; };
  EXPECT_TRUE(engine.submit("test", "b", nothing).ok());
  Result<uint64_t> third = engine.submit("test", "c", nothing);
  ASSERT_FALSE(third.ok());
  EXPECT_EQ(third.error().code, ErrorCode::kLimit);
  go.set_value();
  wait_for_end(engine, first);
}

}  // namespace
}  // namespace hf::daemon
