#include "attestation/tpm/quote.h"

#include <gtest/gtest.h>

#include <random>

#include "attestation/testing/quote_maker.h"
#include "attestation/testing/real_tpm.h"

namespace hf::attestation {
namespace {

const Bytes kNonce(20, std::byte{0x4E});
const std::vector<PcrSelection> kUsual = {{.bank = HashAlg::kSha256, .mask = 0x00FFFF}};

Result<QuotedPcrs> check(const Bytes& area, const RealTpm::Quote& quote,
                         const std::vector<PcrValues>& values, ByteSpan nonce = kNonce) {
  const TpmPublic ak = TRY(parse_public(area));
  return verify_quote(ak, quote.attest, quote.signature, values, {.nonce = nonce});
}

TEST(Quote, of_a_real_tpm_is_taken_with_each_kind_of_key) {
  RealTpm tpm;
  ASSERT_EQ(tpm.guest().extend_pcr(7, std::byte{0x77}), 0U);
  const std::vector<PcrValues> values = tpm.read(kUsual);
  for (int kind = 0; kind < 4; ++kind) {
    const RealTpm::Key ak = kind == 0   ? tpm.create_rsa_ak(kAlgRsassa)
                            : kind == 1 ? tpm.create_rsa_ak(kAlgRsapss)
                            : kind == 2 ? tpm.create_ecc_ak(kCurveP256, 0x000B)
                                        : tpm.create_ecc_ak(kCurveP384, 0x000C);
    const RealTpm::Quote quote = tpm.quote(ak, kNonce, kUsual);
    Result<QuotedPcrs> quoted = check(ak.area, quote, values);
    ASSERT_TRUE(quoted.ok()) << kind << ": " << quoted.error().describe();
    ASSERT_NE(quoted->find(HashAlg::kSha256, 7), nullptr);
    EXPECT_EQ(*quoted->find(HashAlg::kSha256, 7), tpm.guest().read_pcr(7));
    EXPECT_EQ(quoted->find(HashAlg::kSha256, 16), nullptr);
    EXPECT_EQ(quoted->find(HashAlg::kSha1, 7), nullptr);
    EXPECT_EQ(quoted->find(HashAlg::kSha256, 24), nullptr);
    const TpmPublic parsed = parse_public(ak.area).value();
    EXPECT_EQ(quoted->qualified_signer, primary_qualified_name(kHandleEndorsement, parsed));
    EXPECT_EQ(quoted->ak_name, parsed.name);
    tpm.flush(ak);
  }
}

TEST(Quote, of_several_banks_covers_each) {
  RealTpm tpm;
  const std::vector<PcrSelection> selection = {{.bank = HashAlg::kSha1, .mask = 0x000081},
                                               {.bank = HashAlg::kSha384, .mask = 0x010010},
                                               {.bank = HashAlg::kSha256, .mask = 0x800000}};
  const RealTpm::Key ak = tpm.create_ecc_ak(kCurveP256, 0x000B);
  const RealTpm::Quote quote = tpm.quote(ak, kNonce, selection);
  Result<QuotedPcrs> quoted = check(ak.area, quote, tpm.read(selection));
  ASSERT_TRUE(quoted.ok()) << quoted.error().describe();
  EXPECT_EQ(quoted->banks.size(), 3U);
  EXPECT_NE(quoted->find(HashAlg::kSha384, 16), nullptr);
  EXPECT_NE(quoted->find(HashAlg::kSha256, 23), nullptr);
}

TEST(Quote, of_another_key_nonce_tpm_or_values_is_refused) {
  RealTpm tpm;
  const RealTpm::Key ak = tpm.create_ecc_ak(kCurveP256, 0x000B);
  const RealTpm::Key other = tpm.create_ecc_ak(kCurveP384, 0x000C);
  const RealTpm::Quote quote = tpm.quote(ak, kNonce, kUsual);
  std::vector<PcrValues> values = tpm.read(kUsual);
  ASSERT_TRUE(check(ak.area, quote, values).ok());
  EXPECT_EQ(check(other.area, quote, values).error().code, ErrorCode::kWrongKey);
  const Bytes old_nonce(20, std::byte{0x4F});
  EXPECT_EQ(check(ak.area, quote, values, old_nonce).error().code, ErrorCode::kWrongKey);
  EXPECT_FALSE(check(ak.area, quote, values, ByteSpan(kNonce).first(19)).ok());
  EXPECT_FALSE(check(ak.area, quote, values, {}).ok());

  const TpmPublic parsed = parse_public(ak.area).value();
  const Bytes other_name = parse_public(other.area).value().name;
  const auto verify = [&](const QuoteExpectation& expectation) {
    return verify_quote(parsed, quote.attest, quote.signature, values, expectation);
  };
  EXPECT_TRUE(verify({.nonce = kNonce, .ak_name = parsed.name}).ok());
  EXPECT_EQ(verify({.nonce = kNonce, .ak_name = other_name}).error().code, ErrorCode::kWrongKey);
  const Bytes here = primary_qualified_name(kHandleEndorsement, parsed);
  const Bytes elsewhere = primary_qualified_name(kHandleOwner, parsed);
  EXPECT_TRUE(verify({.nonce = kNonce, .qualified_signer = here}).ok());
  EXPECT_FALSE(verify({.nonce = kNonce, .qualified_signer = elsewhere}).ok());

  values[0].values[7] = Bytes(32, std::byte{7});
  EXPECT_EQ(check(ak.area, quote, values).error().code, ErrorCode::kWrongKey);
  values[0].values[7].reset();
  Result<QuotedPcrs> missing = check(ak.area, quote, values);
  EXPECT_EQ(missing.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(missing.error().cause.find("PCR 7 of bank sha256"), std::string::npos);
  values = tpm.read(kUsual);
  ASSERT_EQ(tpm.guest().extend_pcr(7, std::byte{1}), 0U);
  EXPECT_FALSE(check(ak.area, quote, tpm.read(kUsual)).ok());
}

TEST(Quote, by_a_key_that_may_sign_anything_is_refused) {
  RealTpm tpm;
  // Not restricted: it would sign a TPMS_ATTEST that somebody typed.
  const RealTpm::Key loose = tpm.create_rsa_ak(kAlgRsassa, 0x00040072);
  const RealTpm::Quote quote = tpm.quote(loose, kNonce, kUsual);
  Result<QuotedPcrs> refused = check(loose.area, quote, tpm.read(kUsual));
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().cause.find("restricted"), std::string::npos);

  const std::vector<PcrValues> values = tpm.read(kUsual);
  const auto with = [&](uint32_t attributes) {
    const SoftwareAk ak(AkKind::kEcdsaP256, attributes);
    const Bytes attest = ak.attest(kNonce, values);
    return check(ak.area(), {.attest = attest, .signature = ak.sign(attest)}, values);
  };
  EXPECT_TRUE(with(kAkAttributes).ok());
  for (uint32_t needed :
       {kAttributeFixedTpm, kAttributeSensitiveDataOrigin, kAttributeRestricted, kAttributeSign}) {
    EXPECT_FALSE(with(kAkAttributes & ~needed).ok()) << needed;
  }
  EXPECT_FALSE(with(kAkAttributes | kAttributeDecrypt).ok());
}

TEST(Quote, takes_what_a_tpm_signs_and_is_not_a_quote_for_none) {
  const SoftwareAk ak(AkKind::kEcdsaP256);
  const std::vector<PcrValues> values = {
      {.bank = HashAlg::kSha256, .values = {Bytes(32, std::byte{1})}}};
  const Bytes good = ak.attest(kNonce, values);
  const auto with = [&](auto change) {
    Bytes attest = good;
    change(attest);
    return check(ak.area(), {.attest = attest, .signature = ak.sign(attest)}, values);
  };
  EXPECT_TRUE(with([](Bytes&) {}).ok());
  EXPECT_FALSE(with([](Bytes& b) { b[0] = std::byte{0xFE}; }).ok());  // not TPM_GENERATED
  EXPECT_FALSE(with([](Bytes& b) { store_be(&b[4], uint16_t{0x8017}); }).ok());  // a certification
  EXPECT_FALSE(with([](Bytes& b) { b.push_back(std::byte{}); }).ok());
  EXPECT_FALSE(with([](Bytes& b) { b.pop_back(); }).ok());
  EXPECT_FALSE(check(ak.area(), {.attest = ak.attest(kNonce, {}), .signature = {}}, {}).ok());
  const Bytes nothing = ak.attest(kNonce, {});
  Result<QuotedPcrs> empty =
      check(ak.area(), {.attest = nothing, .signature = ak.sign(nothing)}, {});
  EXPECT_NE(empty.error().cause.find("no PCR"), std::string::npos);
  std::vector<PcrValues> twice = {values[0], values[0]};
  const Bytes doubled = ak.attest(kNonce, twice);
  EXPECT_FALSE(check(ak.area(), {.attest = doubled, .signature = ak.sign(doubled)}, twice).ok());
}

// One quote of each kind, from a real TPM, and 100,000 changes to them: a flipped bit, an octet,
// one cut out or put in, anywhere in quote, signature, nonce or PCR values. None is taken.
struct Mutations {
  int kind;
  int count;  // fewer where verifying is slow
};
class MutatedQuotes : public testing::TestWithParam<Mutations> {};

TEST_P(MutatedQuotes, are_all_refused) {
  RealTpm tpm;
  const RealTpm::Key ak = GetParam().kind == 0   ? tpm.create_rsa_ak(kAlgRsassa)
                          : GetParam().kind == 1 ? tpm.create_rsa_ak(kAlgRsapss)
                          : GetParam().kind == 2 ? tpm.create_ecc_ak(kCurveP256, 0x000B)
                                                 : tpm.create_ecc_ak(kCurveP384, 0x000C);
  const RealTpm::Quote quote = tpm.quote(ak, kNonce, kUsual);
  const std::vector<PcrValues> values = tpm.read(kUsual);
  const TpmPublic key = parse_public(ak.area).value();
  std::mt19937_64 random(static_cast<uint64_t>(GetParam().kind) + 20261122);
  const auto below = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
  const auto mutate = [&](Bytes& bytes) {
    const size_t at = below(bytes.size());
    switch (below(6)) {
      case 0:
      case 1:
      case 2:
        bytes[at] ^= static_cast<std::byte>(1u << below(8));
        break;
      case 3:
        bytes[at] ^= static_cast<std::byte>(1 + below(255));
        break;
      case 4:
        bytes.erase(bytes.begin() + static_cast<ptrdiff_t>(at));
        break;
      default:
        bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), static_cast<std::byte>(random()));
    }
  };
  for (int refused = 0; refused < GetParam().count;) {
    RealTpm::Quote changed = quote;
    std::vector<PcrValues> changed_values = values;
    Bytes nonce = kNonce;
    switch (below(5)) {
      case 0:
      case 1:
        mutate(changed.attest);
        break;
      case 2:
        mutate(changed.signature);
        break;
      case 3:
        mutate(nonce);
        break;
      default:
        mutate(*changed_values[0].values[below(16)]);
    }
    const bool same = changed.attest == quote.attest && changed.signature == quote.signature &&
                      nonce == kNonce && changed_values[0].values == values[0].values;
    if (same) continue;  // an octet put in beside its like, and the like of it
    ASSERT_FALSE(
        verify_quote(key, changed.attest, changed.signature, changed_values, {.nonce = nonce}).ok())
        << "mutation " << refused;
    ++refused;
  }
  EXPECT_TRUE(verify_quote(key, quote.attest, quote.signature, values, {.nonce = kNonce}).ok());
}
INSTANTIATE_TEST_SUITE_P(Kinds, MutatedQuotes,
                         testing::Values(Mutations{0, 32'000}, Mutations{1, 32'000},
                                         Mutations{2, 34'000}, Mutations{3, 2'000}));

}  // namespace
}  // namespace hf::attestation
