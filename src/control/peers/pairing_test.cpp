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

TEST(Introduction, what_is_missing_or_malformed_is_refused) {
  EXPECT_FALSE(decode_introduction("{}").ok());
  EXPECT_FALSE(decode_introduction("nothing").ok());
  EXPECT_FALSE(
      decode_introduction(
          R"({"site":"00","name":"n","address":"a","ca_pem":"c","recipient_pem":"r","signing_key":"00"})")
          .ok());
}

}  // namespace
}  // namespace hf::control
