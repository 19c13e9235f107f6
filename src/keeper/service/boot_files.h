// What the VM's first disk boots, read by the one process that can read it.
//
// The disk is the guest's, and may change while it is read: a reading says what was there then. It
// runs on a thread of its own, in pieces between the guest's requests, and is bounded in bytes. A
// reading is asked for by ticket, since it may take seconds and whoever asks has a clock to watch:
//
//   {"op":"boot_files"}            → {"ticket":n}: one that begins after the question
//   {"op":"boot_files","ticket":n} → {"ticket":n,"reading":true}, or with "reading":false
//                                    {"knowledge":text,"report":{…},"text":lines,"bytes":n} or
//                                    {"error":{…}}
// kConflict: no such ticket was given, as after a restart of the keeper.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>

#include "keeper/worker.h"
#include "keeper_protocol/control.h"
#include "sys/reactor.h"
#include "volume/flash_volume.h"
#include "volume/journal_front.h"

namespace hf::keeper {

// Read in all. Boot files of real systems are below: firmware loads them on each boot, too.
inline constexpr uint64_t kBootFilesBytesMax = uint64_t{512} << 20;

class BootFiles {
 public:
  struct Parts {
    sys::Reactor& reactor;
    volume::JournalFront& front;  // on the reactor's thread
    volume::FlashVolume& flash;   // likewise
    VolumeId disk{};
    uint64_t size_bytes = 0;
  };
  explicit BootFiles(Parts parts) : parts_(parts) {}

  void start() { worker_.start(); }
  // Ends a reading under way at its next piece. From another thread while the reactor turns.
  void stop();

  // On the reactor's thread; does not block.
  Result<sys::JsonObject> answer(const keeper_protocol::BootFiles& asked);

 private:
  class DiskSource;
  Result<sys::JsonObject> ask();
  void read_now();
  Result<sys::JsonObject> read();

  Parts parts_;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  uint64_t asked_ = 0;      // guarded by mutex_: tickets given
  uint64_t begun_ = 0;      // guarded by mutex_: readings begun answer all tickets up to this
  uint64_t done_ = 0;       // guarded by mutex_: `newest_` answers all tickets up to this
  sys::JsonObject newest_;  // guarded by mutex_
  Worker worker_;
};

}  // namespace hf::keeper
