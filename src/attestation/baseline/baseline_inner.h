// What the comparison of boots is made of; for baseline*.cpp only.
#pragma once

#include <bitset>
#include <deque>

#include "attestation/baseline/baseline.h"
#include "attestation/words/database_change.h"

namespace hf::attestation {

// What planned changes take as it comes.
struct Open {
  std::bitset<kPcrCount> pcrs;
  bool grub_config = false;
  Open with(const PlannedChange& change) const {
    Open open = *this;
    for (uint8_t pcr : change.open_pcrs) open.pcrs.set(pcr);
    open.grub_config = grub_config || change.grub_config;
    return open;
  }
};

// Changes of databases, each worked out once: the same ones are met again with every planned change
// that is tried.
class DatabaseChanges {
 public:
  const DatabaseChange& of(ByteSpan was, ByteSpan is) {
    for (const Known& known : known_) {
      if (equal(known.was, was) && equal(known.is, is)) return known.change;
    }
    known_.push_back(
        {Bytes(was.begin(), was.end()), Bytes(is.begin(), is.end()), database_change(was, is)});
    return known_.back().change;
  }

 private:
  struct Known {
    Bytes was;
    Bytes is;
    DatabaseChange change;
  };
  std::deque<Known> known_;
};

// What accepted boots are compared with. References live as long as the comparison.
struct Compared {
  const MeasuredBoot& boot;
  const Policy& policy;
  const Explanations& explanations;
  DatabaseChanges& changes;
};

// Gives the entry the digest that it will have with another text, if it is known how it is made.
void retext(BaselineEntry& entry, HashAlg bank, const PlannedChange::Text& change);

size_t failures(const std::vector<Difference>& differences);
std::vector<Difference> differences_of(const BaselineBoot& expected, const Compared& with,
                                       const Open& open);
struct DifferenceCount {
  size_t all = 0;
  size_t failures = 0;
};
// Without a word about them.
DifferenceCount count_differences(const BaselineBoot& expected, const Compared& with,
                                  const Open& open);

}  // namespace hf::attestation
