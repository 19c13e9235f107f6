#include "peer/link_protocol.h"

#include <gtest/gtest.h>

#include "peer/address.h"

namespace hf::peer {
namespace {

template <typename T>
Result<T> round_trip(const T& value) {
  return decode_body<T>(as_bytes(sys::encode_json_text(value)));
}

TEST(LinkProtocol, messages_come_back_as_they_were) {
  SiteId site;
  site.bytes[3] = std::byte{9};
  const Configure configure{.site = site, .name = "north", .leaf_pem = "a\nb\n", .ca_pem = "c"};
  EXPECT_EQ(*round_trip(configure), configure);
  const PeerRecord peer{.site = site,
                        .name = "south",
                        .ca_pem = "pem",
                        .addresses = {"127.0.0.1:1", "[::1]:2"},
                        .keep_connected = true};
  EXPECT_EQ(*round_trip(peer), peer);
  const PairUp up{
      .incoming = true, .exporter = {}, .chain = {"leaf", "ca"}, .address = "1.2.3.4:5"};
  EXPECT_EQ(*round_trip(up), up);
  const PairDial dial{.addresses = {"127.0.0.1:1"}, .limit_ms = 5};
  EXPECT_EQ(*round_trip(dial), dial);
  for (const Reach reach :
       {Reach::kUnknown, Reach::kConnected, Reach::kUnreachable, Reach::kWrongCertificate}) {
    const auto state = round_trip(PeerStateRecord{.site = site, .reach = reach});
    EXPECT_EQ(state->reach, reach);
    EXPECT_FALSE(state->last_seen || state->error);
  }
}

TEST(LinkProtocol, what_is_too_much_is_refused) {
  EXPECT_FALSE(round_trip(PeerRecord{.name = std::string(129, 'x')}).ok());
  EXPECT_FALSE(round_trip(PeerRecord{.addresses = std::vector<std::string>(9, "1.2.3.4:5")}).ok());
  EXPECT_FALSE(round_trip(PairUp{}).ok()) << "no certificate";
  EXPECT_FALSE(round_trip(PairDial{.limit_ms = 0}).ok());
  EXPECT_FALSE(round_trip(PairDial{.limit_ms = 60'001}).ok());
  EXPECT_FALSE(decode_body<Identity>(as_bytes("{\"version\":1}")).ok());
  EXPECT_FALSE(decode_body<PairDial>(as_bytes("{\"addresses\":[],\"limit_ms\":1,\"x\":1}")).ok());
}

TEST(LinkProtocol, a_header_must_be_true) {
  const Bytes good = encode_link_message(LinkType::kOpened, 7, {});
  EXPECT_TRUE(decode_link_message(good).ok());
  for (const size_t at : {size_t{1}, size_t{2}, size_t{4}, size_t{7}}) {
    Bytes bad = good;
    bad[at] = std::byte{1};
    EXPECT_FALSE(decode_link_message(bad).ok()) << at;
  }
  for (const int type : {0, 1, 31, 45, 49, 53, 59, 66, 255}) {
    Bytes bad = good;
    bad[0] = static_cast<std::byte>(type);
    EXPECT_FALSE(decode_link_message(bad).ok()) << type;
  }
  EXPECT_FALSE(decode_link_message(ByteSpan(good).first(15)).ok());
  EXPECT_FALSE(decode_link_message(Bytes(kLinkMessageMax + 1)).ok());
}

TEST(Address, is_numeric_or_looked_up) {
  EXPECT_TRUE(is_numeric("127.0.0.1:1"));
  EXPECT_TRUE(is_numeric("[::1]:1"));
  EXPECT_FALSE(is_numeric("localhost:1"));
  for (const char* bad : {"", "a:65536", "::1:7443", "127.1:1", "[::1]"}) {
    EXPECT_FALSE(is_numeric(bad)) << bad;
    EXPECT_EQ(numeric_addresses(bad).error().code, ErrorCode::kInvalidArgument) << bad;
  }
  EXPECT_EQ(numeric_addresses("127.0.0.1:7443")->front(), "127.0.0.1:7443");
  EXPECT_FALSE(numeric_addresses("no-such-host.invalid:1").ok());
}

}  // namespace
}  // namespace hf::peer
