#include "control/attest/verdict_claims.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

attestation::Ear example() {
  attestation::Ear ear;
  ear.issued_at = Micros(1'000'000);
  ear.expires_at = Micros(3'601'000'000);
  ear.vector.set(attestation::TrustClaim::kInstanceIdentity, attestation::kIdentityRecognised);
  ear.vector.set(attestation::TrustClaim::kHardware, attestation::kTrustVerifierMalfunction);
  ear.policy_ids = {"linux:0123456789abcdef"};
  ear.nonce = Bytes(16, std::byte{1});
  ear.vm.vm = VmId{};
  ear.vm.epoch = Epoch(4);
  ear.vm.sequence = Sequence(9);
  ear.vm.freshness = "older-declared";
  ear.vm.verdict = "Unhealthy";
  ear.vm.reasons = {{.code = "dbx", .words = "old"}};
  return ear;
}

TEST(ClaimsOf, say_what_the_result_says) {
  const vault::VerdictClaims claims = claims_of(example());
  EXPECT_TRUE(vault::within_bounds(claims));
  EXPECT_EQ(claims.vm, VmId{});
  EXPECT_EQ(claims.epoch, Epoch(4));
  EXPECT_EQ(claims.sequence, Sequence(9));
  EXPECT_EQ(claims.role, vault::CopyRole::kProduction);
  EXPECT_EQ(claims.age, vault::StateAge::kOlderDeclared);
  EXPECT_EQ(claims.verdict, vault::VerdictWord::kUnhealthy);
  EXPECT_EQ(claims.trust[0], 2);
  EXPECT_EQ(claims.trust[4], -1);
  EXPECT_EQ(claims.trust[1], std::nullopt);
  EXPECT_EQ(claims.policy_ids, example().policy_ids);
  EXPECT_EQ(claims.nonce, example().nonce);
  EXPECT_EQ(claims.evidence_nonce, std::nullopt);
  ASSERT_EQ(claims.reasons.size(), 1u);
  EXPECT_EQ(claims.life_s, 3600u);
}

TEST(ClaimsOf, every_word_of_role_freshness_and_verdict_has_its_own) {
  attestation::Ear ear = example();
  ear.vm.role.reset();
  EXPECT_EQ(claims_of(ear).role, vault::CopyRole::kNotSaid);
  for (const auto& [role, copy] : {std::pair{attestation::VmRole::kDrill, vault::CopyRole::kDrill},
                                   {attestation::VmRole::kBranch, vault::CopyRole::kBranch}}) {
    ear.vm.role = role;
    EXPECT_EQ(claims_of(ear).role, copy);
  }
  for (const auto& [words, age] : {std::pair{"current", vault::StateAge::kCurrent},
                                   {"older", vault::StateAge::kOlder},
                                   {"unknown", vault::StateAge::kUnknown},
                                   {"nonsense", vault::StateAge::kUnknown}}) {
    ear.vm.freshness = words;
    EXPECT_EQ(claims_of(ear).age, age);
  }
  for (const auto& [words, verdict] : {std::pair{"Healthy", vault::VerdictWord::kHealthy},
                                       {"Unknown", vault::VerdictWord::kUnknown},
                                       {"nonsense", vault::VerdictWord::kUnknown}}) {
    ear.vm.verdict = words;
    EXPECT_EQ(claims_of(ear).verdict, verdict);
  }
}

TEST(ClaimsOf, what_is_too_long_is_cut) {
  attestation::Ear ear = example();
  ear.vm.reasons.assign(100,
                        {.code = std::string(200, 'c'), .words = std::string(5000, 'w') + "\n"});
  ear.expires_at = Micros(uint64_t{1} << 60);
  EXPECT_TRUE(vault::within_bounds(claims_of(ear)));
}

}  // namespace
}  // namespace hf::control
