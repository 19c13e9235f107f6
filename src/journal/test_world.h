// What the journal's tests share: one site in simulated time, and calls that wait.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>

#include "journal/journal.h"
#include "journal/replica.h"
#include "sim/world/rng.h"
#include "sim/world/scheduler.h"
#include "sim/world/storage.h"

namespace hf::journal {

struct Waiter final : Completion {
  void on_complete(Status status_in) override {
    HF_ASSERT(!done);
    done = true;
    status = std::move(status_in);
  }
  bool done = false;
  Status status;
};

struct SealedWaiter final : SealedRead {
  void on_sealed(Result<SealedBatch> batch) override {
    HF_ASSERT(!done);
    done = true;
    if (!batch.ok()) {
      error = batch.error();
      return;
    }
    records.assign(batch->records.begin(), batch->records.end());
    last = batch->last;
    durable = batch->durable;
  }
  bool done = false;
  Bytes records;
  Position last;
  Sequence durable;
  std::optional<Error> error;
};

inline constexpr uint64_t kTestSegment = 64u << 10;

class TestSite {
 public:
  explicit TestSite(uint64_t seed = 1)
      : rng(seed), storage(scheduler, rng.fork()), clock(scheduler) {
    vm.bytes.fill(std::byte{0x11});
    site.bytes.fill(std::byte{0x22});
  }

  JournalKeys keys() const { return keys_of(0x33); }
  JournalKeys keys_of(uint8_t byte) const {
    crypto::Secret gsp(crypto::kKeySize);
    std::ranges::fill(gsp.mutable_span(), std::byte{byte});
    return JournalKeys::derive(gsp, vm, KeyVersion(1));
  }
  Options options() const { return {.vm = vm, .site = site, .epoch = epoch, .log = log_options}; }
  ReplicaOptions replica_options() const {
    return {.vm = vm, .public_key = keys().public_key(), .log = log_options};
  }
  Result<std::unique_ptr<Journal>> create() {
    return Journal::create(storage, clock, rng, keys(), options());
  }
  Result<std::unique_ptr<Journal>> open() {
    return Journal::open(storage, clock, rng, keys(), options());
  }

  // Runs the world, ticking the journal when it asks for it, until `until` holds.
  template <typename Ticked, typename Until>
  bool run(Ticked& journal, Until until, uint64_t limit_us = 5'000'000) {
    const uint64_t end = scheduler.now().value + limit_us;
    while (!until()) {
      if (scheduler.now().value > end) return false;
      if (journal.next_deadline() <= scheduler.now()) {
        journal.tick();
        if (until()) return true;
      }
      if (!scheduler.run_one()) scheduler.run_for(1000);
    }
    return true;
  }
  template <typename Ticked>
  void settle(Ticked& journal) {
    const auto quiet = [&] {
      return journal.idle() && journal.next_deadline().value > scheduler.now().value + 900'000;
    };
    EXPECT_TRUE(run(journal, quiet));
  }
  template <typename Ticked>
  Status wait(Ticked& journal, const Waiter& waiter) {
    HF_ASSERT(run(journal, [&] { return waiter.done; }));
    return waiter.status;
  }

  Status write(Journal& journal, uint64_t offset, ByteSpan data, AckAt ack = AckAt::kAppended,
               VolumeId volume = VolumeId(1)) {
    Waiter done;
    auto sequence = journal.write(volume, offset, data, &done, {.ack = ack});
    if (!sequence.ok()) return std::move(sequence).error();
    return wait(journal, done);
  }
  template <typename Ticked>
  Status flush(Ticked& journal) {
    Waiter done;
    journal.flush(done);
    return wait(journal, done);
  }
  Status close(Journal& journal) {
    Waiter done;
    journal.close(done);
    return wait(journal, done);
  }
  Result<Bytes> read(Journal& journal, uint64_t offset, size_t size,
                     VolumeId volume = VolumeId(1)) {
    Bytes bytes(size, std::byte{0xee});
    Waiter done;
    journal.read(volume, offset, bytes, done);
    TRY(wait(journal, done));
    return bytes;
  }
  template <typename Ticked>
  SealedWaiter sealed(Ticked& journal, const Position& after, size_t max_bytes = kRecordSizeMax) {
    SealedWaiter done;
    journal.read_sealed(after, max_bytes, done);
    EXPECT_TRUE(run(journal, [&] { return done.done; }));
    return done;
  }
  // Ships all that is durable, as a peer would.
  Status ship(Journal& from, TestSite& other, ReplicaJournal& to) {
    while (true) {
      const SealedWaiter batch = sealed(from, to.end().position);
      if (batch.error) return *batch.error;
      if (batch.records.empty()) return other.flush(to);
      size_t taken = 0;
      while (taken < batch.records.size()) {
        taken += TRY(to.append_sealed(ByteSpan(batch.records).subspan(taken)));
        other.run(to, [&] { return to.accepting(); });
      }
    }
  }

  static Bytes pattern(size_t size, uint64_t seed) {
    Bytes bytes(size);
    sim::SimRng(seed).fill(bytes);
    return bytes;
  }
  // Every file and its bytes: what "nothing was written" is judged by.
  std::map<std::string, Bytes> snapshot() {
    std::map<std::string, Bytes> files;
    auto names = storage.list();
    HF_ASSERT(names.ok());
    for (const std::string& name : *names) files[name] = *storage.contents(name);
    return files;
  }

  sim::Scheduler scheduler;
  sim::SimRng rng;
  sim::SimStorage storage;
  sim::SimClock clock;
  VmId vm;
  SiteId site;
  Epoch epoch{1};
  LogOptions log_options{.segment_bytes = kTestSegment,
                         .staging_bytes = kRecordSizeMax + (64u << 10),
                         .prepare_step_bytes = 16u << 10};
};

}  // namespace hf::journal
