// Users and groups of the host. Whether the users of a site (site_config.h) are nobody else's: not
// in passwd or group, not handed to anyone as subordinate ids for containers, not another site's
// (site_registry.h), and there at all: a container has some of its host's only.
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
// What useradd(8) gives out by itself: UID_MIN to UID_MAX and the like of login.defs(5), or what it
// does where the file is silent. Not taken yet, but some day.
std::vector<TakenIds> parse_login_defs(std::string_view text);
// What a user namespace has not: between and above the lines of /proc/PID/uid_map or gid_map.
std::vector<TakenIds> parse_unmapped_ids(std::string_view map, std::string_view file);

enum class UserSource {
  kNameService,  // all that getent(1) would list
  kFiles,        // /etc/passwd and /etc/group: nobody is asked who may not answer
};
// What this host's passwd, group, subuid and subgid say, and what is not mapped.
std::vector<TakenIds> taken_ids(UserSource source = UserSource::kNameService);
std::vector<TakenIds> reserved_ids();  // this host's /etc/login.defs

// The first that lies in the range of a site with that base; null: it is free.
const TakenIds* overlapping(uint64_t uid_base, const std::vector<TakenIds>& taken);
// A base whose range nobody has: above what useradd, systemd and directory services give out, if
// there is room; else from 100000 on outside `reserved`; else inside it. kConflict: nowhere.
Result<uint32_t> choose_uid_base(const std::vector<TakenIds>& taken,
                                 const std::vector<TakenIds>& reserved);
// kConflict names the first that overlaps and a base that would do; kInvalidArgument: no base.
Status check_user_range(uint32_t uid_base, const std::vector<TakenIds>& taken,
                        const std::vector<TakenIds>& reserved);

// Who is in this group of the host may use the sockets of operators, of sites that have users of
// their own. A host need not have it.
inline constexpr const char* kOperatorsGroup = "holdfast-operators";
std::optional<gid_t> operators_group();

// The device's group, if it is the one of that name and not root's: a host whose /dev/kvm is
// root:root, or anybody else's, lends no other rights with it.
std::optional<gid_t> device_group(const std::string& device, std::string_view name);

}  // namespace hf::launcher
