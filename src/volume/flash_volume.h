// FlashVolume: the UEFI variable store behind QEMU's second pflash.
//
// QEMU reads the flash once, then writes whole sectors for each programmed byte (some 3,400 writes
// a boot, 800,000 when the firmware compacts a full store), one at a time, never flushes and never
// reads again. So the image stands in memory; a write is compared with it, and only what changed
// goes on. Changed bytes near each other are held to share a record until something else is
// appended to the VM's journal, a flush comes, the next change is elsewhere, or kHoldUs pass.
//
// Why one record at a time is enough for the firmware: edk2's fault-tolerant write and its variable
// states (0xFF, 0x7F, 0x3F, …) are made for a store that stops after any single programmed byte, in
// order. Held bytes are one range in one record: all of the writes in it become visible at once,
// and everything before it already is. A state between two writes is thus skipped, never invented.
//
// A write is acknowledged when its bytes are held, not appended: QEMU waits for each of them. What
// is held is noted in a Scratch that outlives this process (not the host): a successor appends it
// first. The note stands until the append is done, hence writes wait while one is under way.
#pragma once

#include "volume/journal_front.h"

namespace hf::volume {

// Keeps the held range where a successor of this process finds it.
class Scratch {
 public:
  virtual void keep(uint64_t offset, ByteSpan bytes) = 0;  // replaces what was kept, at once
  virtual void clear() = 0;

 protected:
  ~Scratch() = default;
};

class FlashVolume final : public Volume, public HeldBytes, private sys::Timer, private sys::Task {
 public:
  static constexpr uint64_t kHoldUs = 20'000;
  static constexpr uint64_t kHeldBytesMax = 64 * 1024;
  static constexpr uint64_t kGapMax = 256;  // bytes in between that cost less than another record

  // `image` is the store as the journal has it; it lives at `base` of `volume`. `scratch` may be
  // null.
  FlashVolume(JournalFront& front, VolumeId volume, uint64_t base, Bytes image, Scratch* scratch);
  ~FlashVolume() override;

  uint64_t size_bytes() const override { return image_.size(); }
  uint32_t block_bytes() const override { return 1; }
  const Bytes& image() const { return image_; }
  void submit(Request& request) override;
  void append_held() override;
  bool appending() const override { return appending_; }
  // Another image of the same size, from an owner that edits the store while nobody is connected to
  // it, and that appends what changed. Only while settled().
  void replace(Bytes image);
  // Nothing waits, nothing is held, nothing is under way.
  bool settled() const { return idle() && held_from_ == held_to_; }
  bool idle() const { return waiting_.empty() && finished_.empty() && !appending_; }

 private:
  class Appended final : public Completion {
   public:
    explicit Appended(FlashVolume& flash) : flash_(flash) {}
    void on_complete(Status status) override { flash_.on_appended(std::move(status)); }

   private:
    FlashVolume& flash_;
  };

  void on_timer() override;
  void run() override;
  void on_appended(Status status);
  void wait(uint64_t microseconds);
  bool apply(uint64_t offset, ByteSpan bytes);
  bool apply(Request& request);
  void finish_later(Request& request);
  void let_waiting_on();

  JournalFront& front_;
  VolumeId volume_;
  uint64_t base_;
  Bytes image_;
  Scratch* scratch_;
  uint64_t held_from_ = 0;
  uint64_t held_to_ = 0;  // empty if equal
  Appended appended_{*this};
  bool appending_ = false;
  RequestQueue waiting_;   // until the append under way is done, or the journal accepts
  RequestQueue finished_;  // on_done from the loop
};

}  // namespace hf::volume
