// The key that signs verdicts, and what it is not to be had for.

#include "attestation/token/ear.h"
#include "vault/core/service.h"
#include "vault/core/testing.h"

namespace hf::vault {
namespace {

using namespace testing;  // NOLINT

VerdictClaims healthy() {
  VerdictClaims claims{.vm = vm_of(1),
                       .epoch = Epoch(3),
                       .incarnation = {},
                       .sequence = Sequence(77),
                       .role = CopyRole::kProduction,
                       .age = StateAge::kCurrent,
                       .verdict = VerdictWord::kHealthy,
                       .trust = {},
                       .policy_ids = {"linux:0123456789abcdef"},
                       .nonce = Bytes(32, std::byte{7}),
                       .evidence_nonce = Bytes(32, std::byte{8}),
                       .reasons = {{.code = "dbx_level", .words = "dbx is of 2023; \"old\""}},
                       .life_s = 3600};
  claims.trust[0] = attestation::kIdentityRecognised;
  claims.trust[2] = attestation::kExecutablesApprovedBoot;
  return claims;
}

attestation::KeySet keys_of(TestVault& site) {
  return *attestation::KeySet::parse(*site->attestation_keys(kDaemon));
}

attestation::Ear read_token(TestVault& site, const std::string& token) {
  const auto verified = attestation::verify_token(token, keys_of(site));
  HF_ASSERT(verified.ok());
  return *attestation::parse_ear(verified->payload);
}

TEST(VerdictKey, is_made_once_and_signs_tokens_that_its_key_set_verifies) {
  TestVault site("a");
  const std::string file = site.directory + "/attestation-key.hfv";
  EXPECT_FALSE(fs::exists(file));
  const std::string published = *site->attestation_keys(kDaemon);
  ASSERT_TRUE(fs::exists(file));
  const auto keys = *attestation::KeySet::parse(published);
  ASSERT_EQ(keys.keys().size(), 1u);
  EXPECT_TRUE(attestation::verify_token(*site->attestation_sign(healthy(), kDaemon), keys).ok());

  site.reopen();
  EXPECT_EQ(*site->attestation_keys(kDaemon), published);
  EXPECT_TRUE(attestation::verify_token(*site->attestation_sign(healthy(), kDaemon), keys).ok());
  const std::string log(as_text(read_file(site.directory + "/audit.log")));
  const size_t first = log.find("create_attestation_key");
  EXPECT_NE(first, std::string::npos);
  EXPECT_EQ(log.find("create_attestation_key", first + 1), std::string::npos);
  EXPECT_EQ(site->check()->attestation_records, 1u);

  Bytes bad = read_file(file);
  bad[bad.size() / 2] ^= std::byte{1};
  write_file(file, bad);
  site.reopen();
  EXPECT_EQ(site->attestation_keys(kDaemon).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(site->attestation_sign(healthy(), kDaemon).error().code, ErrorCode::kCorrupt);
}

TEST(VerdictToken, says_what_the_claims_say_and_who_and_when_is_the_vaults_own) {
  TestVault site("a");
  const attestation::Ear ear = read_token(site, *site->attestation_sign(healthy(), kDaemon));
  EXPECT_EQ(ear.issued_at.value / 1'000'000, site.clock.wall.value / 1'000'000);
  EXPECT_EQ(ear.expires_at->value - ear.issued_at.value, uint64_t{3600} * 1'000'000);
  EXPECT_EQ(ear.vm.site, site->identity().site);
  EXPECT_EQ(ear.verifier_developer, "Holdfast");
  EXPECT_EQ(ear.vm.vm, vm_of(1));
  EXPECT_EQ(ear.vm.epoch, Epoch(3));
  EXPECT_EQ(ear.vm.sequence, Sequence(77));
  EXPECT_EQ(ear.vm.role, attestation::VmRole::kProduction);
  EXPECT_EQ(ear.vm.freshness, "current");
  EXPECT_EQ(ear.vm.verdict, "Healthy");
  EXPECT_EQ(ear.status, attestation::TrustTier::kAffirming);
  EXPECT_EQ(ear.policy_ids, healthy().policy_ids);
  EXPECT_EQ(ear.nonce, healthy().nonce);
  EXPECT_EQ(ear.evidence_nonce, healthy().evidence_nonce);
  ASSERT_EQ(ear.vm.reasons.size(), 1u);
  EXPECT_EQ(ear.vm.reasons[0].words, healthy().reasons[0].words);
}

TEST(VerdictToken, has_the_status_that_follows_from_verdict_and_vector) {
  TestVault site("a");
  const auto status = [&](VerdictWord verdict, std::optional<int8_t> identity) {
    VerdictClaims claims = healthy();
    claims.verdict = verdict;
    claims.trust[0] = identity;
    return read_token(site, *site->attestation_sign(claims, kDaemon)).status;
  };
  using attestation::TrustTier;
  EXPECT_EQ(status(VerdictWord::kHealthy, 97), TrustTier::kContraindicated);
  EXPECT_EQ(status(VerdictWord::kUnhealthy, 2), TrustTier::kContraindicated);
  EXPECT_EQ(status(VerdictWord::kUnknown, 2), TrustTier::kNone);
  EXPECT_EQ(status(VerdictWord::kUnknown, 32), TrustTier::kWarning);
}

TEST(VerdictToken, takes_no_words_that_a_verdict_does_not_have) {
  TestVault site("a");
  const auto code = [&](auto change) {
    VerdictClaims claims = healthy();
    change(claims);
    return site->attestation_sign(claims, kDaemon).error().code;
  };
  for (const std::string policy : {"", "linux", ":0123456789abcdef", "linux:0123456789abcdeF",
                                   "linux:0123", "a\nb:0123456789abcdef"}) {
    EXPECT_EQ(code([&](VerdictClaims& claims) { claims.policy_ids = {policy}; }),
              ErrorCode::kInvalidArgument)
        << policy;
  }
  for (const std::string bad : {"", "a b", "A", "a\n"}) {
    EXPECT_EQ(code([&](VerdictClaims& claims) { claims.reasons[0].code = bad; }),
              ErrorCode::kInvalidArgument)
        << bad;
  }
  for (const std::string bad : {"a\nb", "\x7f", "\xff", "\x1b[2J"}) {
    EXPECT_EQ(code([&](VerdictClaims& claims) { claims.reasons[0].words = bad; }),
              ErrorCode::kInvalidArgument)
        << bad;
  }
}

// What the daemon sends is fields; the header and payload of a token of its own are none.
TEST(VerdictToken, is_not_to_be_had_for_a_text_of_the_daemons) {
  TestVault site("a");
  Service service(*site.vault);
  Writer body;
  body.text("eyJhbGciOiJFUzI1NiJ9.eyJhIjoxfQ", 100);
  const FrameHeader header{.op = Op::kAttestationSign,
                           .reply = false,
                           .request_id = 1,
                           .body_length = static_cast<uint32_t>(body.bytes().size())};
  const crypto::Secret reply = service.answer(Listener::kAdmin, kDaemon, header, body.bytes());
  EXPECT_EQ(decode_reply(reply.span().subspan(kHeaderSize)).error().code, ErrorCode::kCorrupt);
}

TEST(VerdictClaims, come_back_as_they_were_and_no_further_than_their_bounds) {
  Writer out;
  encode(out, healthy());
  Reader reader(out.bytes());
  EXPECT_EQ(decode_verdict_claims(reader), healthy());
  EXPECT_TRUE(reader.finish("claims").ok());
  for (size_t size = 0; size < out.bytes().size(); ++size) {
    Reader cut(ByteSpan(out.bytes()).first(size));
    decode_verdict_claims(cut);
    EXPECT_FALSE(cut.finish("claims").ok()) << size;
  }
  VerdictClaims claims = healthy();
  claims.life_s = kMaxVerdictLife + 1;
  EXPECT_FALSE(within_bounds(claims));
  claims = healthy();
  claims.nonce = Bytes(7);
  EXPECT_FALSE(within_bounds(claims));
  claims = healthy();
  claims.reasons.assign(kMaxVerdictReasons + 1, {});
  EXPECT_FALSE(within_bounds(claims));
}

}  // namespace
}  // namespace hf::vault
