#include "base/host_port.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace hf {
namespace {

constexpr size_t kNameMax = 253;
constexpr size_t kLabelMax = 63;
constexpr size_t kShownMax = 300;  // of what was given, in the error

Error refused(std::string_view text, std::string_view why) {
  return {.code = ErrorCode::kInvalidArgument,
          .cause = "\"" + clean_text(text, kShownMax) + "\" is not an address: " + std::string(why),
          .mend = "write it as 192.0.2.10:7443, [2001:db8::10]:7443 or host.example:7443"};
}

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_label(std::string_view label) {
  return !label.empty() && label.size() <= kLabelMax && label.front() != '-' &&
         label.back() != '-' && std::ranges::all_of(label, [](char c) {
           return digit(c) || letter(c) || c == '-' || c == '_';
         });
}

// Resolvers take a last label of "1", "0x1" and the like for a part of an IPv4 address.
bool looks_numeric(std::string_view label) {
  if (label.starts_with("0x") || label.starts_with("0X")) return true;
  return !label.empty() && std::ranges::all_of(label, digit);
}

bool is_name(std::string_view host) {
  if (host.empty() || host.size() > kNameMax) return false;
  if (host.ends_with('.')) host.remove_suffix(1);
  std::string_view label;
  for (std::string_view rest = host; !rest.empty() || label.empty();) {
    const size_t end = std::min(rest.find('.'), rest.size());
    label = rest.substr(0, end);
    if (!is_label(label)) return false;
    if (end == rest.size()) break;
    rest.remove_prefix(end + 1);
  }
  return !looks_numeric(label);
}

bool is_address(int family, const std::string& host) {
  in6_addr address{};  // large enough for both
  return ::inet_pton(family, host.c_str(), &address) == 1;
}

std::string_view why_no_host(std::string_view host) {
  if (host.empty()) return "there is no host before its port";
  if (host.find(':') != std::string_view::npos) return "an IPv6 address stands in brackets";
  return "its host is neither an IPv4 address nor a name";
}

}  // namespace

std::string HostPort::text() const {
  const std::string at = kind == HostKind::kIpv6 ? "[" + host + "]" : host;
  return at + ":" + std::to_string(port);
}

bool HostPort::is_wildcard() const {
  if (kind == HostKind::kIpv4) return host == "0.0.0.0";
  in6_addr address{};
  if (kind != HostKind::kIpv6 || ::inet_pton(AF_INET6, host.c_str(), &address) != 1) return false;
  return IN6_IS_ADDR_UNSPECIFIED(&address) ||
         (IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr32[3] == 0);
}

Result<HostPort> parse_host_port(std::string_view text) {
  // No character of an address is longer than a byte; a zero byte would end it for inet_pton().
  if (std::ranges::any_of(text, [](char c) { return c <= ' ' || c >= 0x7f; })) {
    return refused(text, "it holds blanks or other characters that no address has");
  }
  HostPort parsed;
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return refused(text, "its bracket is not closed");
    parsed.host = text.substr(1, bracket - 1);
    parsed.kind = HostKind::kIpv6;
    if (!is_address(AF_INET6, parsed.host)) {
      return refused(text, "what stands in brackets is no IPv6 address");
    }
    if (text.substr(bracket + 1, 1) != ":") return refused(text, "it has no port");
    port = text.substr(bracket + 2);
  } else {
    const size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) return refused(text, "it has no port");
    parsed.host = text.substr(0, colon);
    parsed.kind = is_address(AF_INET, parsed.host) ? HostKind::kIpv4 : HostKind::kName;
    if (parsed.kind == HostKind::kName && !is_name(parsed.host)) {
      return refused(text, why_no_host(parsed.host));
    }
    port = text.substr(colon + 1);
  }
  const char* end = port.data() + port.size();
  const auto read = std::from_chars(port.data(), end, parsed.port);
  if (read.ec != std::errc() || read.ptr != end || parsed.port == 0) {
    return refused(text, "its port is not a number from 1 to 65535");
  }
  return parsed;
}

Result<HostPort> parse_reachable_address(std::string_view text) {
  HostPort parsed = TRY(parse_host_port(text));
  if (parsed.is_wildcard()) {
    return refused(text, "it stands for every address of a host, and leads nobody to this one");
  }
  return parsed;
}

}  // namespace hf
