// JournalFront: everything of one VM that appends to its journal passes here, on the reactor's
// thread.
//
// It keeps the order (variable-store bytes that are still held back go before whatever is appended
// next), holds requests back while the journal's staging is full, and gives the journal its ticks.
#pragma once

#include "journal/journal.h"
#include "sys/scheduler.h"
#include "volume/volume.h"

namespace hf::volume {

// Bytes that wait to share a record (FlashVolume). Asked to append them before anything else is.
class HeldBytes {
 public:
  // Appends what is held, with journal.write. Called only while the journal accepts.
  virtual void append_held() = 0;

 protected:
  ~HeldBytes() = default;
};

class JournalFront final : private sys::Timer, private sys::Task {
 public:
  JournalFront(journal::Journal& journal, sys::Scheduler& scheduler);
  ~JournalFront();

  void submit(VolumeId volume, Request& request);
  void set_held(HeldBytes* held) { held_ = held; }

  // For single records of the keeper's own (vTPM state, held flash bytes). False if the journal
  // does not accept now: try again from when_accepting().
  bool try_write(VolumeId volume, uint64_t offset, ByteSpan data, Completion* done,
                 journal::AckAt ack);
  // Appends held bytes, if any and if the journal accepts.
  void release_held();

  journal::Journal& journal() { return journal_; }
  sys::Scheduler& scheduler() { return scheduler_; }
  bool idle() const { return head_ == nullptr; }
  // To be called after the journal was used or a completion of it arrived.
  void after_progress();

 private:
  friend class Request;
  void on_timer() override;
  void run() override;  // sys::Task: lets blocked requests on
  bool start(Request& request);
  bool start_write(Request& request);
  void refuse(Request& request, Error error);
  void arm_tick();

  journal::Journal& journal_;
  sys::Scheduler& scheduler_;
  HeldBytes* held_ = nullptr;
  Request* head_ = nullptr;  // waiting for the journal to accept, oldest first
  Request* tail_ = nullptr;
  Micros tick_at_{UINT64_MAX};
};

// A disk: a range of the journal.
class JournalVolume final : public Volume {
 public:
  JournalVolume(JournalFront& front, VolumeId id, uint64_t size_bytes)
      : front_(front), id_(id), size_bytes_(size_bytes) {}
  uint64_t size_bytes() const override { return size_bytes_; }
  void submit(Request& request) override {
    HF_ASSERT(request.offset <= size_bytes_ && request.length <= size_bytes_ - request.offset);
    front_.submit(id_, request);
  }

 private:
  JournalFront& front_;
  VolumeId id_;
  uint64_t size_bytes_;
};

}  // namespace hf::volume
