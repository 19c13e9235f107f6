// Tells the vault how far the journal is durable, so that an older copy is never taken for the
// newest: synchronously at start and stop, else within a second after the sync, from a thread of
// its own (the vault syncs its file; the reactor never waits for that).
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "journal/format/lineage.h"
#include "vault/protocol/client.h"

namespace hf::keeper {

class FreshnessReporter {
 public:
  FreshnessReporter(const VmId& vm, vault::KeyClient& vault) : vm_(vm), vault_(vault) {}
  ~FreshnessReporter() { stop(); }

  void start();
  // From the reactor: the newest durable end. Never ahead of what is durable.
  void report(const journal::LineEnd& durable, Micros now);
  void stop();
  // Blocking, for start and stop.
  Status report_now(const journal::LineEnd& durable, Micros now);

 private:
  void run();
  const VmId vm_;
  vault::KeyClient& vault_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<vault::Freshness> next_;  // guarded by mutex_
  bool stopping_ = false;                 // guarded by mutex_
  std::thread thread_;
};

}  // namespace hf::keeper
