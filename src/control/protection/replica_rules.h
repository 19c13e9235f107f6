// What a site does with a peer's question about a replica, as far as the catalog alone says it.
// Ids decide: names are for texts.
#pragma once

#include <string>

#include "base/result.h"
#include "control/store/catalog.h"

namespace hf::control {

// Of the question, and who asks.
struct Asked {
  VmId vm;
  std::string name;
  Epoch epoch;
  std::string journal_public_key;  // hex
  SiteId from;
  std::string from_name;
  std::string here;  // this site's name
};

// Somebody else has the turn of the replica, and keeps it.
Error at_work(const std::string& name, const std::string& here, std::string effect);

enum class OfferIs {
  kNew,
  kSame,       // taken before: its answer was lost, or its taking was cut off
  kSameLater,  // the same, of a source that has a higher epoch by now
};
// kConflict: the VM is here as something else than `from`'s replica. `row`, `protection`: the VM's,
// kNotFound if there are none.
Result<OfferIs> judge_offer(const Asked& offer, const Result<VmRow>& row,
                            const Result<ProtectionRow>& protection);

enum class WithdrawalIs {
  kDue,   // a replica of the asker's is here
  kDone,  // there is none of the asker's: it was removed before
};
// kConflict: the VM was taken over, or what is here is not the asker's replica.
Result<WithdrawalIs> judge_withdrawal(VmId vm, const PeerRow& from, const std::string& here,
                                      const Result<VmRow>& row,
                                      const Result<ProtectionRow>& protection);

}  // namespace hf::control
