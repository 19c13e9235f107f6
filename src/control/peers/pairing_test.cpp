#include <gtest/gtest.h>

#include "control/peers/peer_service.h"

namespace hf::control {
namespace {

TEST(Introduction, survives_its_text) {
  Introduction introduction;
  introduction.identity.site.bytes[1] = std::byte{7};
  introduction.identity.name = "north";
  introduction.identity.ca_certificate_pem = "CA";
  introduction.identity.recipient_public_key_pem = "KEY";
  introduction.identity.signing_public_key[3] = std::byte{9};
  introduction.address = "192.0.2.1:7443";
  Result<Introduction> again = decode_introduction(encode_introduction(introduction));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->identity, introduction.identity);
  EXPECT_EQ(again->address, introduction.address);
}

TEST(Introduction, what_a_terminal_would_obey_is_refused_in_name_and_address) {
  auto said = [](std::string name, std::string address) {
    Introduction introduction{.address = std::move(address)};
    introduction.identity.name = std::move(name);
    return decode_introduction(encode_introduction(introduction));
  };
  EXPECT_TRUE(said("north", "north.example:7443").ok());
  for (const std::string& bad : {std::string("n\x1b]0;owned\x07"), std::string("n\u202eh"),
                                 std::string("n\xc2\x9b"
                                             "31m"),
                                 std::string("a b"), std::string(201, 'x')}) {
    for (const Result<Introduction>& read : {said(bad, "a:1"), said("north", bad)}) {
      ASSERT_FALSE(read.ok());
      const std::string words = read.error().describe();
      EXPECT_FALSE(words.contains('\x1b') || words.contains(bad)) << words;
    }
  }
}

TEST(PeerMessages, the_words_of_a_refusal_are_cleaned_and_its_facts_stay) {
  HandOverOutcome sent{.handed_over = true, .why = "a\x1b[2J\u202e" + std::string(100'000, 'x')};
  Result<HandOverOutcome> read = sys::decode_json<HandOverOutcome>(sys::encode_json(sent));
  ASSERT_TRUE(read.ok()) << read.error().cause;
  EXPECT_TRUE(read->why.starts_with("a [2J x"));
  EXPECT_LE(read->why.size(), 1024U);
  EXPECT_TRUE(read->handed_over);
}

TEST(Introduction, what_is_missing_or_malformed_is_refused) {
  EXPECT_FALSE(decode_introduction("{}").ok());
  EXPECT_FALSE(decode_introduction("nothing").ok());
  EXPECT_FALSE(
      decode_introduction(
          R"({"site":"00","name":"n","address":"a","ca_pem":"c","recipient_pem":"r","signing_key":"00"})")
          .ok());
}

TEST(Introduction, of_a_site_that_cannot_be_reached_is_not_taken) {
  Introduction introduction;
  introduction.identity.name = "south";
  introduction.address = "192.0.2.1:7443";
  EXPECT_TRUE(decode_bearer(encode_introduction(introduction)).ok());
  for (const char* bad : {"0.0.0.0:7443", "[::]:7443", "host:99999", "::1:7443", ""}) {
    introduction.address = bad;
    const auto refused = decode_bearer(encode_introduction(introduction));
    ASSERT_FALSE(refused.ok()) << bad;
    EXPECT_TRUE(refused.error().mend.contains("--address")) << refused.error().mend;
  }
}

TEST(OwnAddress, is_what_was_said_or_what_the_site_advertises) {
  launcher::SiteConfig site{.listen = "192.0.2.1:7443"};
  EXPECT_EQ(*own_address(site, "", "no token was made"), "192.0.2.1:7443");
  EXPECT_EQ(*own_address(site, "north.example:80", "no token was made"), "north.example:80");
  site.advertise = "[2001:db8::1]:7443";
  EXPECT_EQ(*own_address(site, "", "no token was made"), "[2001:db8::1]:7443");
}

TEST(OwnAddress, that_leads_nowhere_is_told_to_nobody) {
  for (const char* bad : {"0.0.0.0:7443", "[::]:7443", "host:99999", "::1:7443", "[::1]", "host"}) {
    const auto given = own_address({.listen = "192.0.2.1:7443"}, bad, "no token was made");
    ASSERT_FALSE(given.ok()) << bad;
    EXPECT_EQ(given.error().effect, "no token was made");
    EXPECT_TRUE(given.error().cause.contains(bad)) << given.error().cause;
  }
  // A site of before: it listens everywhere and has no word of where it is reached.
  const auto silent = own_address({.listen = "0.0.0.0:7443"}, "", "no token was made");
  ASSERT_FALSE(silent.ok());
  EXPECT_TRUE(silent.error().mend.contains("--address HOST:PORT")) << silent.error().mend;
}

}  // namespace
}  // namespace hf::control
