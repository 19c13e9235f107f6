#include "control/peers/token.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

PairingToken example() {
  PairingToken token;
  token.site.bytes[0] = std::byte{1};
  token.ca_fingerprint.bytes[31] = std::byte{2};
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

TEST(PairingProof, is_bound_to_role_connection_and_identity) {
  crypto::Secret key = token_proof_key(example().secret);
  Digest here;
  Digest there;
  there.bytes[0] = std::byte{1};
  Digest proof = pairing_proof(key.span(), ProofRole::kBearer, here, "identity");
  EXPECT_EQ(proof, pairing_proof(key.span(), ProofRole::kBearer, here, "identity"));
  EXPECT_NE(proof, pairing_proof(key.span(), ProofRole::kIssuer, here, "identity"));
  EXPECT_NE(proof, pairing_proof(key.span(), ProofRole::kBearer, there, "identity"));
  EXPECT_NE(proof, pairing_proof(key.span(), ProofRole::kBearer, here, "identitz"));
  crypto::Secret other = token_proof_key(crypto::Secret(32));
  EXPECT_NE(proof, pairing_proof(other.span(), ProofRole::kBearer, here, "identity"));
}

}  // namespace
}  // namespace hf::control
