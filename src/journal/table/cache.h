// PageCache: blocks and pages of tables, checked against the hash that named them, least recently
// used out first. Bounded in bytes, whatever the tables' size.
//
// Who walks a table holds the pages that it stands on (PagePtr), so that a cache of any size lets
// it get on: it never has to find the same page twice.
#pragma once

#include <list>
#include <memory>
#include <unordered_map>

#include "journal/table/format.h"

namespace hf::journal {

using PagePtr = std::shared_ptr<const Bytes>;

// What has to be read before a walk goes on.
struct PageRequest {
  uint64_t table = 0;  // the owner's number of it
  PageReference page;
};

class PageCache {
 public:
  explicit PageCache(size_t bytes_max) : bytes_max_(bytes_max) {}

  PagePtr find(uint64_t table, const PageReference& page);
  // kCorrupt: these are not the bytes that were asked for; nothing is kept.
  Status put(const PageRequest& request, Bytes bytes);
  void forget(uint64_t table);

  size_t bytes() const { return bytes_; }
  uint64_t hits() const { return hits_; }
  uint64_t misses() const { return misses_; }

 private:
  struct Key {
    uint64_t table = 0;
    uint64_t offset = 0;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return static_cast<size_t>((key.table + 1) * 0x9e3779b97f4a7c15u ^ key.offset);
    }
  };
  struct Held {
    Key key;
    Digest hash;
    PagePtr bytes;
  };
  static constexpr size_t kOverhead = 200;  // of list, hash table and control block, about
  void drop(std::list<Held>::iterator held);

  const size_t bytes_max_;
  size_t bytes_ = 0;
  uint64_t hits_ = 0;
  uint64_t misses_ = 0;
  std::list<Held> used_;  // most recently used first
  std::unordered_map<Key, std::list<Held>::iterator, KeyHash> places_;
};

}  // namespace hf::journal
