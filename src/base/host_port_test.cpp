#include "base/host_port.h"

#include <gtest/gtest.h>

namespace hf {
namespace {

TEST(HostPort, of_each_kind_is_taken_and_written_again) {
  struct Case {
    std::string_view text;
    std::string_view host;
    uint16_t port;
    HostKind kind;
  };
  for (const Case& one : {Case{"127.0.0.1:7443", "127.0.0.1", 7443, HostKind::kIpv4},
                          Case{"192.0.2.10:1", "192.0.2.10", 1, HostKind::kIpv4},
                          Case{"0.0.0.0:65535", "0.0.0.0", 65535, HostKind::kIpv4},
                          Case{"[::1]:7443", "::1", 7443, HostKind::kIpv6},
                          Case{"[::]:7443", "::", 7443, HostKind::kIpv6},
                          Case{"[2001:db8::10]:443", "2001:db8::10", 443, HostKind::kIpv6},
                          Case{"[::ffff:192.0.2.1]:9", "::ffff:192.0.2.1", 9, HostKind::kIpv6},
                          Case{"localhost:7443", "localhost", 7443, HostKind::kName},
                          Case{"north.example:7443", "north.example", 7443, HostKind::kName},
                          Case{"a-b.x1:7443", "a-b.x1", 7443, HostKind::kName},
                          Case{"a_b:7443", "a_b", 7443, HostKind::kName},
                          Case{"1password.example:80", "1password.example", 80, HostKind::kName},
                          Case{"north.example.:80", "north.example.", 80, HostKind::kName}}) {
    const Result<HostPort> parsed = parse_host_port(one.text);
    ASSERT_TRUE(parsed.ok()) << parsed.error().describe();
    EXPECT_EQ(parsed->host, one.host);
    EXPECT_EQ(parsed->port, one.port);
    EXPECT_EQ(parsed->kind, one.kind);
    EXPECT_EQ(parsed->text(), one.text);
  }
}

TEST(HostPort, that_is_none_is_refused_with_what_is_wrong) {
  struct Case {
    std::string_view text;
    std::string_view why;
  };
  const std::string long_label(64, 'a');
  const std::string long_name = std::string(200, 'a') + ".example:1";
  for (const Case& one : {
           Case{"", "no port"},
           Case{"7443", "no port"},
           Case{"localhost", "no port"},
           Case{"[::1]", "no port"},
           Case{"[::1]7443", "no port"},
           Case{"[::1", "not closed"},
           Case{":7443", "no host"},
           Case{"127.0.0.1:", "1 to 65535"},
           Case{"127.0.0.1:0", "1 to 65535"},
           Case{"127.0.0.1:70000", "1 to 65535"},
           Case{"host:99999", "1 to 65535"},
           Case{"host:4294974739", "1 to 65535"},
           Case{"host:18446744073709559059", "1 to 65535"},
           Case{"host:-1", "1 to 65535"},
           Case{"host:+1", "1 to 65535"},
           Case{"host:7443x", "1 to 65535"},
           Case{"host:0x1d13", "1 to 65535"},
           Case{"host:http", "1 to 65535"},
           Case{"[::1]:70000", "1 to 65535"},
           Case{"::1:7443", "brackets"},
           Case{"::1", "brackets"},
           Case{"2001:db8::10:7443", "brackets"},
           Case{"[127.0.0.1]:7443", "IPv6"},
           Case{"[localhost]:7443", "IPv6"},
           Case{"[]:7443", "IPv6"},
           Case{"[fe80::1%eth0]:7443", "IPv6"},
           Case{"300.0.0.1:7443", "neither"},
           Case{"127.1:7443", "neither"},
           Case{"2130706433:7443", "neither"},
           Case{"0x7f.0.0.0x1:7443", "neither"},
           Case{"127.0.0.1.:7443", "neither"},
           Case{"-a:7443", "neither"},
           Case{"a-:7443", "neither"},
           Case{"a..b:7443", "neither"},
           Case{".:7443", "neither"},
           Case{"http://host:7443", "brackets"},
           Case{"user@host:7443", "neither"},
           Case{"host :7443", "blanks"},
           Case{" host:7443", "blanks"},
           Case{"host:7443\n", "blanks"},
           Case{std::string_view("ho\0st:7443", 10), "blanks"},
           Case{"h\xc3\xb6st:7443", "blanks"},
           Case{long_name, "neither"},
       }) {
    const Result<HostPort> parsed = parse_host_port(one.text);
    ASSERT_FALSE(parsed.ok()) << one.text;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(parsed.error().cause.contains(one.why)) << parsed.error().cause;
    EXPECT_TRUE(parsed.error().mend.contains("[2001:db8::10]:7443"));
  }
  EXPECT_FALSE(parse_host_port(long_label + ":1").ok());
  EXPECT_LT(parse_host_port(std::string(100'000, 'a')).error().cause.size(), 400U);
}

TEST(HostPort, that_stands_for_every_address_leads_to_none) {
  for (const char* wildcard :
       {"0.0.0.0:7443", "[::]:7443", "[0:0::0]:7443", "[::0.0.0.0]:1", "[::ffff:0.0.0.0]:7443"}) {
    EXPECT_TRUE(parse_host_port(wildcard)->is_wildcard()) << wildcard;
    EXPECT_FALSE(parse_reachable_address(wildcard).ok()) << wildcard;
  }
  for (const char* one : {"127.0.0.1:7443", "[::1]:7443", "[::ffff:127.0.0.1]:1", "a:1"}) {
    EXPECT_FALSE(parse_host_port(one)->is_wildcard()) << one;
    EXPECT_TRUE(parse_reachable_address(one).ok()) << one;
  }
}

}  // namespace
}  // namespace hf
