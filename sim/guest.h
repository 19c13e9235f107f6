// Guest: a VM's work on its journal, and the first judge of it.
//
// Two loads at once. The probe loop, as the probe guest does it: counter N to disk and flush, N to
// the TPM's state (durable), N to a UEFI variable, N + 1. And a background of writes, zeroes,
// flushes and reads of random places, several in flight. At boot everything is read and compared
// with the oracle's image of the inherited prefix, and the counters with each other.
//
// What it was promised, it holds the journal to: `promised_to_process()` is the last acknowledged
// record, `promised_to_host()` the last one that a completed flush covered.
#pragma once

#include <functional>
#include <list>
#include <memory>

#include "journal/journal.h"
#include "sim/judge.h"
#include "sim/ledger.h"
#include "sim/world/rng.h"

namespace hf::sim {

class Guest {
 public:
  struct Options {
    size_t in_flight_max = 6;
    uint64_t think_us_max = 900;
    uint32_t cells_max = 96;  // of one operation
  };
  Guest(std::string name, Judge& judge, Scheduler& scheduler, SimRng rng, Ledger& ledger,
        Options options);
  ~Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  // The journal was opened and inherited everything up to `inherited`.
  void boot(journal::Journal& journal, Sequence inherited);
  // The journal is gone. Call after it was destroyed (it held completions of this).
  void crash();
  void rest() { resting_ = true; }  // finish what is in flight, begin nothing
  bool quiet() const { return requests_.empty(); }
  bool working() const { return journal_ != nullptr && checks_left_ == 0; }

  // A replica takes over: this guest goes on with what `other` had written up to there.
  void inherit(const Guest& other);

  Sequence promised_to_process() const { return acknowledged_; }
  Sequence promised_to_host() const { return flushed_; }
  // After a recovery the promises are what was recovered.
  void renew_promises(Sequence inherited);
  uint64_t operations() const { return operations_; }

 private:
  enum class Step : uint8_t { kDisk, kDiskFlush, kTpm, kUefi, kStopped };
  struct Request;
  using Done = std::function<void()>;

  void check_counters();
  void read_everything();
  void schedule();
  void act();
  void probe_step();
  void background();
  // False if the journal did not take it now.
  bool submit(const Op& op, journal::AckAt ack, Done done);
  void flush(Done done);
  void read(size_t region, uint32_t cell, uint32_t cells, Done done);
  void finished(Request& request, Status status);
  void judge_read(const Request& request);
  std::string whose(size_t region, uint32_t cell, ByteSpan bytes) const;

  std::string name_;
  Judge& judge_;
  Scheduler& scheduler_;
  SimRng rng_;
  Ledger& ledger_;
  Options options_;

  journal::Journal* journal_ = nullptr;
  uint64_t life_ = 1;
  bool resting_ = false;
  size_t checks_left_ = 0;
  History history_;
  Image image_;  // of everything accepted
  Sequence acknowledged_;
  Sequence flushed_;
  std::list<std::unique_ptr<Request>> requests_;
  Step step_ = Step::kStopped;
  bool step_busy_ = false;
  uint64_t counter_ = 1;
  uint64_t operations_ = 0;
};

}  // namespace hf::sim
