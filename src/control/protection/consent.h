// What a paired site may place here: whether it may at all, whether this site's operator is asked,
// and how much. Ids decide; names are for texts.
#pragma once

#include <map>
#include <string>

#include "base/result.h"
#include "control/store/catalog.h"
#include "sys/json.h"
#include "vm/definition.h"

namespace hf::control {

// What the VM's disks hold when they are full.
uint64_t disk_bytes(const vm::Definition& definition);
// Of all replicas that are here for `site`.
Result<uint64_t> replica_bytes(Catalog& catalog, const SiteId& site);
std::string size_text(uint64_t bytes);  // "1.5 GiB"

struct Wish {
  VmId vm;
  std::string name;
  uint64_t bytes = 0;
};
// Of an offer of a VM that is new here. kPermission: the site may not, or the operator has not
// agreed yet: the offer waits then, if there is room for it. kLimit: the quota, or too many wait.
Status check_consent(Catalog& catalog, const SiteId& from, const Wish& wish,
                     const std::string& here, Micros now);

// How fast a site may place replicas that are new here: kBurst at once, then one each kEvery. What
// is placed and withdrawn again leaves lines in the vault's log for ever, and costs a keeper's
// start. One thread at a time. Of paired sites only, which are few.
class OfferPace {
 public:
  static constexpr uint64_t kBurst = 1024;
  static constexpr Micros kEvery{10'000'000};
  bool admit(const SiteId& from, Micros now);  // monotonic

 private:
  struct Account {
    uint64_t left = kBurst;
    Micros at;
  };
  std::map<SiteId, Account> accounts_;
};
Error too_fast(const std::string& here, const PeerRow& from);

// By VM's name or id, and if `of` is not empty of that site, by its name or id. kConflict: more
// than one, which are named.
Result<OfferRow> offer_named(Catalog& catalog, std::string_view vm, std::string_view of);
// As `replica list` shows it.
Result<sys::JsonObject> show_offer(Catalog& catalog, const OfferRow& offer);

}  // namespace hf::control
