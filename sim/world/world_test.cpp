// The simulated world keeps the promises of base/storage.h and breaks the others.
#include <gtest/gtest.h>

#include <set>

#include "sim/world/network.h"
#include "sim/world/storage.h"

namespace hf::sim {
namespace {

struct Done final : Completion {
  void on_complete(Status status) override {
    calls++;
    ok = status.ok();
  }
  int calls = 0;
  bool ok = false;
};

Bytes filled(size_t size, uint8_t value) { return Bytes(size, std::byte{value}); }

TEST(SimRng, gives_the_same_stream_for_the_same_seed) {
  SimRng a(7), b(7), c(8);
  EXPECT_EQ(a.next(), b.next());
  EXPECT_NE(a.next(), c.next());
}

TEST(Scheduler, runs_events_in_order_of_time_and_not_the_cancelled) {
  Scheduler scheduler;
  std::vector<int> ran;
  scheduler.after(20, [&] { ran.push_back(2); });
  scheduler.after(10, [&] { ran.push_back(1); });
  const auto cancelled = scheduler.after(15, [&] { ran.push_back(9); });
  scheduler.after(20, [&] { ran.push_back(3); });
  scheduler.cancel(cancelled);
  scheduler.run_until_idle();
  EXPECT_EQ(ran, (std::vector<int>{1, 2, 3}));
  EXPECT_TRUE(scheduler.idle());
}

TEST(SimStorage, loses_unsynced_sectors_and_keeps_synced_ones) {
  bool lost = false, kept = false, torn = false;
  for (uint64_t seed = 0; seed < 64; seed++) {
    Scheduler scheduler;
    SimStorage storage(scheduler, SimRng(seed));
    const FileId file = *storage.open("f", OpenMode::kCreate);
    ASSERT_TRUE(storage.write_now(file, 0, filled(2048, 1)).ok());
    ASSERT_TRUE(storage.sync_now(file).ok());
    ASSERT_TRUE(storage.sync_directory().ok());
    ASSERT_TRUE(storage.write_now(file, 512, filled(1024, 2)).ok());
    storage.power_loss();
    EXPECT_FALSE(storage.open("f", OpenMode::kRead).ok());
    storage.reopen();
    const Bytes found = *storage.contents("f");
    ASSERT_EQ(found.size(), 2048u);
    EXPECT_EQ(found[0], std::byte{1});
    EXPECT_EQ(found[1536], std::byte{1});
    const bool first = found[512] == std::byte{2}, second = found[1024] == std::byte{2};
    lost |= !first && !second;
    kept |= first && second;
    torn |= first != second;
  }
  EXPECT_TRUE(lost && kept && torn);
}

TEST(SimStorage, keeps_the_page_cache_when_only_the_process_dies) {
  Scheduler scheduler;
  SimStorage storage(scheduler, SimRng(1));
  const FileId file = *storage.open("f", OpenMode::kCreate);
  ASSERT_TRUE(storage.write_now(file, 0, filled(700, 3)).ok());
  storage.kill_process();
  storage.reopen();
  EXPECT_EQ(*storage.contents("f"), filled(700, 3));
  EXPECT_FALSE(storage.write_now(file, 0, filled(1, 1)).ok()) << "the handle died with its process";
}

TEST(SimStorage, may_lose_names_until_the_directory_is_synced) {
  std::set<std::string> outcomes;
  for (uint64_t seed = 0; seed < 64; seed++) {
    Scheduler scheduler;
    SimStorage storage(scheduler, SimRng(seed));
    const FileId old_file = *storage.open("manifest", OpenMode::kCreate);
    ASSERT_TRUE(storage.write_now(old_file, 0, filled(1, 'o')).ok());
    ASSERT_TRUE(storage.sync_now(old_file).ok());
    ASSERT_TRUE(storage.sync_directory().ok());
    const FileId new_file = *storage.open("next", OpenMode::kCreate);
    ASSERT_TRUE(storage.write_now(new_file, 0, filled(1, 'n')).ok());
    ASSERT_TRUE(storage.sync_now(new_file).ok());
    ASSERT_TRUE(storage.rename("next", "manifest").ok());
    storage.power_loss();
    storage.reopen();
    ASSERT_TRUE(storage.contents("manifest").has_value()) << "a rename replaces, it never removes";
    outcomes.insert(std::string(as_text(*storage.contents("manifest"))));
  }
  EXPECT_EQ(outcomes, (std::set<std::string>{"o", "n"}));
}

TEST(SimStorage, sync_covers_only_writes_completed_before_it_was_issued) {
  bool lost = false;
  for (uint64_t seed = 0; seed < 64; seed++) {
    Scheduler scheduler;
    SimStorage storage(scheduler, SimRng(seed));
    const FileId file = *storage.open("f", OpenMode::kCreate);
    ASSERT_TRUE(storage.truncate(file, 1024).ok());
    ASSERT_TRUE(storage.sync_now(file).ok());
    ASSERT_TRUE(storage.sync_directory().ok());
    Done write, sync;
    const Bytes bytes = filled(512, 5);
    storage.write(file, 0, bytes, write);
    storage.sync(file, sync);
    EXPECT_EQ(write.calls, 0) << "never from inside the call";
    scheduler.run_until_idle();
    EXPECT_EQ(write.calls, 1);
    EXPECT_TRUE(write.ok && sync.ok);
    storage.power_loss();
    storage.reopen();
    lost |= (*storage.contents("f"))[0] == std::byte{0};
  }
  EXPECT_TRUE(lost);
}

TEST(SimStorage, completes_writes_in_any_order_and_none_after_death) {
  bool swapped = false;
  for (uint64_t seed = 0; seed < 32; seed++) {
    Scheduler scheduler;
    SimStorage storage(scheduler, SimRng(seed));
    const FileId file = *storage.open("f", OpenMode::kCreate);
    const Bytes bytes = filled(512, 5);
    Done first, second;
    storage.write(file, 0, bytes, first);
    storage.write(file, 512, bytes, second);
    while (first.calls + second.calls == 0) ASSERT_TRUE(scheduler.run_one());
    swapped |= second.calls == 1;
    storage.kill_process();
    const int calls = first.calls + second.calls;
    scheduler.run_until_idle();
    EXPECT_EQ(first.calls + second.calls, calls);
  }
  EXPECT_TRUE(swapped);
}

TEST(SimStorage, reports_a_full_disk_and_a_failed_sync) {
  Scheduler scheduler;
  SimStorage storage(scheduler, SimRng(1), {.capacity_bytes = 1000});
  const FileId file = *storage.open("f", OpenMode::kCreate);
  EXPECT_TRUE(storage.write_now(file, 0, filled(1000, 1)).ok());
  EXPECT_EQ(storage.write_now(file, 1000, filled(1, 1)).error().code, ErrorCode::kNoSpace);
  EXPECT_TRUE(storage.write_now(file, 0, filled(1000, 2)).ok()) << "rewriting needs no space";
  storage.fail_next_syncs(1);
  Done sync;
  storage.sync(file, sync);
  scheduler.run_until_idle();
  EXPECT_EQ(sync.calls, 1);
  EXPECT_FALSE(sync.ok);
}

TEST(SimStorage, a_failed_sync_can_lose_what_a_later_sync_seems_to_cover) {
  bool lost = false;
  for (uint64_t seed = 0; seed < 32; seed++) {
    Scheduler scheduler;
    SimStorage storage(scheduler, SimRng(seed));
    const FileId file = *storage.open("f", OpenMode::kCreate);
    ASSERT_TRUE(storage.truncate(file, 512).ok());
    ASSERT_TRUE(storage.sync_now(file).ok());
    ASSERT_TRUE(storage.sync_directory().ok());
    ASSERT_TRUE(storage.write_now(file, 0, filled(512, 7)).ok());
    storage.fail_next_syncs(1);
    EXPECT_FALSE(storage.sync_now(file).ok());
    EXPECT_TRUE(storage.sync_now(file).ok());
    storage.power_loss();
    storage.reopen();
    lost |= (*storage.contents("f"))[0] == std::byte{0};
  }
  EXPECT_TRUE(lost);
}

TEST(SimStorage, dies_at_the_operation_asked_for) {
  Scheduler scheduler;
  SimStorage storage(scheduler, SimRng(1));
  bool told = false;
  storage.die_after(2, [&] { told = true; });
  EXPECT_TRUE(storage.open("a", OpenMode::kCreate).ok());
  EXPECT_FALSE(storage.open("b", OpenMode::kCreate).ok());
  EXPECT_TRUE(told);
  EXPECT_FALSE(storage.list().ok());
  storage.power_loss();
  storage.reopen();
  EXPECT_TRUE(storage.list().ok());
}

TEST(SimStorage, makes_moves_and_removes_files_later_and_only_then_may_they_be_used) {
  Scheduler scheduler;
  SimStorage storage(scheduler, SimRng(1));
  Done made, failed, moved, removed, synced;
  const FileId file = storage.create("a", made);
  EXPECT_FALSE(storage.size(file).ok()) << "used before it was made";
  EXPECT_FALSE(storage.contents("a").has_value());
  scheduler.run_until_idle();
  ASSERT_TRUE(made.ok);
  EXPECT_TRUE(storage.write_now(file, 0, filled(10, 1)).ok());
  const FileId again = storage.create("a", failed);
  scheduler.run_until_idle();
  EXPECT_EQ(failed.calls, 1);
  EXPECT_FALSE(failed.ok);
  EXPECT_TRUE(storage.close(again).ok());
  storage.move("a", "b", moved);
  scheduler.run_until_idle();
  storage.sync_names(synced);
  scheduler.run_until_idle();
  EXPECT_TRUE(moved.ok && synced.ok);
  EXPECT_EQ(storage.contents("b")->size(), 10u);
  storage.unlink("b", removed);
  scheduler.run_until_idle();
  EXPECT_TRUE(removed.ok);
  EXPECT_FALSE(storage.contents("b").has_value());
  storage.power_loss();
  storage.reopen();
}

TEST(SimStorage,
     a_death_leaves_a_change_of_names_done_or_not_and_a_power_loss_an_unsynced_one_too) {
  std::set<std::string> after_death, after_power;
  for (uint64_t seed = 0; seed < 64; seed++) {
    for (const bool power : {false, true}) {
      Scheduler scheduler;
      SimStorage storage(scheduler, SimRng(seed));
      Done first, synced, second, late_sync;
      storage.create("kept", first);
      scheduler.run_until_idle();
      storage.sync_names(synced);
      storage.create("new", second);
      while (synced.calls == 0) ASSERT_TRUE(scheduler.run_one());
      storage.sync_names(late_sync);  // does not finish
      if (power) {
        scheduler.run_for(0);
        storage.power_loss();
      } else {
        storage.kill_process();
      }
      const int calls = second.calls + late_sync.calls;
      scheduler.run_until_idle();
      EXPECT_EQ(second.calls + late_sync.calls, calls) << "completed after death";
      storage.reopen();
      ASSERT_TRUE(storage.contents("kept").has_value()) << "seed " << seed;
      (power ? after_power : after_death).insert(storage.contents("new") ? "new" : "none");
    }
  }
  EXPECT_EQ(after_death, (std::set<std::string>{"new", "none"}));
  EXPECT_EQ(after_power, (std::set<std::string>{"new", "none"}));
}

struct Peer final : Endpoint {
  void on_message(ConnectionId, ByteSpan message) override {
    got.push_back(static_cast<uint8_t>(message[0]));
  }
  void on_closed(ConnectionId) override { closed++; }
  std::vector<int> got;
  int closed = 0;
};

TEST(SimNetwork, delivers_in_order_and_loses_only_a_tail) {
  uint64_t tails = 0;
  for (uint64_t seed = 0; seed < 32; seed++) {
    Scheduler scheduler;
    SimNetwork network(scheduler, SimRng(seed), {});
    Peer caller, listener;
    const ConnectionId connection = network.connect(caller, listener);
    for (uint8_t i = 0; i < 20; i++) network.send(connection, End::kCaller, filled(1, i));
    scheduler.run_for(2'000);
    network.set_link_up(false);
    scheduler.run_until_idle();
    for (size_t i = 0; i < listener.got.size(); i++)
      EXPECT_EQ(listener.got[i], static_cast<int>(i));
    tails += listener.got.size() < 20;
    EXPECT_EQ(caller.closed, 1);
    EXPECT_EQ(listener.closed, 1);
  }
  EXPECT_GT(tails, 0u);
}

TEST(SimNetwork, an_end_that_left_hears_nothing_more) {
  Scheduler scheduler;
  SimNetwork network(scheduler, SimRng(3), {});
  Peer caller, listener;
  const ConnectionId connection = network.connect(caller, listener);
  network.send(connection, End::kCaller, filled(1, 1));
  network.leave(connection, End::kListener);
  scheduler.run_until_idle();
  EXPECT_TRUE(listener.got.empty());
  EXPECT_EQ(listener.closed, 0);
  EXPECT_EQ(caller.closed, 1);
}

}  // namespace
}  // namespace hf::sim
