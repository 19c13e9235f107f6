// The acts of `holdfast site` that need no daemon.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/core/output.h"

namespace hf::cli {

struct SiteInitOptions {
  std::string name;
  std::string listen = "127.0.0.1:7443";
  std::string advertise;             // empty: `listen`
  std::optional<uint32_t> uid_base;  // not given: chosen where this is root, else 0
  std::string secret_file;
};
// Makes the state directory, the vault and site.json.
Status site_init(const Context& context, const SiteInitOptions& options);
// Starts the launcher and waits until the daemon answers; with `foreground`, becomes the launcher.
Status site_start(const Context& context, bool foreground);
struct SiteStopOptions {
  bool force = false;  // the guests' power is cut
  uint64_t timeout_seconds = 120;
};
// Asks the guests to shut down, then ends the launcher and waits for its end. If one does not hear,
// the site runs on.
Status site_stop(const Context& context, const SiteStopOptions& options);
// Ends the launcher and starts another one, whose guests are the same.
Status site_restart(const Context& context);

}  // namespace hf::cli
