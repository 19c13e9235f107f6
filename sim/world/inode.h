// One file of a SimStorage: page cache, medium, and every state between them that a power loss
// could leave.
#pragma once

#include <map>

#include "sim/world/storage.h"

namespace hf::sim {

class SimStorage::Inode {
 public:
  uint64_t size() const { return cached_.size(); }
  const Bytes& cached() const { return cached_; }

  void write(uint64_t offset, ByteSpan bytes);
  void resize(uint64_t size);
  void tamper(uint64_t offset, ByteSpan bytes);

  // A sync in two halves: it covers what was written before its first.
  uint64_t begin_sync();
  void end_sync(uint64_t stamp);
  // Some of what it covered stays in the page cache, marked clean, and never reaches the medium.
  void fail_sync(uint64_t stamp, SimRng& rng);

  void lose_power(SimRng& rng);

 private:
  using Sector = std::array<std::byte, kSectorSize>;
  struct Version {
    uint64_t stamp;
    Sector bytes;
  };
  struct Length {
    uint64_t stamp;
    uint64_t size;
  };
  void note_sector(uint64_t sector);
  void note_size();
  void put_on_medium(uint64_t sector, const Sector& bytes);

  Bytes cached_;
  Bytes medium_;  // whole sectors
  uint64_t medium_size_ = 0;
  uint64_t stamp_ = 0;
  uint64_t syncs_in_flight_ = 0;
  std::map<uint64_t, std::vector<Version>> unsynced_;  // by sector, oldest first
  std::vector<Length> unsynced_sizes_;
};

}  // namespace hf::sim
