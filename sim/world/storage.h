// SimStorage: a disk that keeps exactly the promises of base/storage.h and breaks every other one.
//
// Two layers. The *page cache* is what reads see and what survives the death of a process. The
// *medium* is what survives a power loss: it has what a sync covered; of everything newer each
// 512-byte sector ends at any of the states it went through, each file at any length it had, and
// each creation, removal or rename since the last sync_directory has happened or not.
//
//   running ── kill_process() ──▶ dead ── reopen() ──▶ running        the page cache survives
//   running ── power_loss() ────▶ dead ── reopen() ──▶ running        the medium survives
//   running ── die_after(n) ────▶ failing ── kill_process() or power_loss() ──▶ dead
//
// While dead or failing every call fails and no completion comes. Data-path operations take a
// random time each and so complete in any order; a write reaches the page cache when it completes
// (or, if the process dies first, in whole, in part or not at all). So does a change of names: a
// process that dies meanwhile leaves it done or not.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "base/storage.h"
#include "sim/world/rng.h"
#include "sim/world/scheduler.h"

namespace hf::sim {

inline constexpr uint64_t kSectorSize = 512;

class SimStorage final : public Storage {
 public:
  struct Options {
    uint64_t delay_us_min = 5;
    uint64_t delay_us_max = 300;
    uint64_t sync_us_min = 50;
    uint64_t sync_us_max = 2'000;
    uint64_t capacity_bytes = UINT64_MAX;  // of all files' lengths together
  };
  // Both outlive the storage; the storage outlives the scheduler's last event.
  SimStorage(Scheduler& scheduler, SimRng rng, Options options);
  SimStorage(Scheduler& scheduler, SimRng rng) : SimStorage(scheduler, std::move(rng), Options{}) {}
  ~SimStorage() override;
  SimStorage(const SimStorage&) = delete;
  SimStorage& operator=(const SimStorage&) = delete;

  // Faults.
  void kill_process();
  void power_loss();
  void reopen();
  // The `operations`-th call from now fails and all after it; `on_death` runs inside that call and
  // must not destroy the caller.
  void die_after(uint64_t operations, std::function<void()> on_death = {});
  void never_die() { dies_at_.reset(); }
  void fail_next_syncs(uint64_t count) { failing_syncs_ = count; }
  void fail_next_writes(uint64_t count) { failing_writes_ = count; }
  void set_capacity(uint64_t bytes) { options_.capacity_bytes = bytes; }
  bool alive() const { return state_ == State::kRunning; }

  // What lies in the page cache, for checkers and tampering; no such file: nullopt / assertion.
  std::optional<Bytes> contents(std::string_view name) const;
  // Changes page cache and medium alike: decay at rest, or a hand from outside.
  void tamper(std::string_view name, uint64_t offset, ByteSpan bytes);
  uint64_t used_bytes() const;
  uint64_t operations() const { return operations_; }  // calls so far

  Result<FileId> open(std::string_view name, OpenMode mode) override;
  Status close(FileId file) override;
  Result<uint64_t> size(FileId file) override;
  Status truncate(FileId file, uint64_t size) override;
  Status remove(std::string_view name) override;
  Status rename(std::string_view from, std::string_view to) override;
  Result<std::vector<std::string>> list() override;
  Status sync_directory() override;
  Status read_now(FileId file, uint64_t offset, MutableByteSpan to) override;
  Status write_now(FileId file, uint64_t offset, ByteSpan from) override;
  Status sync_now(FileId file) override;

  void read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) override;
  void write(FileId file, uint64_t offset, ByteSpan from, Completion& done) override;
  void sync(FileId file, Completion& done) override;
  FileId create(std::string_view name, Completion& done) override;
  void unlink(std::string_view name, Completion& done) override;
  void move(std::string_view from, std::string_view to, Completion& done) override;
  void sync_names(Completion& done) override;

 private:
  class Inode;
  using InodePtr = std::shared_ptr<Inode>;
  using Directory = std::map<std::string, InodePtr, std::less<>>;
  enum class State { kRunning, kFailing, kDead };
  struct Handle {
    InodePtr inode;
    bool writable = false;
  };
  // One change of the directory: each name's new inode, or none. All of it happens or none of it.
  using NameChange = std::vector<std::pair<std::string, InodePtr>>;
  struct InFlight {
    InodePtr inode;
    uint64_t offset = 0;
    Bytes bytes;
  };

  Status count_operation();
  Result<InodePtr> inode_of(FileId file);
  Result<InodePtr> writable_inode_of(FileId file);
  Status check_space(const Inode& inode, uint64_t end) const;
  Status finish_write(uint64_t id, ByteSpan original);
  void change_names(NameChange change);
  // The names with what `work` changes, once the time that it takes has passed; or, if the process
  // dies before, perhaps.
  void change_later(std::function<Status()> work, Completion& done);
  Result<InodePtr> make(std::string_view name);
  Status drop(std::string_view name);
  Status replace(std::string_view from, std::string_view to);
  static void apply(Directory& directory, const NameChange& change);
  void settle_in_flight();
  void complete_after(uint64_t delay_us, std::function<Status()> work, Completion& done);
  uint64_t data_delay() { return rng_.between(options_.delay_us_min, options_.delay_us_max); }

  Scheduler& scheduler_;
  SimRng rng_;
  Options options_;
  State state_ = State::kRunning;
  uint64_t life_ = 1;  // events of an earlier life find another number and do nothing
  uint64_t operations_ = 0;
  std::optional<uint64_t> dies_at_;
  std::function<void()> on_death_;
  uint64_t failing_syncs_ = 0;
  uint64_t failing_writes_ = 0;

  Directory names_;          // as the page cache has them
  Directory durable_names_;  // as the medium has them
  std::vector<NameChange> unsynced_names_;
  uint64_t name_changes_synced_ = 0;  // those before unsynced_names_
  std::map<FileId, Handle> handles_;
  uint32_t next_file_ = 1;
  std::map<uint64_t, InFlight> in_flight_;
  std::map<uint64_t, std::function<Status()>> changes_in_flight_;
  uint64_t next_in_flight_ = 1;
};

}  // namespace hf::sim
