// The operators' side of the vault ("vault-operators"): root, and the user that the site was made
// by where all of it runs as one. What changes whom the site trusts, and words for single acts,
// come from here and not from holdfastd, which everybody's requests pass through.
#pragma once

#include "vault/protocol/client.h"

namespace hf::vault {

class OperatorClient {
 public:
  explicit OperatorClient(ClientOptions options) : options_(std::move(options)) {}

  // A one-time secret for a site that is to be paired with; who proves it first, within `life_s`
  // seconds, becomes a recipient. `name`: what that site is called here; empty: as it calls itself.
  Result<PairingOffer> offer_pairing(uint32_t life_s, const std::string& name = "");
  // The word that the site which a token names may become a recipient, if it proves the token
  // within ten minutes. The id is what the daemon is told.
  Result<PairingTokenId> confirm_pairing(const PairingConfirmation& word);
  Result<std::vector<Recipient>> recipients();
  Status remove_recipient(SiteId site);  // kNotFound
  // The word that `site`, a recipient, may have the key of this VM, so that it can stand by for it.
  // Whether it was not said before. kNotFound: no recipient, or no key of that VM.
  Result<bool> add_member(VmId vm, SiteId site);
  Status remove_member(VmId vm, SiteId site);
  // The word for one act on this VM under the head that there is: what it excuses is in it. It can
  // be used once, within a minute; it ends when one of the sites that it names is heard from.
  Result<GivenWord> give_word(VmId vm, title::Act act);
  // From now on no site may have it any more; what one has, it keeps.
  Status clear_members(VmId vm);

 private:
  ClientOptions options_;
};

}  // namespace hf::vault
