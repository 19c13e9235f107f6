// Index: which record holds each byte of a volume now. An ordered map of disjoint extents per
// volume; a later insert or erase wins where it overlaps. What is not in it reads as zeroes.
//
// In memory, about 100 bytes an extent, from a pool that is reused: a steady state allocates
// nothing.
#pragma once

#include <map>
#include <memory_resource>
#include <optional>

#include "journal/format/format.h"

namespace hf::journal {

enum class PlaceKind : uint8_t { kRecord, kRun };  // in a segment; in a base file

// Where a run of plaintext stands sealed. It covers [start, start + length) of its volume.
struct Place {
  uint64_t start = 0;
  uint32_t length = 0;  // of the whole record or run, at most kRecordDataMax
  PlaceKind kind = PlaceKind::kRecord;
  uint64_t file = 0;      // number of the segment or base
  uint64_t position = 0;  // file offset of the record's header, or of the run's first unit
  uint64_t sequence = 0;  // of the record; the run's number in its base
  bool operator==(const Place&) const = default;
};

struct IndexExtent {
  uint64_t offset = 0;
  uint64_t length = 0;
  Place place;
  bool operator==(const IndexExtent&) const = default;
  uint64_t end() const { return offset + length; }
};

class Index {
 public:
  void insert(VolumeId volume, uint64_t offset, uint64_t length, const Place& place);
  void erase(VolumeId volume, uint64_t offset, uint64_t length);

  // The first extent that ends after `offset`, cut to start at `offset` at the earliest; none if
  // there is none before `limit`; also cut to end at `limit`.
  std::optional<IndexExtent> find(VolumeId volume, uint64_t offset, uint64_t limit) const;
  // The first whole extent at or after (volume, offset), in that order, over all volumes.
  struct Cursor {
    VolumeId volume;
    uint64_t offset = 0;
  };
  struct Found {
    VolumeId volume;
    IndexExtent extent;
  };
  std::optional<Found> next(const Cursor& from) const;

  uint64_t extents() const { return extents_; }

 private:
  struct Node {
    uint64_t end = 0;
    Place place;
  };
  using Extents = std::pmr::map<uint64_t, Node>;  // by offset
  Extents& volume_map(VolumeId volume);
  void carve(Extents& extents, uint64_t offset, uint64_t end);

  std::pmr::unsynchronized_pool_resource pool_;
  std::pmr::map<uint32_t, Extents> volumes_{&pool_};
  uint64_t extents_ = 0;
};

}  // namespace hf::journal
