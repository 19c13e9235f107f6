#include "attestation/token/ear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hf::attestation {
namespace {

using testing::HasSubstr;

constexpr Micros kNow{1'790'000'000'000'000};
constexpr uint64_t kSecond = 1'000'000;

Ear example() {
  Ear ear;
  ear.issued_at = kNow;
  ear.expires_at = Micros(kNow.value + 600 * kSecond);
  ear.verifier_build = "holdfast 0.1.0";
  ear.status = TrustTier::kAffirming;
  ear.vector.set(TrustClaim::kInstanceIdentity, kIdentityRecognised);
  ear.vector.set(TrustClaim::kExecutables, kExecutablesApprovedBoot);
  ear.policy_ids = {"linux#0011223344556677"};
  ear.nonce = Bytes(16, std::byte{1});
  ear.evidence_nonce = Bytes(16, std::byte{2});
  ear.vm.vm = VmId::parse_hex("000102030405060708090a0b0c0d0e0f").value();
  ear.vm.epoch = Epoch(3);
  ear.vm.sequence = Sequence(77);
  ear.vm.freshness = "current";
  ear.vm.verdict = "Healthy";
  ear.vm.reasons = {{.code = "note", .words = "a kernel was changed as announced"}};
  ear.vm.ak_name = Bytes(34, std::byte{3});
  return ear;
}

struct Site {
  crypto::KeyPair key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
  std::string kid = thumbprint(key.public_key()).value();
  KeySet keys =
      KeySet::parse(
          sys::to_text(sys::JsonObject{{"keys", sys::JsonArray{to_jwk(key.public_key()).value()}}}))
          .value();
  std::string issue(const Ear& ear) const {
    return issue_ear(ear, kid, [this](ByteSpan bytes) { return es256_sign(key, bytes); }).value();
  }
  std::string issue(const sys::JsonObject& payload) const {
    return sign_token(sys::to_text(payload), kid, "JWT",
                      [this](ByteSpan bytes) { return es256_sign(key, bytes); })
        .value();
  }
  std::string verify(const std::string& token, const EarExpectation& expectation) const {
    Result<Ear> ear = verify_ear(token, keys, expectation);
    return ear.ok() ? "taken" : ear.error().cause;
  }
};

TEST(Ear, has_the_claims_of_draft_04_by_their_names) {
  const sys::JsonObject payload = to_json(example());
  EXPECT_EQ(payload.at("eat_profile").as_string(), "tag:ietf.org,2026:rats/ear#04");
  EXPECT_EQ(payload.at("iat").to_number<uint64_t>(), 1'790'000'000U);
  EXPECT_EQ(payload.at("ear_status").as_string(), "affirming");
  const sys::JsonObject& verifier = payload.at("ear_verifier_id").as_object();
  EXPECT_TRUE(verifier.contains("developer") && verifier.contains("build"));
  const sys::JsonObject& boot = payload.at("submods").as_object().at("boot").as_object();
  EXPECT_EQ(boot.at("ear_status").as_string(), "affirming");
  const sys::JsonObject& vector = boot.at("ear_trustworthiness_vector").as_object();
  EXPECT_EQ(vector.size(), 2U);
  EXPECT_EQ(vector.at("instance-identity").as_int64(), 2);
  EXPECT_EQ(vector.at("executables").as_int64(), 3);
  EXPECT_EQ(boot.at("ear_appraisal_policy_ids").as_array().size(), 1U);
  EXPECT_TRUE(boot.contains("eat_nonce"));
  EXPECT_EQ(payload.at("holdfast").as_object().at("role").as_string(), "production");
}

TEST(Ear, comes_back_whole) {
  const Site site;
  const Ear ear = example();
  Result<Ear> back = verify_ear(site.issue(ear), site.keys, {.now = kNow});
  ASSERT_TRUE(back.ok()) << back.error().describe();
  EXPECT_EQ(sys::to_text(to_json(*back)), sys::to_text(to_json(ear)));
  EXPECT_EQ(back->vm.reasons, ear.vm.reasons);
  EXPECT_EQ(back->vector, ear.vector);
  EXPECT_EQ(back->nonce, ear.nonce);
}

TEST(Ear, relying_party_gets_what_it_expects_or_an_error_that_says_so) {
  const Site site;
  const std::string token = site.issue(example());
  const Bytes nonce(16, std::byte{1});
  const Bytes other_nonce(16, std::byte{7});
  const VmId vm = *example().vm.vm;
  EXPECT_EQ(site.verify(token, {.now = kNow, .nonce = nonce, .vm = vm}), "taken");
  EXPECT_THAT(site.verify(token, {.now = kNow, .nonce = other_nonce}), HasSubstr("nonce"));
  EXPECT_THAT(site.verify(token, {.now = kNow, .vm = VmId{}}), HasSubstr(vm.hex()));
  const auto at = [](int64_t seconds) {
    return Micros(static_cast<uint64_t>(static_cast<int64_t>(kNow.value) +
                                        seconds * static_cast<int64_t>(kSecond)));
  };
  EXPECT_EQ(site.verify(token, {.now = at(300)}), "taken");
  EXPECT_THAT(site.verify(token, {.now = at(361)}), HasSubstr("361 s old"));
  EXPECT_EQ(site.verify(token, {.now = at(659), .age_max_s = 3600}), "taken");
  EXPECT_THAT(site.verify(token, {.now = at(660), .age_max_s = 3600}), HasSubstr("expired"));
  EXPECT_EQ(site.verify(token, {.now = at(-60)}), "taken");
  EXPECT_THAT(site.verify(token, {.now = at(-61)}), HasSubstr("future"));

  Ear drill = example();
  drill.vm.role = VmRole::kDrill;
  EXPECT_THAT(site.verify(site.issue(drill), {.now = kNow}), HasSubstr("drill"));
  EXPECT_EQ(site.verify(site.issue(drill), {.now = kNow, .role = VmRole::kDrill}), "taken");
  EXPECT_EQ(site.verify(site.issue(drill), {.now = kNow, .role = std::nullopt}), "taken");

  Ear bad = example();
  bad.status = TrustTier::kContraindicated;
  bad.vector.set(TrustClaim::kExecutables, kExecutablesContraindicated);
  bad.vm.reasons = {{.code = "x", .words = "GRUB is signed by Mallory"}};
  EXPECT_THAT(site.verify(site.issue(bad), {.now = kNow}), HasSubstr("Mallory"));
  EXPECT_EQ(
      site.verify(site.issue(bad), {.now = kNow, .status_worst = TrustTier::kContraindicated}),
      "taken");
  Ear unknown = example();
  unknown.status = TrustTier::kNone;
  EXPECT_THAT(site.verify(site.issue(unknown), {.now = kNow, .status_worst = TrustTier::kWarning}),
              HasSubstr("none"));
  EXPECT_EQ(site.verify(site.issue(unknown), {.now = kNow, .status_worst = TrustTier::kNone}),
            "taken");
}

TEST(Ear, that_contradicts_itself_or_lacks_a_claim_is_refused) {
  const Site site;
  const sys::JsonObject good = to_json(example());
  const auto verify = [&](auto change) {
    sys::JsonObject payload = good;
    change(payload);
    return site.verify(site.issue(payload), {.now = kNow});
  };
  const auto boot = [](sys::JsonObject& o) -> sys::JsonObject& {
    return o["submods"].as_object()["boot"].as_object();
  };
  EXPECT_EQ(verify([](auto&) {}), "taken");
  EXPECT_EQ(verify([](auto& o) { o["unknown"] = 7; }), "taken");
  EXPECT_EQ(verify([](auto& o) { o.erase("exp"); }), "taken");
  for (const char* name : {"eat_profile", "iat", "ear_verifier_id", "submods", "holdfast"}) {
    EXPECT_THAT(verify([&](auto& o) { o.erase(name); }), HasSubstr(name));
  }
  EXPECT_THAT(verify([](auto& o) { o["eat_profile"] = "tag:ietf.org,2026:rats/ear#03"; }),
              HasSubstr("04"));
  EXPECT_THAT(verify([](auto& o) { o["iat"] = 1.79e9; }), HasSubstr("iat"));
  EXPECT_THAT(verify([](auto& o) { o["exp"] = 1.79e9 + 600; }), HasSubstr("exp"));
  EXPECT_THAT(verify([](auto& o) { o["exp"] = nullptr; }), HasSubstr("exp"));
  EXPECT_THAT(verify([](auto& o) { o["nbf"] = 1'790'000'100; }), HasSubstr("not valid yet"));
  EXPECT_THAT(verify([&](auto& o) { boot(o)["ear_status"] = "fine"; }), HasSubstr("ear_status"));
  EXPECT_THAT(
      verify([&](auto& o) { boot(o)["ear_trustworthiness_vector"].as_object()["hardware"] = 97; }),
      HasSubstr("better than"));
  EXPECT_THAT(
      verify([&](auto& o) { boot(o)["ear_trustworthiness_vector"].as_object()["hardware"] = 200; }),
      HasSubstr("out of range"));
  EXPECT_THAT(verify([&](auto& o) { boot(o)["ear_trustworthiness_vector"] = sys::JsonObject{}; }),
              HasSubstr("better than"));
  EXPECT_THAT(verify([&](auto& o) { boot(o)["ear_status"] = "warning"; }),
              HasSubstr("better than that of the submodule"));
  EXPECT_THAT(verify([](auto& o) { o["holdfast"].as_object()["role"] = "Production"; }),
              HasSubstr("role"));
}

TEST(Ear, long_reasons_are_cut_where_a_character_ends) {
  const Site site;
  Ear ear = example();
  ear.vm.reasons.assign(200, {.code = "c", .words = std::string(1023, 'x') + "\u00e4\u00e4"});
  Result<Ear> back = verify_ear(site.issue(ear), site.keys, {.now = kNow});
  ASSERT_TRUE(back.ok()) << back.error().describe();
  EXPECT_EQ(back->vm.reasons.size(), kEarReasonsMax);
  EXPECT_EQ(back->vm.reasons[0].words, std::string(1023, 'x'));
}

TEST(TrustVector, values_are_in_the_tiers_of_ar4si) {
  for (int value = INT8_MIN; value <= INT8_MAX; ++value) {
    const TrustTier expected = value < -96   ? TrustTier::kContraindicated
                               : value < -32 ? TrustTier::kWarning
                               : value < -1  ? TrustTier::kAffirming
                               : value < 2   ? TrustTier::kNone
                               : value < 32  ? TrustTier::kAffirming
                               : value < 96  ? TrustTier::kWarning
                                             : TrustTier::kContraindicated;
    EXPECT_EQ(tier_of(static_cast<int8_t>(value)), expected) << value;
  }
  TrustVector vector;
  EXPECT_TRUE(vector.empty());
  EXPECT_EQ(vector.worst(), TrustTier::kNone);
  vector.set(TrustClaim::kHardware, 2);
  vector.set(TrustClaim::kSourcedData, 0);
  EXPECT_EQ(vector.worst(), TrustTier::kAffirming);
  vector.set(TrustClaim::kConfiguration, 36);
  EXPECT_EQ(vector.worst(), TrustTier::kWarning);
  for (TrustTier tier : {TrustTier::kNone, TrustTier::kAffirming, TrustTier::kWarning,
                         TrustTier::kContraindicated}) {
    EXPECT_EQ(parse_trust_tier(to_string(tier)), tier);
  }
  EXPECT_FALSE(parse_trust_tier("Affirming").has_value());
}

TEST(Ear, the_policy_that_was_expected_must_be_the_one_applied) {
  const Site site;
  const std::string token = site.issue(example());
  EarExpectation expectation{.now = kNow, .policy_id = "linux#0011223344556677"};
  EXPECT_EQ(site.verify(token, expectation), "taken");
  expectation.policy_id = "linux#0011223344556678";
  EXPECT_THAT(site.verify(token, expectation), HasSubstr("by another policy (linux#0011"));
}

// A site signs what any policy makes of any evidence; by whose rules it is Healthy is in its name.
TEST(Ear, a_token_that_names_no_copy_is_not_one_of_production) {
  const Site site;
  Ear ear = example();
  ear.vm.vm.reset();
  ear.vm.role.reset();
  EarExpectation expectation{.now = kNow};
  EXPECT_THAT(site.verify(site.issue(ear), expectation), HasSubstr("of no copy what it is"));
  expectation.role.reset();
  EXPECT_EQ(site.verify(site.issue(ear), expectation), "taken");
}

}  // namespace
}  // namespace hf::attestation
