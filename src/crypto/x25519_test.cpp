#include "crypto/x25519.h"

#include <gtest/gtest.h>

#include "crypto/crypto.h"

namespace hf::crypto {
namespace {

Secret secret_of(std::string_view hex) { return Secret::copy_of(*from_hex(hex)); }
X25519PublicKey public_of(std::string_view hex) {
  X25519PublicKey key;
  std::ranges::copy(*from_hex(hex), key.begin());
  return key;
}

constexpr std::string_view kAlice =
    "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
constexpr std::string_view kAlicePublic =
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
constexpr std::string_view kBob =
    "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
constexpr std::string_view kBobPublic =
    "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
constexpr std::string_view kShared =
    "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";

TEST(X25519, agrees_as_section_6_1_of_rfc_7748_says) {
  const X25519Key alice(secret_of(kAlice));
  const X25519Key bob(secret_of(kBob));
  EXPECT_EQ(to_hex(alice.public_key()), kAlicePublic);
  EXPECT_EQ(to_hex(bob.public_key()), kBobPublic);
  EXPECT_EQ(to_hex(alice.agree(public_of(kBobPublic))->span()), kShared);
  EXPECT_EQ(to_hex(bob.agree(public_of(kAlicePublic))->span()), kShared);
}

TEST(X25519, gives_the_first_vector_of_section_5_2_of_rfc_7748) {
  const X25519Key key(
      secret_of("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"));
  const auto shared =
      key.agree(public_of("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"));
  EXPECT_EQ(to_hex(shared->span()),
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
}

// All of them give zeroes with any key: 0, 1, the two points of order 8, and p - 1, p, p + 1.
TEST(X25519, refuses_every_point_of_small_order) {
  const X25519Key key(secret_of(kAlice));
  for (const std::string_view point :
       {"0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"}) {
    const auto shared = key.agree(public_of(point));
    ASSERT_FALSE(shared.ok()) << point;
    EXPECT_EQ(shared.error().code, ErrorCode::kCorrupt);
  }
}

}  // namespace
}  // namespace hf::crypto
