#include "attestation/appraisal/appraisal.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/testing/test_boot.h"

namespace hf::attestation {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const Policy kLinux = *built_in_policy("linux");

struct Case {
  std::string name;
  TestBoot boot;
  std::string code;   // that a failure must have
  std::string words;  // that its words must have, with log
};

// Each tampering is found with log and record, with log and quote, and by the record alone.
void expect_found(const Case& c) {
  SCOPED_TRACE(c.name);
  Baseline baseline = test_baseline(TestBoot{});
  TestEvidence evidence(c.boot);
  for (const AppraisalInput& input :
       {evidence.input(kLinux, &baseline), evidence.by_log(kLinux, &baseline),
        evidence.by_record(kLinux, &baseline)}) {
    Appraisal appraisal = appraise(input);
    EXPECT_EQ(appraisal.verdict, Verdict::kUnhealthy) << told(appraisal);
    EXPECT_TRUE(has_reason(appraisal, c.code)) << told(appraisal);
    EXPECT_EQ(appraisal.trust.worst() >= TrustTier::kWarning, true) << told(appraisal);
  }
  Appraisal whole = appraise(evidence.input(kLinux, &baseline));
  const Reason* reason = find_reason(whole, c.code);
  ASSERT_NE(reason, nullptr);
  EXPECT_THAT(reason->words, HasSubstr(c.words)) << told(whole);
  EXPECT_FALSE(reason->mend.empty());
}

TEST(Appraisal, the_boot_that_was_learned_is_healthy) {
  Baseline baseline = test_baseline(TestBoot{});
  Baseline bare = test_baseline_by_record(TestBoot{});
  TestEvidence evidence{TestBoot{}};
  for (const Baseline* learned : {&baseline, &bare}) {
    for (const AppraisalInput& input :
         {evidence.input(kLinux, learned), evidence.by_log(kLinux, learned),
          evidence.by_record(kLinux, learned)}) {
      Appraisal appraisal = appraise(input);
      EXPECT_EQ(appraisal.verdict, Verdict::kHealthy) << told(appraisal);
      EXPECT_TRUE(appraisal.reasons.empty()) << told(appraisal);
      EXPECT_EQ(appraisal.secure_boot, true);
      EXPECT_EQ(appraisal.trust.worst(), TrustTier::kAffirming);
      EXPECT_EQ(appraisal.trust.get(TrustClaim::kExecutables), kExecutablesApprovedBoot);
      EXPECT_EQ(appraisal.trust.get(TrustClaim::kConfiguration), kConfigurationApproved);
      EXPECT_EQ(appraisal.trust.get(TrustClaim::kInstanceIdentity), kIdentityRecognised);
    }
  }
  Appraisal whole = appraise(evidence.input(kLinux, &baseline));
  EXPECT_EQ(whole.kernel_command_line, "/boot/vmlinuz-6.1.0-43-amd64 root=/dev/vda2 ro quiet");
  EXPECT_THAT(whole.authorities, testing::Contains("Shim: Debian Secure Boot CA"));
}

TEST(Appraisal, finds_another_kernel) {
  TestBoot boot;
  boot.kernel.content = "MZ kernel 44";
  expect_found(
      {"kernel", boot, "program_changed", "Linux (boot/vmlinuz-6.1.0-43-amd64) is another"});
}

TEST(Appraisal, finds_another_command_line_and_quotes_both) {
  TestBoot boot;
  boot.parameters = "root=/dev/vda2 ro init=/bin/sh";
  expect_found({"command line", boot, "command_line_changed",
                "is \"/boot/vmlinuz-6.1.0-43-amd64 root=/dev/vda2 ro init=/bin/sh\", expected "
                "\"/boot/vmlinuz-6.1.0-43-amd64 root=/dev/vda2 ro quiet\""});
}

TEST(Appraisal, finds_grub_replaced_by_another_signed_one) {
  TestBoot boot;
  boot.grub.content = "MZ other grub";
  boot.grub.signer = "Canonical Ltd. Master Certificate Authority";
  boot.db.push_back(boot.grub.signer);
  boot.grub.vouched_by = "db";
  Case c{"grub", boot, "program_changed",
         "GRUB (EFI/debian/grubx64.efi) is signed by Canonical Ltd. Master Certificate Authority, "
         "expected GRUB (EFI/debian/grubx64.efi) signed by Debian Secure Boot CA"};
  expect_found(c);
  c.code = "authority_changed";
  c.words = "vouched for by db: Canonical";
  expect_found(c);
}

TEST(Appraisal, finds_a_loader_signed_by_a_test_key_even_without_a_baseline) {
  TestBoot boot;
  boot.grub.content = "MZ debug grub";
  boot.grub.signer = "Contoso Debug Signer";
  boot.grub.vouched_by = "db";
  boot.db.push_back(boot.grub.signer);
  expect_found({"test key", boot, "test_signer", "Contoso Debug Signer"});
  TestEvidence evidence(boot);
  Policy policy =
      *parse_policy(R"({"version":1,"name":"x","extends":"linux","baseline":"optional"})");
  Appraisal appraisal = appraise(evidence.by_log(policy, nullptr));
  EXPECT_EQ(appraisal.verdict, Verdict::kUnhealthy);
  EXPECT_EQ(appraisal.trust.get(TrustClaim::kExecutables), kExecutablesContraindicated);
}

TEST(Appraisal, finds_secure_boot_off) {
  TestBoot boot;
  boot.secure_boot = false;
  expect_found({"off", boot, "secure_boot_off", "anything may have started"});
  expect_found({"off", boot, "secure_boot_changed", "Secure Boot off, expected Secure Boot on"});
}

TEST(Appraisal, finds_a_key_added_to_db_and_names_it) {
  TestBoot boot;
  boot.db.push_back("Evil CA");
  expect_found({"db", boot, "db_changed", "db has what the baseline has not: \"Evil CA\""});
}

TEST(Appraisal, finds_a_certificate_enrolled_as_mok) {
  TestBoot boot;
  boot.mok = {"My module key"};
  expect_found({"MOK", boot, "mok_changed", "MOK"});
  boot.grub.signer = "My module key";
  boot.grub.vouched_by = "MokListRT";
  expect_found({"MOK used", boot, "authority_changed", "MokListRT: My module key"});
  Policy none =
      *parse_policy(R"({"version":1,"name":"x","extends":"none","secure_boot":{"mok":"none"}})");
  TestEvidence evidence(boot);
  Appraisal appraisal = appraise(evidence.input(none, nullptr));
  EXPECT_EQ(appraisal.verdict, Verdict::kUnhealthy) << told(appraisal);
  EXPECT_THAT(told(appraisal), HasSubstr("shim's MOK list has \"My module key\""));
}

TEST(Appraisal, finds_shim_told_to_validate_nothing) {
  TestBoot boot;
  boot.shim_validation = false;
  Baseline baseline = test_baseline(boot);  // even if somebody accepted it
  TestEvidence evidence(boot);
  EXPECT_TRUE(has_reason(appraise(evidence.by_log(kLinux, &baseline)), "debugging"));
}

TEST(Appraisal, finds_another_firmware) {
  TestBoot boot;
  boot.firmware = "firmware volume 2";
  expect_found({"firmware", boot, "firmware_changed", "the firmware: "});
}

TEST(Appraisal, has_no_false_alarms) {
  Baseline baseline = test_baseline(TestBoot{});
  Baseline bare = test_baseline_by_record(TestBoot{});
  std::vector<std::pair<std::string, TestBoot>> boots(8);
  boots[0].first = "boot order";
  boots[0].second.boot_order = {"network", "disk", "CD"};
  boots[1].first = "disk grown";
  boots[1].second.disk_layout = "2 GiB";
  boots[2].first = "another boot option tried first";
  boots[2].second.network_boot_tried = true;
  boots[3].first = "NIC added";
  boots[3].second.boot_order = {"disk", "network 1", "network 2"};
  boots[4].first = "the operating system extends more";
  boots[4].second.after = {"enter-initrd", "leave-initrd", "sysinit", "ready"};
  boots[5].first = "revocations added";
  boots[5].second.dbx.push_back("revoked 2");
  boots[6].first = "again";
  boots[7].first = "all of it";
  boots[7].second.boot_order = {"network", "disk"};
  boots[7].second.disk_layout = "2 GiB";
  boots[7].second.network_boot_tried = true;
  boots[7].second.after = {"enter-initrd"};
  for (const auto& [name, boot] : boots) {
    TestEvidence evidence(boot);
    for (const AppraisalInput& input :
         {evidence.input(kLinux, &baseline), evidence.by_log(kLinux, &baseline),
          evidence.by_record(kLinux, &baseline), evidence.by_record(kLinux, &bare)}) {
      Appraisal appraisal = appraise(input);
      EXPECT_EQ(appraisal.verdict, Verdict::kHealthy) << name << ": " << told(appraisal);
    }
  }
}

TEST(Appraisal, grubs_environment_may_change_where_the_disk_explains_it) {
  Baseline baseline = test_baseline(TestBoot{});
  TestBoot boot;
  boot.grub_environment = "# GRUB Environment Block\nsaved_entry=0\n";
  TestEvidence evidence(boot);
  EXPECT_EQ(appraise(evidence.by_record(kLinux, &baseline)).verdict, Verdict::kHealthy);
  AppraisalInput unexplained = evidence.by_record(kLinux, &baseline);
  unexplained.files = {};
  EXPECT_EQ(appraise(unexplained).verdict, Verdict::kUnhealthy);
}

TEST(Appraisal, says_what_is_missing_for_a_verdict) {
  TestEvidence evidence{TestBoot{}};
  Appraisal appraisal = appraise(evidence.input(kLinux, nullptr));
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
  EXPECT_THAT(find_reason(appraisal, "no_baseline")->mend, HasSubstr("learn"));

  Baseline baseline = test_baseline(TestBoot{});
  AppraisalInput nothing = evidence.input(kLinux, &baseline);
  nothing.log = nullptr;
  nothing.record = nullptr;
  nothing.quote = nullptr;
  EXPECT_TRUE(has_reason(appraise(nothing), "no_evidence"));

  AppraisalInput alone = evidence.by_log(kLinux, &baseline);
  alone.quote = nullptr;
  appraisal = appraise(alone);
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
  EXPECT_TRUE(has_reason(appraisal, "nothing_vouches_for_log"));
  EXPECT_TRUE(appraisal.kernel_command_line.empty()) << "no claim from a log nothing vouches for";

  TestEvidence running{TestBoot{}};
  running.record.extends.resize(10);
  running.record.total = 10;
  running.record.exit_boot_services.reset();
  EXPECT_TRUE(has_reason(appraise(running.by_record(kLinux, &baseline)), "boot_not_finished"));
  running.record.complete = false;
  EXPECT_TRUE(has_reason(appraise(running.by_record(kLinux, &baseline)), "record_incomplete"));

  Policy strict = *parse_policy(R"({"version":1,"name":"x","extends":"linux",
      "evidence":{"quote":"required","event_log":"required"}})");
  appraisal = appraise(evidence.by_record(strict, &baseline));
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown);
  EXPECT_TRUE(has_reason(appraisal, "quote_missing"));
  EXPECT_TRUE(has_reason(appraisal, "event_log_missing"));
}

TEST(Appraisal, a_register_that_the_quote_leaves_out_is_not_judged_by_the_log) {
  Baseline baseline = test_baseline(TestBoot{});
  TestBoot boot;
  boot.parameters = "init=/bin/sh";
  TestEvidence evidence(boot);
  for (PcrValues& bank : evidence.quote.banks) bank.values[8].reset();
  Appraisal appraisal = appraise(evidence.by_log(kLinux, &baseline));
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
  EXPECT_TRUE(has_reason(appraisal, "pcr_not_quoted"));
  EXPECT_TRUE(appraisal.kernel_command_line.empty());
}

// What cannot be seen is as accepted where PCR 7 is as accepted; not where any PCR 7 would do.
TEST(Appraisal, a_register_that_is_not_enforced_vouches_for_nothing_unseen) {
  Baseline baseline = test_baseline(TestBoot{});
  TestBoot boot;
  boot.mok = {"My module key"};
  boot.grub.content = "MZ my grub";
  boot.grub.signer = "My module key";
  boot.grub.vouched_by = "MokListRT";
  TestEvidence evidence(boot);
  for (const char* rule : {"note", "ignore"}) {
    Policy policy = *parse_policy(fmt::format(
        R"({{"version":1,"name":"x","extends":"linux","pcrs":{{"7":"{}","4":"note","14":"{}"}},
            "secure_boot":{{"signers":[{{"subject":"Microsoft*"}},{{"subject":"Debian*"}}]}}}})",
        rule, rule));
    Appraisal appraisal = appraise(evidence.by_record(policy, &baseline));
    EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << rule << told(appraisal);
    EXPECT_TRUE(has_reason(appraisal, "secure_boot_unknown")) << rule << told(appraisal);
    TestEvidence good{TestBoot{}};
    appraisal = appraise(good.by_record(policy, &baseline));
    bool compared = std::string_view(rule) == "note";
    EXPECT_EQ(appraisal.verdict, compared ? Verdict::kHealthy : Verdict::kUnknown)
        << rule << told(appraisal);
    // Nor may programs change under "signed" then.
    policy = *parse_policy(fmt::format(
        R"({{"version":1,"name":"x","extends":"windows","pcrs":{{"7":"{}","4":"signed"}}}})",
        rule));
    EXPECT_EQ(appraise(evidence.by_record(policy, &baseline)).verdict, Verdict::kUnhealthy) << rule;
  }
}

TEST(Appraisal, a_second_command_line_that_cannot_be_read_is_not_overlooked) {
  Baseline baseline = test_baseline(TestBoot{});
  Policy policy = *parse_policy(R"({"version":1,"name":"x","extends":"linux","pcrs":{"8":"note"},
      "kernel_command_line":{"excludes":["init=/bin/sh"]}})");
  TestBoot boot;
  TestEvidence good(boot);
  EXPECT_EQ(appraise(good.input(policy, &baseline)).verdict, Verdict::kHealthy)
      << told(appraise(good.input(policy, &baseline)));
  boot.second_command_line = "/boot/vmlinuz init=/bin/sh \x01";
  TestEvidence evidence(boot);
  Appraisal appraisal = appraise(evidence.input(policy, &baseline));
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
  ASSERT_TRUE(has_reason(appraisal, "command_line_unknown")) << told(appraisal);
  EXPECT_EQ(find_reason(appraisal, "command_line_unknown")->pcr, 8);
}

TEST(Appraisal, a_mok_list_from_elsewhere_counts_as_far_as_pcr_14_proves_it) {
  Baseline baseline = test_baseline(TestBoot{});
  Policy none = *parse_policy(
      R"({"version":1,"name":"x","extends":"none","secure_boot":{"mok":"none"},
          "pcrs":{"7":"baseline"}})");
  TestBoot boot;
  boot.mok = {"My module key"};
  TestEvidence evidence(boot);
  KeyVariables claimed = TestBoot{}.variables();
  AppraisalInput input = evidence.by_log(none, &baseline);
  input.context.record_from_keeper = false;
  input.variables = &claimed;  // without the list
  Appraisal appraisal = appraise(input);
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
  EXPECT_TRUE(has_reason(appraisal, "secure_boot_unknown"));
  claimed["MokListRT"] = boot.mok_list();
  appraisal = appraise(input);
  EXPECT_TRUE(has_reason(appraisal, "mok_refused")) << told(appraisal);
  TestEvidence good{TestBoot{}};
  claimed["MokListRT"] = TestBoot{}.mok_list();
  input = good.by_log(none, &baseline);
  input.context.record_from_keeper = false;
  input.variables = &claimed;
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << told(appraise(input));
}

TEST(Appraisal, the_token_says_the_same) {
  Baseline baseline = test_baseline(TestBoot{});
  TestEvidence evidence{TestBoot{}};
  AppraisalInput input = evidence.input(kLinux, &baseline);
  input.context.epoch = Epoch(3);
  input.context.role = VmRole::kDrill;
  input.context.freshness.durable = Sequence(0);
  Ear ear = to_ear(appraise(input), input.context);
  EXPECT_EQ(ear.status, TrustTier::kAffirming);
  EXPECT_EQ(ear.vm.verdict, "Healthy");
  EXPECT_EQ(ear.vm.role, VmRole::kDrill);
  EXPECT_EQ(ear.vm.epoch, Epoch(3));
  EXPECT_EQ(ear.vm.freshness, "current");
  EXPECT_THAT(ear.policy_ids.at(0), HasSubstr("linux:"));

  TestBoot off;
  off.secure_boot = false;
  TestEvidence bad(off);
  input = bad.input(kLinux, &baseline);
  ear = to_ear(appraise(input), input.context);
  EXPECT_EQ(ear.status, TrustTier::kContraindicated);
  EXPECT_EQ(ear.vm.reasons.at(0).code, "secure_boot_off");
  EXPECT_TRUE(parse_ear(to_json(ear)).ok()) << parse_ear(to_json(ear)).error().cause;
}

}  // namespace
}  // namespace hf::attestation
