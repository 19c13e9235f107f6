#include "control/attest/attestation_record.h"

#include <gtest/gtest.h>

namespace hf::control {
namespace {

VerdictRow verdict(uint64_t time, std::string record) {
  return {.time = Micros(time), .verdict = "Healthy", .record = std::move(record)};
}

TEST(AttestationPacket, comes_back_as_it_was_packed_but_for_old_tokens) {
  AttestationRow row{
      .policy = R"({"name":"linux"})", .baseline = "{}", .identity = "{i}", .explanations = ""};
  std::vector<VerdictRow> verdicts{verdict(3, R"({"a":1,"token":"x.y.z"})"),
                                   verdict(2, R"({"a":2,"token":"x.y.z"})")};
  Result<Bytes> packed = pack_attestation(row, verdicts);
  ASSERT_TRUE(packed.ok());
  Result<AttestationPacket> packet = unpack_attestation(*packed);
  ASSERT_TRUE(packet.ok()) << packet.error().describe();
  EXPECT_EQ(packet->row.policy, row.policy);
  EXPECT_EQ(packet->row.identity, row.identity);
  ASSERT_EQ(packet->verdicts.size(), 2U);
  EXPECT_EQ(packet->verdicts[0].time, Micros(2));
  EXPECT_EQ(packet->verdicts[0].record, R"({"a":2})");
  EXPECT_EQ(packet->verdicts[1].record, R"({"a":1,"token":"x.y.z"})");
}

TEST(AttestationPacket, old_verdicts_give_way_to_the_limit) {
  std::vector<VerdictRow> verdicts;
  std::string large = R"({"words":")" + std::string(30'000, 'w') + "\"}";
  for (uint64_t i = 0; i < kVerdictsMax; ++i) verdicts.push_back(verdict(1000 - i, large));
  Bytes packed = *pack_attestation({}, verdicts);
  EXPECT_LE(packed.size(), kPacketMax);
  AttestationPacket packet = *unpack_attestation(packed);
  EXPECT_GT(packet.verdicts.size(), 20U);
  EXPECT_LT(packet.verdicts.size(), kVerdictsMax);
  EXPECT_EQ(packet.verdicts.back().time, Micros(1000));
}

TEST(AttestationPacket, what_cannot_travel_is_told) {
  Result<Bytes> packed = pack_attestation({.baseline = std::string(kPacketMax, 'b')}, {});
  ASSERT_FALSE(packed.ok());
  EXPECT_EQ(packed.error().code, ErrorCode::kLimit);
  EXPECT_FALSE(packed.error().mend.empty());
}

TEST(AttestationPacket, what_was_read_off_the_disk_gives_way_to_policy_and_baseline) {
  AttestationRow row{.policy = "p",
                     .baseline = std::string(kPacketMax - 2000, 'b'),
                     .explanations = std::string(500'000, 'e')};
  Result<Bytes> packed = pack_attestation(row, {});
  ASSERT_TRUE(packed.ok()) << packed.error().describe();
  Result<AttestationPacket> packet = unpack_attestation(*packed);
  ASSERT_TRUE(packet.ok()) << packet.error().describe();
  EXPECT_EQ(packet->row.baseline, row.baseline);
  EXPECT_EQ(packet->row.explanations, "");
}

TEST(AttestationPacket, broken_ones_are_refused) {
  for (
      std::string_view text :
      {"", "{}", R"({"version":2})", R"({"version":1,"policy":""})",
       R"({"version":1,"policy":"","baseline":"","identity":"","explanations":"","verdicts":[1]})"}) {
    EXPECT_FALSE(unpack_attestation(as_bytes(text)).ok()) << text;
  }
}

TEST(BaselineText, what_could_not_be_read_again_is_not_stored) {
  attestation::Baseline baseline;
  for (size_t boot = 0; boot < attestation::kBaselineBootsMax; ++boot) {
    baseline.boots.push_back({.boot_id = std::string(16, 'a')});
  }
  Result<std::string> text = baseline_text(baseline);
  ASSERT_TRUE(text.ok());
  EXPECT_TRUE(attestation::parse_baseline(*text).ok());
  for (attestation::BaselineBoot& boot : baseline.boots) {
    boot.entries.assign(200, attestation::BaselineEntry{.what = std::string(4096, 'w')});
  }
  text = baseline_text(baseline);
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().code, ErrorCode::kLimit);
  EXPECT_FALSE(text.error().mend.empty());
}

TEST(AttestationIdentity, survives_json) {
  AttestationIdentity identity{.ak_public = Bytes(90, std::byte{3}),
                               .ak_name = Bytes(34, std::byte{4}),
                               .certificate = "-----BEGIN CERTIFICATE-----\n",
                               .certified_by = {},
                               .reset_count = 7,
                               .boot_id = "0011223344556677"};
  Result<AttestationIdentity> again = parse_identity(sys::to_text(to_json(identity)));
  ASSERT_TRUE(again.ok()) << again.error().describe();
  EXPECT_EQ(*again, identity);
}

}  // namespace
}  // namespace hf::control
