#include "vault/protocol/pairing_token.h"

#include <gtest/gtest.h>

namespace hf::vault {
namespace {

PairingToken example() {
  PairingToken token;
  token.site.bytes[0] = std::byte{1};
  token.ca_fingerprint.bytes[31] = std::byte{2};
  token.identity.bytes[3] = std::byte{4};
  token.secret = crypto::Secret(32);
  token.secret.mutable_span()[5] = std::byte{3};
  token.address = "127.0.0.1:7443";
  return token;
}

TEST(Token, survives_its_text) {
  Result<PairingToken> token = decode_token(encode_token(example()) + "\n");
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(token->site, example().site);
  EXPECT_EQ(token->ca_fingerprint, example().ca_fingerprint);
  EXPECT_EQ(token->identity, example().identity);
  EXPECT_EQ(token->address, example().address);
  EXPECT_EQ(to_hex(token->secret.span()), to_hex(example().secret.span()));
}

TEST(Token, any_changed_or_missing_character_is_noticed) {
  std::string text = encode_token(example());
  for (size_t i = 0; i < text.size(); ++i) {
    std::string bad = text;
    bad[i] = bad[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(decode_token(bad).ok()) << i;
    EXPECT_FALSE(decode_token(text.substr(0, i)).ok()) << i;
  }
  Result<PairingToken> nothing = decode_token("hello");
  ASSERT_FALSE(nothing.ok());
  EXPECT_FALSE(nothing.error().mend.empty());
}

TEST(Token, its_id_does_not_tell_its_secret) {
  const PairingTokenId id = token_id_of(example().secret);
  EXPECT_EQ(id, token_id_of(example().secret));
  EXPECT_NE(id, token_id_of(crypto::Secret(32)));
}

}  // namespace
}  // namespace hf::vault
