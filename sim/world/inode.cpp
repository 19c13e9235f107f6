#include "sim/world/inode.h"

#include <algorithm>

namespace hf::sim {

void SimStorage::Inode::note_sector(uint64_t sector) {
  Version version{.stamp = stamp_, .bytes = {}};
  const uint64_t from = sector * kSectorSize;
  if (from < cached_.size()) {
    std::memcpy(version.bytes.data(), cached_.data() + from,
                std::min<uint64_t>(kSectorSize, cached_.size() - from));
  }
  std::vector<Version>& versions = unsynced_[sector];
  // Old states may be forgotten only while no sync could still choose one of them.
  constexpr size_t kVersionsMax = 6;
  if (versions.size() >= kVersionsMax && syncs_in_flight_ == 0) versions.erase(versions.begin());
  versions.push_back(version);
}

void SimStorage::Inode::note_size() {
  if (!unsynced_sizes_.empty() && unsynced_sizes_.back().size == cached_.size()) return;
  unsynced_sizes_.push_back({.stamp = stamp_, .size = cached_.size()});
}

void SimStorage::Inode::write(uint64_t offset, ByteSpan bytes) {
  if (bytes.empty()) return;
  stamp_++;
  if (cached_.size() < offset + bytes.size()) {
    cached_.resize(offset + bytes.size());
    note_size();
  }
  std::memcpy(cached_.data() + offset, bytes.data(), bytes.size());
  const uint64_t last = (offset + bytes.size() - 1) / kSectorSize;
  for (uint64_t sector = offset / kSectorSize; sector <= last; sector++) note_sector(sector);
}

void SimStorage::Inode::resize(uint64_t size) {
  stamp_++;
  const uint64_t before = cached_.size();
  cached_.resize(size);
  note_size();
  if (size >= before || before == 0) return;
  for (uint64_t sector = size / kSectorSize; sector <= (before - 1) / kSectorSize; sector++) {
    note_sector(sector);
  }
}

void SimStorage::Inode::tamper(uint64_t offset, ByteSpan bytes) {
  HF_ASSERT(offset + bytes.size() <= cached_.size());
  std::memcpy(cached_.data() + offset, bytes.data(), bytes.size());
  const uint64_t last = (offset + bytes.size() - 1) / kSectorSize;
  for (uint64_t sector = offset / kSectorSize; sector <= last; sector++) {
    if (unsynced_.contains(sector)) {
      note_sector(sector);
      continue;
    }
    Sector whole{};
    const uint64_t from = sector * kSectorSize;
    std::memcpy(whole.data(), cached_.data() + from,
                std::min<uint64_t>(kSectorSize, cached_.size() - from));
    put_on_medium(sector, whole);
  }
}

void SimStorage::Inode::put_on_medium(uint64_t sector, const Sector& bytes) {
  const uint64_t from = sector * kSectorSize;
  if (medium_.size() < from + kSectorSize) medium_.resize(from + kSectorSize);
  std::memcpy(medium_.data() + from, bytes.data(), kSectorSize);
}

uint64_t SimStorage::Inode::begin_sync() {
  syncs_in_flight_++;
  return stamp_;
}

void SimStorage::Inode::end_sync(uint64_t stamp) {
  HF_ASSERT(syncs_in_flight_ > 0);
  syncs_in_flight_--;
  for (auto at = unsynced_.begin(); at != unsynced_.end();) {
    std::vector<Version>& versions = at->second;
    const auto newer = std::find_if(versions.begin(), versions.end(),
                                    [stamp](const Version& v) { return v.stamp > stamp; });
    if (newer != versions.begin()) put_on_medium(at->first, std::prev(newer)->bytes);
    versions.erase(versions.begin(), newer);
    at = versions.empty() ? unsynced_.erase(at) : std::next(at);
  }
  const auto newer = std::find_if(unsynced_sizes_.begin(), unsynced_sizes_.end(),
                                  [stamp](const Length& l) { return l.stamp > stamp; });
  if (newer != unsynced_sizes_.begin()) medium_size_ = std::prev(newer)->size;
  unsynced_sizes_.erase(unsynced_sizes_.begin(), newer);
}

void SimStorage::Inode::fail_sync(uint64_t stamp, SimRng& rng) {
  HF_ASSERT(syncs_in_flight_ > 0);
  syncs_in_flight_--;
  for (auto at = unsynced_.begin(); at != unsynced_.end();) {
    std::vector<Version>& versions = at->second;
    if (rng.chance(1, 2)) {
      std::erase_if(versions, [stamp](const Version& v) { return v.stamp <= stamp; });
    }
    at = versions.empty() ? unsynced_.erase(at) : std::next(at);
  }
}

void SimStorage::Inode::lose_power(SimRng& rng) {
  // Now and then the medium took nothing, or all: the even mixture alone would rarely show those.
  const uint64_t mood = rng.below(8);
  for (const auto& [sector, versions] : unsynced_) {
    const uint64_t choice = mood == 0   ? 0
                            : mood == 1 ? versions.size()
                                        : rng.below(versions.size() + 1);
    if (choice > 0) put_on_medium(sector, versions[choice - 1].bytes);
  }
  if (!unsynced_sizes_.empty()) {
    const uint64_t choice = mood == 0   ? 0
                            : mood == 1 ? unsynced_sizes_.size()
                                        : rng.below(unsynced_sizes_.size() + 1);
    if (choice > 0) medium_size_ = unsynced_sizes_[choice - 1].size;
  }
  unsynced_.clear();
  unsynced_sizes_.clear();
  syncs_in_flight_ = 0;
  medium_.resize((medium_size_ + kSectorSize - 1) / kSectorSize * kSectorSize);
  // What lies behind the end in the last sector reads as zero if the file grows again.
  std::fill(medium_.begin() + static_cast<std::ptrdiff_t>(medium_size_), medium_.end(),
            std::byte{0});
  cached_.assign(medium_.begin(), medium_.begin() + static_cast<std::ptrdiff_t>(medium_size_));
}

}  // namespace hf::sim
