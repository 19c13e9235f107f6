// What only an operator may say goes to the vault, by a socket that holdfastd does not have. Of a
// pairing token holdfastd is told the id.
#pragma once

#include <optional>
#include <string>

#include "base/ids.h"
#include "cli/core/output.h"
#include "title/words.h"

namespace hf::cli {

// A token for another site, which is to reach this one at `address`; empty: as site.json says. The
// vault calls that site `name`; empty: as it calls itself.
Result<sys::JsonObject> make_pairing_token(const Context& context, uint64_t life_s,
                                           const std::string& address,
                                           const std::string& name = "");
// Pairs with the site that made `token`; that one is to reach this site at `address`.
Result<sys::JsonObject> pair_by_token(const Context& context, const std::string& token,
                                      const std::string& address, const std::string& name = "");

// The site that the vault calls so, or whose id it is; nothing: it knows none.
Result<std::optional<SiteId>> recipient_named(const Context& context, const std::string& site);
// That site's keys are trusted no more: no VM's key is wrapped for it, nor taken from it, and no
// token that is not used yet is good.
Status say_no_recipient(const Context& context, const SiteId& site);

// That a site may have a VM's key; both as they are called here, or by their ids.
struct MemberWord {
  VmId vm;
  std::optional<SiteId> site;  // if it is said now and was not before
};
// A site that the vault does not know: nothing is said, and whoever acts on it is refused.
Result<MemberWord> say_member(const Context& context, const std::string& vm,
                              const std::string& site);
void take_back(const Context& context, const MemberWord& word);
Status say_no_members(const Context& context, const VmId& vm);
// The word for one act on a VM, as hex: holdfastd is told it, and can use it once, within a minute.
Result<std::string> say_word(const Context& context, const std::string& vm, title::Act act);
// holdfastd says which VM has a name; who gives the id does not go by that.
Result<VmId> vm_named(const Context& context, const std::string& name);

}  // namespace hf::cli
