// JournalFront: everything of one VM that appends to its journal passes here, on the reactor's
// thread.
//
// It keeps the order (variable-store bytes that are still held back go before whatever is appended
// next), holds requests back while the journal's staging is full, and gives the journal its ticks,
// whoever else uses it.
//
// When the journal fails, what it cannot take or could not write stays here, unanswered: the guest
// stands still instead of seeing an error, and its client sends the request again to the next
// keeper. Reads go on; their errors are for the guest.
#pragma once

#include <deque>

#include "journal/journal.h"
#include "sys/turn_driver.h"
#include "volume/volume.h"

namespace hf::volume {

static_assert(kRequestDataMax <= journal::kRecordDataMax);  // a request is one record

// Bytes that wait to share a record (FlashVolume). Asked to append them before anything else is.
class HeldBytes {
 public:
  // Appends what is held. Called only while the journal accepts.
  virtual void append_held() = 0;
  // What was held is on its way: a flush that is asked for now must cover it.
  virtual bool appending() const = 0;

 protected:
  ~HeldBytes() = default;
};

class JournalFront final : private sys::Task {
 public:
  JournalFront(journal::Journal& journal, sys::Scheduler& scheduler);
  ~JournalFront();

  void submit(VolumeId volume, Request& request);
  void set_held(HeldBytes* held) { held_ = held; }

  // Appends one record for the holder of held bytes; `done` may be null. False if the journal does
  // not accept now.
  bool try_write(VolumeId volume, uint64_t offset, ByteSpan data, Completion* done = nullptr);

  // From the holder of held bytes, when an append of them is done and before it holds new ones:
  // what waited for that goes first, or a flush would wait for as long as there is always more to
  // hold.
  void held_is_appended() { run(); }

  journal::Journal& journal() { return journal_; }
  sys::Scheduler& scheduler() { return scheduler_; }
  // Nothing waits and nothing is in the journal's hands.
  bool idle() const { return blocked_.empty() && in_journal_ == 0; }

 private:
  // A request in the journal's hands.
  class Pending final : public Completion {
   public:
    void on_complete(Status status) override;
    JournalFront* front = nullptr;
    VolumeId volume;
    Request* request = nullptr;
    Pending* next_free = nullptr;
  };
  struct Blocked {
    VolumeId volume{};
    Request* request;
  };

  // The journal's own reads, writes and syncs complete without passing here; that it takes
  // something again is seen before the loop waits.
  class Turn final : public sys::Task {
   public:
    explicit Turn(JournalFront& front) : front_(front) {}
    void run() override { front_.on_turn(); }

   private:
    JournalFront& front_;
  };

  void on_turn();
  void run() override;  // sys::Task: lets blocked requests on
  bool start(VolumeId volume, Request& request);
  Result<Sequence> append(VolumeId volume, Request& request, Pending& pending);
  Pending& take(VolumeId volume, Request& request);
  void give_back(Pending& pending);
  void run_soon();

  journal::Journal& journal_;
  sys::Scheduler& scheduler_;
  HeldBytes* held_ = nullptr;
  std::deque<Blocked>
      blocked_;               // until the journal accepts, oldest first; bounded by the front ends
  std::deque<Pending> pool_;  // grows to the most ever in flight, then is used again
  Pending* free_ = nullptr;
  size_t in_journal_ = 0;
  sys::TurnDriver<journal::Journal> driver_;
  Turn turn_{*this};  // after the driver's
};

// A disk: a volume of the journal.
class JournalVolume final : public Volume {
 public:
  JournalVolume(JournalFront& front, VolumeId id, uint64_t size_bytes)
      : front_(front), id_(id), size_bytes_(size_bytes) {}
  uint64_t size_bytes() const override { return size_bytes_; }
  uint32_t block_bytes() const override { return 512; }
  void submit(Request& request) override {
    check(request);
    front_.submit(id_, request);
  }

 private:
  JournalFront& front_;
  VolumeId id_;
  uint64_t size_bytes_;
};

}  // namespace hf::volume
