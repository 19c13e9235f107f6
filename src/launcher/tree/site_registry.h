// The sites of this host that have users of their own, so that no two have the same: a directory
// with a link a site, named by its id, to its state directory.
//
//   /var/lib/holdfast-sites/3984cf9506130be827a607b0ad094247 -> /var/lib/holdfast-north
//
// `site init` enters a site, and each start does again. What is said of a site is read from its
// site.json; an entry whose directory has gone, or holds another site now, says nothing, and the
// next one who enters a site removes it.
#pragma once

#include <string>
#include <vector>

#include "launcher/protocol/site_config.h"
#include "launcher/tree/host_users.h"

namespace hf::launcher {

class SiteRegistry {
 public:
  // `directory`: empty keeps nothing and knows nobody.
  explicit SiteRegistry(std::string directory) : directory_(std::move(directory)) {}
  // HOLDFAST_SITES, else /var/lib/holdfast-sites.
  static SiteRegistry of_host();

  struct Entered {
    SiteConfig site;
    std::string state;  // where it lies
  };
  // Those that are still there.
  std::vector<Entered> sites() const;
  // The users of all sites but `self`, as "site north (/var/lib/holdfast-north)".
  std::vector<TakenIds> taken(SiteId self = {}) const;
  // `state`: absolute. Replaces what was said of that site.
  Status enter(SiteId site, const std::string& state) const;

 private:
  std::string directory_;
};

// At a site's start: its users are nobody else's by now, and it is entered. kConflict names a base
// that would do.
Status claim_users(const SiteConfig& site, const std::string& state, const SiteRegistry& registry);

}  // namespace hf::launcher
