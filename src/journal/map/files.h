// OpenFiles: the files that a Place may name, by number, with the reads in flight on each.
#pragma once

#include <unordered_map>

#include "base/storage.h"
#include "journal/map/index.h"

namespace hf::journal {

class OpenFiles {
 public:
  struct Entry {
    FileId file;
    PlaceKind kind = PlaceKind::kRecord;
    uint32_t readers = 0;
  };
  void add(uint64_t number, FileId file, PlaceKind kind) {
    const bool added = entries_.try_emplace(number, Entry{.file = file, .kind = kind}).second;
    HF_ASSERT(added);
  }
  void remove(uint64_t number) {
    HF_ASSERT(!busy(number));
    entries_.erase(number);
  }
  bool has(uint64_t number) const { return entries_.contains(number); }
  Entry& at(uint64_t number) {
    const auto found = entries_.find(number);
    HF_ASSERT(found != entries_.end());
    return found->second;
  }
  bool busy(uint64_t number) const {
    const auto found = entries_.find(number);
    return found != entries_.end() && found->second.readers > 0;
  }

 private:
  std::unordered_map<uint64_t, Entry> entries_;
};

}  // namespace hf::journal
