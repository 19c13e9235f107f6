// A volume in this process's memory: nothing lasts. What the NBD server costs by itself is measured
// with it, and its peers are tested against it.
#pragma once

#include "sys/scheduler.h"
#include "volume/volume.h"

namespace hf::volume {

class MemoryVolume final : public Volume, private sys::Task {
 public:
  MemoryVolume(sys::Scheduler& scheduler, uint64_t size_bytes)
      : scheduler_(scheduler), bytes_(size_bytes) {}
  ~MemoryVolume() override { scheduler_.cancel(*this); }

  uint64_t size_bytes() const override { return bytes_.size(); }
  uint32_t block_bytes() const override { return 1; }
  void submit(Request& request) override;

 private:
  void run() override;

  sys::Scheduler& scheduler_;
  Bytes bytes_;
  RequestQueue done_;
};

}  // namespace hf::volume
