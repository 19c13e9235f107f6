// The verdicts of this site's VMs, typed. The catalog keeps their records as JSON; here each is
// parsed once, and what decides with them is kept in memory: some 200 bytes a verdict.
//
// Thread-safe. Reads the catalog under its own lock, never the other way round.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "attestation/verdict/verdict_record.h"
#include "control/store/catalog.h"

namespace hf::control {

class VerdictBook {
 public:
  explicit VerdictBook(Catalog& catalog) : catalog_(catalog) {}

  // Newest first, kVerdictsMax at most. A record that cannot be read counts as Unknown, of no boot.
  using History = std::shared_ptr<const std::vector<attestation::VerdictFacts>>;
  Result<History> history(VmId vm);
  // All of one verdict. kNotFound: it gave way to newer ones.
  Result<attestation::VerdictRecord> record(VmId vm, uint64_t id);
  // Its id.
  Result<uint64_t> add(VmId vm, const attestation::VerdictRecord& record);
  // What is remembered, not what is kept: the VM stopped. What the catalog replaced, or lost with
  // its VM, is never given out again, with or without this.
  void forget(VmId vm);

 private:
  Result<History> load(VmId vm);

  Catalog& catalog_;
  std::mutex mutex_;
  std::map<VmId, History> known_;
};

// Why what is kept here is not of the VM as it is now; empty if it is. A site keeps what it knew
// of a VM that another one runs by now, and of its replica after that.
std::string kept_from_before(const VmRow& row);

}  // namespace hf::control
