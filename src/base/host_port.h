// HOST:PORT as text, read the same way everywhere: by who listens, who dials, who hands it on.
//
//   192.0.2.10:7443   [2001:db8::10]:7443   north.example:7443
//
// A host is an IPv4 address (four decimal numbers), an IPv6 address in brackets, or a name (RFC
// 1123: letters, digits and hyphens, labels of up to 63, 253 in all; underscores too, which
// resolvers take). A host whose last label is a
// number is an address or nothing: "127.1" is none. Ports are 1 to 65535, decimal. IPv6 without
// brackets is refused, since nobody can tell its port from its last group; so are zones ("%eth0"),
// which mean something on one host only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hf {

enum class HostKind { kIpv4, kIpv6, kName };

struct HostPort {
  std::string host;  // without brackets
  uint16_t port = 0;
  HostKind kind = HostKind::kName;

  std::string text() const;  // HOST:PORT again
  bool is_numeric() const { return kind != HostKind::kName; }
  // "Every address of this host" (0.0.0.0, [::], [::ffff:0.0.0.0]): to listen at; to nobody else
  // does it say where to come to.
  bool is_wildcard() const;
};

// kInvalidArgument: the cause quotes the text and says what is wrong with it, the mend shows the
// forms above.
Result<HostPort> parse_host_port(std::string_view text);
// The same, for an address that others shall come to: wildcards are refused too.
Result<HostPort> parse_reachable_address(std::string_view text);

}  // namespace hf
