// Users and groups of the host. Whether the users of a site (site_config.h) are nobody else's: not
// in passwd or group, and not handed to anyone as subordinate ids for containers.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hf::launcher {

// Ids that are taken, and by what: "user postgres", "/etc/subuid (alice)".
struct TakenIds {
  uint64_t first = 0;
  uint64_t count = 1;
  std::string by;
};

// Lines "name:first:count" as in subuid(5); a line of another form is passed over.
std::vector<TakenIds> parse_subordinate_ids(std::string_view text, std::string_view file);
// What this host's passwd, group, subuid and subgid say.
std::vector<TakenIds> taken_ids();
// kConflict names the first that overlaps and a base that is free.
Status check_user_range(uint32_t uid_base, const std::vector<TakenIds>& taken);

// The device's group, if it is the one of that name and not root's: a host whose /dev/kvm is
// root:root, or anybody else's, lends no other rights with it.
std::optional<gid_t> device_group(const std::string& device, std::string_view name);

}  // namespace hf::launcher
