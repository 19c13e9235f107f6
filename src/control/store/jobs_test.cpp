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
  uint64_t second = *engine.submit("stop", "vm", second_work, {.preempts = {"start"}});
  preempted.get_future().wait();
  // The one that waits counts as the subject's too, and leaves the other thread free.
  EXPECT_EQ(engine.submit("stop", "vm", nothing, {.preempts = {"start"}}).error().code,
            ErrorCode::kConflict);
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

TEST_F(JobsTest, who_asked_for_it_stands_in_the_job_and_in_what_is_told_of_its_failure) {
  JobEngine engine(*catalog_);
  const By by{.actor = "uid 7 (me)", .origin = "api, pid 9"};
  std::promise<By> seen;
  uint64_t id = *engine.submit(
      "vm-start", "web",
      [&](Progress& progress) -> Result<sys::JsonObject> {
        seen.set_value(progress.by());
        return Error{.code = ErrorCode::kConflict, .cause = "it runs already", .effect = "e"};
      },
      {.by = by});
  EXPECT_EQ(seen.get_future().get().actor, by.actor);
  EXPECT_EQ(wait_for_end(engine, id).at("actor").as_string(), "uid 7 (me)");
  std::vector<EventRow> told = *catalog_->events({.subject = "web"});
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].kind, "job.failed");
  EXPECT_EQ(told[0].by.origin, "api, pid 9");
  EXPECT_NE(told[0].text.find("it runs already"), std::string::npos) << told[0].text;
}

TEST_F(JobsTest, what_holdfastd_tries_again_and_again_is_told_once) {
  JobEngine engine(*catalog_);
  const JobWork fails = [](Progress&) -> Result<sys::JsonObject> {
    return Error{.code = ErrorCode::kConflict, .cause = "the peer has its reasons"};
  };
  for (int i = 0; i < 3; ++i)
    wait_for_end(engine, *engine.submit("protection-disable", "a", fails));
  EXPECT_EQ(catalog_->events({})->size(), 1U);
  for (int i = 0; i < 3; ++i)
    wait_for_end(engine, *engine.submit("protection-disable", "a", fails, {.by = {.actor = "me"}}));
  EXPECT_EQ(catalog_->events({})->size(), 4U);
}

// As a holdfastd that is killed leaves it: the engine of another one finds the row.
TEST_F(JobsTest, a_job_that_was_cut_off_keeps_its_steps_and_says_what_became_of_it) {
  std::promise<void> stepped;
  std::promise<void> go;
  JobEngine dying(*catalog_);
  uint64_t id =
      *dying.submit("vm-create", "web", [&](Progress& progress) -> Result<sys::JsonObject> {
        progress.step("import the images into the journal");
        progress.percent(40);
        stepped.set_value();
        go.get_future().wait();
        return sys::JsonObject{};
      });
  stepped.get_future().wait();
  auto catalog = std::move(Catalog::open(dir_ + "/catalog.sqlite")).value();
  JobEngine next(*catalog);
  sys::JsonObject view = *next.view(id);
  EXPECT_EQ(view.at("state").as_string(), "interrupted");
  ASSERT_EQ(view.at("steps").as_array().size(), 1U);
  EXPECT_TRUE(view.at("error").as_object().contains("cause"));
  EXPECT_FALSE(view.contains("percent"));
  ASSERT_EQ(next.interrupted().size(), 1U);
  next.explain_interrupted(next.interrupted()[0], "nothing of it is left", "again");
  EXPECT_EQ(next.view(id)->at("error").as_object().at("effect").as_string(),
            "nothing of it is left");
  EXPECT_EQ(next.view(id)->at("steps").as_array().size(), 1U);
  EXPECT_EQ(catalog->events({.subject = "web"})->front().kind, "job.interrupted");
  EXPECT_TRUE(next.look(id)->ended);
  go.set_value();
  wait_for_end(dying, id);
}

TEST_F(JobsTest, a_job_is_cancelled_where_its_work_looks_and_else_says_why_not) {
  JobEngine engine(*catalog_, {.threads = 2});
  std::promise<void> begun;
  const JobWork waits = [&](Progress& progress) -> Result<sys::JsonObject> {
    begun.set_value();
    while (!progress.cancelled()) std::this_thread::sleep_for(1ms);
    return Error{.code = ErrorCode::kConflict, .cause = "cancelled", .effect = "nothing is left"};
  };
  uint64_t can = *engine.submit("vm-create", "a", waits, {.not_cancelled = ""});
  begun.get_future().wait();
  EXPECT_TRUE(engine.view(can)->at("cancellable").as_bool());
  std::promise<void> held;
  std::promise<void> go;
  uint64_t cannot = *engine.submit("vm-delete", "b",
                                   [&](Progress&) -> Result<sys::JsonObject> {
                                     held.set_value();
                                     go.get_future().wait();
                                     return sys::JsonObject{};
                                   },
                                   {.not_cancelled = "what it has removed cannot be brought back"});
  held.get_future().wait();
  const Status refused = engine.cancel(cannot, {.actor = "me"});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
  EXPECT_NE(refused.error().cause.find("cannot be brought back"), std::string::npos);
  // One that waits has done nothing yet: any such is taken back.
  uint64_t waiting = *engine.submit("vm-delete", "c", [](Progress&) -> Result<sys::JsonObject> {
    return sys::JsonObject{{"done", true}};
  });
  EXPECT_TRUE(engine.cancel(waiting, {.actor = "me"}).ok());
  EXPECT_TRUE(engine.cancel(can, {.actor = "me"}).ok());
  sys::JsonObject view = wait_for_end(engine, can);
  EXPECT_EQ(view.at("state").as_string(), "cancelled");
  EXPECT_EQ(view.at("error").as_object().at("effect").as_string(), "nothing is left");
  EXPECT_EQ(wait_for_end(engine, waiting).at("state").as_string(), "cancelled");
  EXPECT_EQ(engine.cancel(can, {}).error().code, ErrorCode::kConflict);
  EXPECT_EQ(engine.cancel(4711, {}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(catalog_->events({.subject = "a"})->front().kind, "job.cancelled");
  go.set_value();
  EXPECT_EQ(wait_for_end(engine, cannot).at("state").as_string(), "done");
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
