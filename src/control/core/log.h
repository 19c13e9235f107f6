// The daemon's log: lines on stderr, which the launcher keeps. Never a secret, never guest data.
#pragma once

#include <cstddef>
#include <string_view>

#include "base/ids.h"

namespace hf::control {

void log_start();
void log_info(std::string_view text);
void log_warning(std::string_view text);
void log_error(std::string_view text);

// What other sites cause, strangers among them: base/log_limiter.h says how many of a kind are
// written. Control characters of the text are cleaned, and it is cut.
enum class PeerLog {
  kPairing,  // first contacts that failed
  kRequest,  // questions of paired sites that failed
  kOrder,    // a VM was taken over, or is to be
  kReplica,  // a replica here that its source asks for does not run
};
inline constexpr size_t kPeerLogs = 4;
void log_peer(PeerLog kind, std::string_view text);
// Of a paired site: counted by itself.
void log_peer(PeerLog kind, SiteId site, std::string_view text);

}  // namespace hf::control
