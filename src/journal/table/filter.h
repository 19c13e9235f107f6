// A Bloom filter over what a block's entries touch: seven probes, ten bits a key, whole 8 bytes.
// None at all means "look": where it would be longer than kFilterMax, or a key stands for too much.
#pragma once

#include "journal/table/format.h"

namespace hf::journal {

class FilterBuilder {
 public:
  void add(const TableKey& key);
  void give_up() { given_up_ = true; }  // this block has to be looked at for any key
  Bytes finish();                       // and begins anew

 private:
  std::vector<uint64_t> hashes_;
  bool given_up_ = false;
};

uint64_t filter_hash(const TableKey& key);
bool may_hold(ByteSpan filter, const TableKey& key);

}  // namespace hf::journal
