#include "attestation/tpm/tpm_structures.h"

#include <gtest/gtest.h>

#include "attestation/testing/quote_maker.h"

namespace hf::attestation {
namespace {

TEST(TpmPublic, is_taken_with_and_without_its_length) {
  for (AkKind kind : {AkKind::kRsassa, AkKind::kRsapss, AkKind::kEcdsaP256, AkKind::kEcdsaP384}) {
    const SoftwareAk ak(kind);
    const Bytes sized = TpmWriter().sized(ak.area()).take();
    const TpmPublic bare = parse_public(ak.area()).value();
    const TpmPublic wrapped = parse_public(sized).value();
    EXPECT_EQ(bare.area, ak.area());
    EXPECT_EQ(wrapped.area, ak.area());
    EXPECT_EQ(bare.name, wrapped.name);
    EXPECT_EQ(bare.name.size(), 34U);
    EXPECT_TRUE(openssl_key(bare).ok());
    // No prefix and nothing longer is a public area.
    for (size_t size = 0; size < ak.area().size(); ++size) {
      EXPECT_FALSE(parse_public(ByteSpan(ak.area()).first(size)).ok()) << size;
    }
    Bytes longer = ak.area();
    longer.push_back(std::byte{});
    EXPECT_FALSE(parse_public(longer).ok());
  }
}

TEST(TpmPublic, of_weak_or_broken_keys_makes_no_key) {
  const auto rsa = [](uint16_t bits, uint32_t exponent, Bytes modulus) {
    const Bytes area = TpmWriter()
                           .put(kAlgRsa)
                           .put(HashAlg::kSha256)
                           .put(kAkAttributes)
                           .sized({})
                           .put(kAlgNull)
                           .put(kAlgRsassa)
                           .put(HashAlg::kSha256)
                           .put(bits)
                           .put(exponent)
                           .sized(modulus)
                           .take();
    Result<TpmPublic> key = parse_public(area);
    return key.ok() && openssl_key(*key).ok();
  };
  EXPECT_TRUE(rsa(2048, 0, Bytes(256, std::byte{0xFF})));
  EXPECT_TRUE(rsa(2048, 65537, Bytes(256, std::byte{0xFF})));
  EXPECT_FALSE(rsa(2048, 3, Bytes(256, std::byte{0xFF})));
  EXPECT_FALSE(rsa(1024, 0, Bytes(128, std::byte{0xFF})));
  EXPECT_FALSE(rsa(2048, 0, Bytes(128, std::byte{0xFF})));
  EXPECT_FALSE(rsa(2048, 0, Bytes(256, std::byte{0xFE})));  // even
  EXPECT_FALSE(rsa(2048, 0, Bytes(256, std::byte{0x7F})));  // 2047 bits
  EXPECT_FALSE(rsa(2048, 0, {}));

  const SoftwareAk good(AkKind::kEcdsaP256);
  TpmPublic off_curve = parse_public(good.area()).value();
  off_curve.y.back() ^= std::byte{1};
  EXPECT_FALSE(openssl_key(off_curve).ok());
  TpmPublic long_x = parse_public(good.area()).value();
  long_x.x.insert(long_x.x.begin(), std::byte{});
  EXPECT_FALSE(openssl_key(long_x).ok());
  for (const AkKind curve : {AkKind::kEcdsaP256, AkKind::kEcdsaP384}) {
    const SoftwareAk whole(curve);
    TpmPublic without_y = parse_public(whole.area()).value();
    without_y.y.clear();
    EXPECT_FALSE(openssl_key(without_y).ok());
    TpmPublic without_point = without_y;
    without_point.x.clear();
    EXPECT_FALSE(openssl_key(without_point).ok());
  }
  TpmPublic other_curve = parse_public(good.area()).value();
  other_curve.curve = 0x0005;
  EXPECT_EQ(openssl_key(other_curve).error().code, ErrorCode::kUnsupported);
}

TEST(TpmQuote, no_prefix_of_one_is_a_quote) {
  const SoftwareAk ak(AkKind::kEcdsaP256);
  const std::vector<PcrValues> values = {
      {.bank = HashAlg::kSha256, .values = {Bytes(32, std::byte{1})}}};
  const Bytes attest = ak.attest(Bytes(64, std::byte{2}), values);
  const QuoteInfo quote = parse_quote(attest).value();
  EXPECT_EQ(quote.extra_data, Bytes(64, std::byte{2}));
  EXPECT_EQ(quote.clock.reset_count, 7U);
  EXPECT_EQ(quote.selection, std::vector<PcrSelection>({{.bank = HashAlg::kSha256, .mask = 1}}));
  for (size_t size = 0; size < attest.size(); ++size) {
    EXPECT_FALSE(parse_quote(ByteSpan(attest).first(size)).ok()) << size;
  }
  const Bytes signature = ak.sign(attest);
  EXPECT_TRUE(parse_signature(signature).ok());
  for (size_t size = 0; size < signature.size(); ++size) {
    EXPECT_FALSE(parse_signature(ByteSpan(signature).first(size)).ok()) << size;
  }
}

TEST(TpmQuote, banks_without_a_name_may_be_listed_but_not_quoted) {
  const auto with_bank = [](uint16_t alg, uint8_t octets, uint8_t first) {
    TpmWriter out;
    out.put(uint32_t{0xFF544347}).put(uint16_t{0x8018}).sized({}).sized({});
    out.put(uint64_t{1}).put(uint32_t{1}).put(uint32_t{1}).put(uint8_t{1}).put(uint64_t{1});
    out.put(uint32_t{1}).put(alg).put(octets);
    for (uint8_t i = 0; i < octets; ++i) out.put(i == 0 ? first : uint8_t{0});
    return parse_quote(out.sized(Bytes(32)).take());
  };
  EXPECT_EQ(with_bank(0x000B, 3, 1)->selection.size(), 1U);
  EXPECT_TRUE(with_bank(0x000B, 1, 1).ok());
  EXPECT_TRUE(with_bank(0x0012, 3, 0)->selection.empty());
  EXPECT_EQ(with_bank(0x0012, 3, 1).error().code, ErrorCode::kUnsupported);
  EXPECT_FALSE(with_bank(0x000B, 4, 1).ok());
}

}  // namespace
}  // namespace hf::attestation
