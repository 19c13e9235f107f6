// The address that the network reaches is bound by the launcher: what is wrong with it is said when
// the site starts.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "launcher/supervisor.h"

namespace hf::launcher {
namespace {

std::string port_of(const sys::UniqueFd& listener) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  EXPECT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  // The port lies at the same place in both families.
  return std::to_string(ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port));
}

TEST(ListenForPeers, an_address_in_use_is_named_with_what_to_do) {
  auto first =
      listen_for_peers(HostPort{.host = "127.0.0.1", .kind = HostKind::kIpv4}, "/state/site.json");
  ASSERT_TRUE(first.ok()) << first.error().describe();
  const std::string address = "127.0.0.1:" + port_of(*first);
  const auto second = listen_for_peers(address, "/state/site.json");
  ASSERT_FALSE(second.ok());
  EXPECT_TRUE(second.error().cause.contains(address)) << second.error().cause;
  EXPECT_TRUE(second.error().cause.contains("in use")) << second.error().cause;
  EXPECT_TRUE(second.error().mend.contains("/state/site.json")) << second.error().mend;
  first->reset();
  EXPECT_TRUE(listen_for_peers(address, "/state/site.json").ok()) << "free again at once";
}

TEST(ListenForPeers, takes_numeric_addresses_of_both_families) {
  sys::UniqueFd v6(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 loopback{};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const bool here = v6.valid() && ::bind(v6.get(), reinterpret_cast<const sockaddr*>(&loopback),
                                         sizeof loopback) == 0;
  if (!here) GTEST_SKIP() << "no IPv6 here";
  const auto listener =
      listen_for_peers(HostPort{.host = "::1", .kind = HostKind::kIpv6}, "/state/site.json");
  ASSERT_TRUE(listener.ok()) << listener.error().describe();
  EXPECT_NE(port_of(*listener), "0");
}

TEST(ListenForPeers, what_is_no_address_is_refused) {
  // getaddrinfo() takes 70000 for 4464, and "127.1" for 127.0.0.1.
  for (const char* listen : {"300.0.0.1:4000", "127.0.0.1:http", "203.0.113.7:4000",
                             "127.0.0.1:70000", "127.1:4000", "::1:4000", "[::1]", "[::1]:70000"}) {
    const auto listener = listen_for_peers(listen, "/state/site.json");
    ASSERT_FALSE(listener.ok()) << listen;
    EXPECT_TRUE(listener.error().cause.contains(listen)) << listener.error().cause;
    EXPECT_FALSE(listener.error().mend.empty());
  }
}

}  // namespace
}  // namespace hf::launcher
