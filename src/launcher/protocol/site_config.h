// STATE/site.json, and which user runs what.
//
//   {"version":3,"name","site_id":32 hex,"listen":"127.0.0.1:7443","uid_base":0}
//
// Optional: "vault_secret_file" (absolute path; handed to the vault as --secret-file), "advertise"
// (HOST:PORT under which other sites reach this one, where that is not "listen").
// uid_base 0: everything runs as the invoking user. Else vault, daemon and each VM's keeper and
// QEMU have users (and groups of the same number) of their own, counted from uid_base.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "sys/json.h"

namespace hf::launcher {

constexpr uint32_t kVmNumberMax = 20000;

// Room for every VM's two users below the kernel's last one.
constexpr uint64_t kUidBaseMin = 1000;
constexpr uint64_t kUidBaseMax = 4'000'000'000;

struct SiteConfig {
  std::string name;
  SiteId site_id;
  std::string listen;     // HOST:PORT (base/host_port.h), as is the next
  std::string advertise;  // empty: the same
  uint32_t uid_base = 0;
  std::string vault_secret_file;

  // What other sites are told; a wildcard where it listens at one and nothing else was said.
  const std::string& reached_at() const { return advertise.empty() ? listen : advertise; }
};

// Checks every member. kInvalidArgument names what is wrong.
Result<SiteConfig> parse_site_config(std::string_view text);
std::string to_text(const SiteConfig& config);

// As many users, and groups, as a site with a uid_base may use, counted from it.
constexpr uint64_t kSiteUsers = 18 + 2 * uint64_t{kVmNumberMax};

struct Users {
  uint32_t uid_base = 0;
  uid_t self = 0;  // of the launcher, for uid_base 0

  uid_t vault() const { return uid_base == 0 ? self : uid_base; }
  uid_t daemon() const { return uid_base == 0 ? self : uid_base + 1; }
  uid_t link() const { return uid_base == 0 ? self : uid_base + 2; }
  uid_t keeper(uint32_t vm_number) const {
    return uid_base == 0 ? self : uid_base + 16 + 2 * vm_number;
  }
  uid_t qemu(uint32_t vm_number) const {
    return uid_base == 0 ? self : uid_base + 17 + 2 * vm_number;
  }
};

}  // namespace hf::launcher
