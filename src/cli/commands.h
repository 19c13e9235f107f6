// What each command does. The grammar is in cli.cpp.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/output.h"

namespace hf::cli {

struct SiteInitOptions {
  std::string name;
  std::string listen = "127.0.0.1:7443";
  uint32_t uid_base = 0;
  std::string secret_file;
};
Status site_init(const Context& context, const SiteInitOptions& options);
Status site_start(const Context& context, bool foreground);
Status site_stop(const Context& context);
Status site_show(const Context& context);
Status site_peers(const Context& context);

struct SitePairOptions {
  std::string token;
  bool new_token = false;
  std::string expires = "1h";
  std::string address;
};
Status site_pair(const Context& context, const SitePairOptions& options);

struct VmCreateOptions {
  std::string name;
  std::vector<std::string> disks;
  std::vector<std::string> blanks;
  std::string memory = "1G";
  uint64_t cpus = 1;
  std::string security_type = "TrustedLaunch";
  std::string secure_boot;  // "", "on", "off"
  std::string vtpm;
  std::vector<std::string> nics;
};
Status vm_create(const Context& context, const VmCreateOptions& options);
Status vm_start(const Context& context, const std::string& name, bool without_peer,
                bool give_up_bad_tail);
Status vm_stop(const Context& context, const std::string& name, bool force,
               uint64_t timeout_seconds);
Status vm_list(const Context& context);
Status vm_show(const Context& context, const std::string& name);
Status vm_delete(const Context& context, const std::string& name, bool yes);
Status vm_console(const Context& context, const std::string& name, bool follow,
                  const std::string& send);

Status protection_enable(const Context& context, const std::string& vm, const std::string& peer);
Status protection_disable(const Context& context, const std::string& vm);
Status protection_show(const Context& context, const std::string& vm);

struct FailoverOptions {
  std::string vm;
  bool source_is_dead = false;
  bool yes = false;
  std::string attestation = "none";  // "none", "wait", "require"
};
Status failover_unplanned(const Context& context, const FailoverOptions& options);

Status job_list(const Context& context);
Status job_show(const Context& context, uint64_t id);
Status host_show(const Context& context);

// "4G", "512M", "10GiB", "1048576" → bytes; "90s", "15m", "2h", "1d" → seconds.
Result<uint64_t> parse_size(std::string_view text);
Result<uint64_t> parse_duration(std::string_view text);
// A yes on the terminal; an error that names --yes where there is none to ask.
Status confirm(const std::string& question);

}  // namespace hf::cli
