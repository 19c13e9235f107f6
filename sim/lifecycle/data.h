// A VM's data at one site, as far as who may run it depends on them: a line of records with a chain
// over them, of which a beginning is on the disk. (holdfast-sim runs the journal itself.)
#pragma once

#include <vector>

#include "title/statement.h"

namespace hf::sim::life {

class Data {
 public:
  size_t size() const { return records_.size(); }
  size_t synced() const { return synced_; }
  uint64_t record(size_t at) const { return records_[at]; }
  void append(uint64_t record) {
    chain_.push_back(mix(chain_.empty() ? 0 : chain_.back(), record));
    records_.push_back(record);
  }
  void sync() { synced_ = records_.size(); }
  void lose_unsynced() { cut(synced_); }
  void clear() { *this = {}; }
  // `other`'s first `size` records are this line's beginning.
  bool begins_as(const Data& other, size_t size) const {
    return size == 0 || (size <= records_.size() && size <= other.size() &&
                         chain_[size - 1] == other.chain_[size - 1]);
  }
  title::Line line(size_t size) const {
    title::Line line;
    if (size == 0) return line;
    line.position.incarnation.bytes[0] = std::byte{1};
    line.position.sequence = Sequence(size);
    store_le(line.chain.bytes.data(), chain_[size - 1]);
    return line;
  }
  title::Line end() const { return line(synced_); }
  bool has(const title::Line& line) const {
    const size_t size = line.position.sequence.value;
    return size <= records_.size() && this->line(size) == line;
  }

 private:
  void cut(size_t size) {
    records_.resize(size);
    chain_.resize(size);
  }
  static uint64_t mix(uint64_t chain, uint64_t record) {
    uint64_t x = (chain ^ (record + 0x9e3779b97f4a7c15)) * 0xff51afd7ed558ccd;
    return (x ^ (x >> 32)) | 1;
  }
  std::vector<uint64_t> records_;
  std::vector<uint64_t> chain_;
  size_t synced_ = 0;
};

}  // namespace hf::sim::life
