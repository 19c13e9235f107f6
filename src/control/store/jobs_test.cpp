#include "control/store/jobs.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <thread>

namespace hf::control {
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
    auto end = std::chrono::steady_clock::now() + 10s;
    while (std::chrono::steady_clock::now() < end) {
      JobLook look = *engine.look(id);
      if (look.ended) return look.view;
      std::promise<void> news;
      uint64_t waiting = look.changed->subscribe(look.version, [&] { news.set_value(); });
      news.get_future().wait_for(5s);
      look.changed->unsubscribe(waiting);
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

TEST_F(JobsTest, a_job_that_may_preempt_waits_for_the_other_to_end_and_holds_no_thread) {
  JobEngine engine(*catalog_, {.threads = 2});
  std::promise<void> preempted;
  std::promise<void> go_on;
  std::atomic<bool> first_ended = false;
  uint64_t first =
      *engine.submit("start", "vm", [&](Progress& progress) -> Result<sys::JsonObject> {
        while (!progress.preempted()) std::this_thread::sleep_for(1ms);
        preempted.set_value();
        go_on.get_future().wait();
        first_ended = true;
        return Error{.code = ErrorCode::kConflict, .cause = "ended", .effect = "e", .mend = "m"};
      });
  auto nothing = [](Progress&) -> Result<sys::JsonObject> { return sys::JsonObject{}; };
  EXPECT_EQ(engine.submit("edit", "vm", nothing).error().code, ErrorCode::kConflict);
  auto second_work = [&](Progress& progress) -> Result<sys::JsonObject> {
    return sys::JsonObject{{"after", first_ended && progress.has_preempted()},
                           {"preempted", progress.preempted()}};
  };
  uint64_t second = *engine.submit("stop", "vm", second_work, {"start"});
  preempted.get_future().wait();
  // The one that waits counts as the subject's too, and leaves the other thread free.
  EXPECT_EQ(engine.submit("stop", "vm", nothing, {"start"}).error().code, ErrorCode::kConflict);
  uint64_t other = *engine.submit("start", "other", nothing);
  EXPECT_EQ(wait_for_end(engine, other).at("state").as_string(), "done");
  go_on.set_value();
  EXPECT_EQ(wait_for_end(engine, first).at("state").as_string(), "failed");
  sys::JsonObject view = wait_for_end(engine, second);
  EXPECT_EQ(view.at("state").as_string(), "done");
  EXPECT_TRUE(view.at("result").as_object().at("after").as_bool());
  EXPECT_FALSE(view.at("result").as_object().at("preempted").as_bool());
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
}  // namespace hf::control
