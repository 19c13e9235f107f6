#include "attestation/baseline/baseline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/appraisal/appraisal.h"
#include "attestation/baseline/sequence_diff.h"
#include "attestation/testing/test_boot.h"

namespace hf::attestation {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Policy kLinux = *built_in_policy("linux");
constexpr Micros kNow{2'000'000};

Bytes digest_of(std::string_view text) {
  HashValue value = hash(HashAlg::kSha256, as_bytes(text));
  return {value.bytes().begin(), value.bytes().end()};
}

// Debian replaces the kernel: 43 becomes 44, with its initrd.
TestBoot updated() {
  TestBoot boot;
  boot.kernel.content = "MZ kernel 44";
  boot.kernel_path = "/boot/vmlinuz-6.1.0-44-amd64";
  boot.initrd = "initrd 44";
  return boot;
}

PlannedChange kernel_update() {
  PlannedChange change;
  change.why = "linux-image 6.1.0-44";
  change.expires = Micros(kNow.value + 1'000'000);
  change.texts = {{.was = "6.1.0-43-amd64", .is = "6.1.0-44-amd64"}};
  auto file = [&](uint8_t pcr, std::string_view was, std::string_view is, std::string what) {
    change.digests.push_back(
        {.pcr = pcr, .was = digest_of(was), .is = digest_of(is), .what = std::move(what)});
  };
  file(4, "MZ kernel 43", "MZ kernel 44", "Linux 6.1.0-44");
  file(9, "MZ kernel 43", "MZ kernel 44", "Linux 6.1.0-44");
  file(9, "initrd 43", "initrd 44", "the initial RAM disk");
  file(9, "grub.cfg for /boot/vmlinuz-6.1.0-43-amd64", "grub.cfg for /boot/vmlinuz-6.1.0-44-amd64",
       "grub.cfg");
  return change;
}

Appraisal judged(const TestBoot& boot, const Baseline& baseline, Micros now = kNow) {
  TestEvidence evidence(boot);
  AppraisalInput input = evidence.by_record(kLinux, &baseline);
  input.context.now = now;
  return appraise(input);
}

BaselineBoot learned(const TestBoot& boot) { return test_baseline(boot).boots.at(0); }

TEST(Baseline, is_the_same_after_json) {
  Baseline baseline = test_baseline(TestBoot{});
  accept(baseline, learned(updated()), AcceptMode::kAdd);
  PlannedChange change = kernel_update();
  change.sequences = {{.pcr = 7, .entries = {{.pcr = 7, .digest = digest_of("x"), .what = "db"}}}};
  change.variables["db"] = Bytes(5);
  change.open_pcrs = {4, 9};
  ASSERT_TRUE(announce(baseline, change, kNow).ok());
  std::string text = sys::to_text(to_json(baseline));
  Result<Baseline> parsed = parse_baseline(text);
  ASSERT_TRUE(parsed.ok()) << parsed.error().cause;
  EXPECT_EQ(*parsed, baseline);
  EXPECT_EQ(sys::to_text(to_json(*parsed)), text);
}

TEST(Baseline, refuses_what_is_not_one) {
  auto error = [](std::string_view json) {
    Result<Baseline> parsed = parse_baseline(json);
    return parsed.ok() ? "" : parsed.error().cause;
  };
  EXPECT_THAT(error("{}"), HasSubstr("version"));
  EXPECT_THAT(error(R"({"version":1,"boots":[],"planned":[],"more":1})"), HasSubstr("\"more\""));
  EXPECT_THAT(error(R"({"version":1,"boots":[{"boot_id":"","learned_us":1,"bank":"sha256",
                        "entries":[{"pcr":99,"digest":"00"}]}],"planned":[]})"),
              HasSubstr("PCR 99"));
  EXPECT_THAT(error(R"({"version":1,"boots":[{"boot_id":"","learned_us":1,"bank":"sha384",
      "entries":[{"pcr":9,"digest":"0000000000000000000000000000000000000000000000000000000000000000"}]}],
      "planned":[]})"),
              HasSubstr("another bank"));
}

TEST(Baseline, a_boot_that_did_not_reach_an_operating_system_is_not_learned) {
  TestEvidence evidence{TestBoot{}};
  evidence.record.extends.resize(12);
  auto boot = MeasuredBoot::from({.record = &evidence.record}, HashAlg::kSha256);
  Result<BaselineBoot> result = learn(*boot, {}, "", kNow);
  ASSERT_FALSE(result.ok());
  EXPECT_FALSE(result.error().mend.empty());
}

TEST(Baseline, two_kernels_to_choose_from_are_two_accepted_boots) {
  Baseline baseline = test_baseline(TestBoot{});
  EXPECT_EQ(judged(updated(), baseline).verdict, Verdict::kUnhealthy);
  accept(baseline, learned(updated()), AcceptMode::kAdd);
  EXPECT_EQ(judged(updated(), baseline).verdict, Verdict::kHealthy);
  EXPECT_EQ(judged(TestBoot{}, baseline).verdict, Verdict::kHealthy);
  TestBoot mixed = updated();
  mixed.initrd = "initrd 43";
  EXPECT_EQ(judged(mixed, baseline).verdict, Verdict::kUnhealthy);
  accept(baseline, learned(updated()), AcceptMode::kReplace);
  EXPECT_EQ(judged(TestBoot{}, baseline).verdict, Verdict::kUnhealthy);
  for (int i = 0; i < 9; ++i) accept(baseline, learned(updated()), AcceptMode::kAdd);
  EXPECT_EQ(baseline.boots.size(), kBaselineBootsMax);
}

TEST(Baseline, an_announced_kernel_update_passes_once_it_happens) {
  Baseline baseline = test_baseline(TestBoot{});
  Result<std::string> id = announce(baseline, kernel_update(), kNow);
  ASSERT_TRUE(id.ok());
  // Not yet updated: still as before, and the change stays announced.
  Appraisal before = judged(TestBoot{}, baseline);
  EXPECT_EQ(before.verdict, Verdict::kHealthy);
  EXPECT_THAT(before.planned_changes, IsEmpty());

  Appraisal after = judged(updated(), baseline);
  EXPECT_EQ(after.verdict, Verdict::kHealthy) << told(after);
  EXPECT_THAT(after.planned_changes, ElementsAre(*id));

  TestEvidence evidence(updated());
  auto boot = MeasuredBoot::from({.record = &evidence.record}, HashAlg::kSha256);
  Result<BaselineMatch> match = best_match(baseline, *boot, kLinux, {}, kNow);
  ASSERT_TRUE(match.ok());
  ASSERT_TRUE(consume(baseline, *match, learned(updated())).ok());
  EXPECT_TRUE(baseline.planned.empty());
  EXPECT_EQ(judged(updated(), baseline).verdict, Verdict::kHealthy);
  EXPECT_EQ(judged(TestBoot{}, baseline).verdict, Verdict::kUnhealthy) << "the old kernel again";
}

TEST(Baseline, an_announcement_covers_nothing_else_and_expires) {
  Baseline baseline = test_baseline(TestBoot{});
  ASSERT_TRUE(announce(baseline, kernel_update(), kNow).ok());
  TestBoot more = updated();
  more.parameters = "root=/dev/vda2 ro init=/bin/sh";
  Appraisal appraisal = judged(more, baseline);
  EXPECT_EQ(appraisal.verdict, Verdict::kUnhealthy) << told(appraisal);
  EXPECT_THAT(appraisal.planned_changes, IsEmpty());
  Micros late(kNow.value + 1'000'000);
  EXPECT_EQ(judged(updated(), baseline, late).verdict, Verdict::kUnhealthy);

  PlannedChange again = kernel_update();
  EXPECT_FALSE(announce(baseline, again, late).ok()) << "expired already";
  again.expires = Micros(late.value + 1);
  ASSERT_TRUE(announce(baseline, again, late).ok());
  EXPECT_EQ(baseline.planned.size(), 1u) << "the expired one is gone";
  EXPECT_TRUE(withdraw(baseline, baseline.planned[0].id).ok());
  EXPECT_EQ(withdraw(baseline, "none").error().code, ErrorCode::kNotFound);
}

TEST(Baseline, open_registers_take_any_change_while_the_same_keys_vouch) {
  Baseline baseline = test_baseline(TestBoot{});
  PlannedChange change{.why = "updates tonight", .expires = Micros(kNow.value + 1)};
  change.open_pcrs = {4, 8, 9};
  ASSERT_TRUE(announce(baseline, change, kNow).ok());
  EXPECT_EQ(judged(updated(), baseline).verdict, Verdict::kHealthy);
  TestBoot foreign = updated();
  foreign.kernel.signer = "Evil CA";
  EXPECT_EQ(judged(foreign, baseline).verdict, Verdict::kUnhealthy);
  TestBoot firmware = updated();
  firmware.firmware = "other";
  EXPECT_EQ(judged(firmware, baseline).verdict, Verdict::kUnhealthy);
  change.open_pcrs = {7};
  EXPECT_FALSE(announce(baseline, change, kNow).ok()) << "keys are predicted, never left open";
  EXPECT_FALSE(announce(baseline, {.expires = Micros(kNow.value + 1)}, kNow).ok());
}

// What update-grub makes of it: other commands, and another file.
TestBoot with_grub_config(std::string_view version) {
  TestBoot boot;
  boot.grub_config = version;
  for (int i = 0; i < 20; ++i) {
    boot.grub_commands.push_back("menuentry " + std::to_string(i) + " of " + std::string(version));
  }
  return boot;
}

size_t failures_of(const Appraisal& appraisal) {
  return static_cast<size_t>(
      std::ranges::count(appraisal.reasons, Severity::kFailure, &Reason::severity));
}

Appraisal judged_with_log(const TestBoot& boot, const Baseline& baseline) {
  TestEvidence evidence(boot);
  AppraisalInput input = evidence.input(kLinux, &baseline);
  input.context.now = kNow;
  return appraise(input);
}

TEST(Baseline, another_grub_configuration_is_one_cause_with_one_mend) {
  const Baseline baseline = test_baseline(with_grub_config("one"));
  const Appraisal appraisal = judged_with_log(with_grub_config("two"), baseline);
  EXPECT_EQ(appraisal.verdict, Verdict::kUnhealthy);
  ASSERT_EQ(failures_of(appraisal), 1u) << told(appraisal);
  const Reason* reason = find_reason(appraisal, "grub_config_changed");
  ASSERT_NE(reason, nullptr) << told(appraisal);
  EXPECT_THAT(reason->words, HasSubstr("GRUB's configuration is another: "));
  EXPECT_THAT(reason->words, HasSubstr("; with it 20 more: 19 of PCR 8, 1 of PCR 9"));
  EXPECT_THAT(reason->mend, HasSubstr("baseline announce VM --grub-config"));
  EXPECT_EQ(find_reason(appraisal, "more_differences"), nullptr);
  // There is no going back to a point in time yet.
  for (const Reason& told_reason : appraisal.reasons) {
    EXPECT_EQ(told_reason.mend.find("recovery point"), std::string::npos) << told_reason.mend;
  }
  // Both registers speak: commands for the configuration, files for what runs.
  EXPECT_EQ(appraisal.trust.get(TrustClaim::kConfiguration), kConfigurationUnsupportable);
  EXPECT_EQ(appraisal.trust.get(TrustClaim::kExecutables), kExecutablesUnrecognised);
  // Digests alone do not say what they are of: a line for each register.
  const Appraisal blind = judged(with_grub_config("two"), baseline);
  EXPECT_LE(failures_of(blind), 2u) << told(blind);
}

TEST(Baseline, an_announced_grub_configuration_is_taken_once_and_nothing_else_with_it) {
  const Baseline before = test_baseline(with_grub_config("one"));
  Baseline baseline = before;
  const PlannedChange change{
      .why = "update-grub", .expires = Micros(kNow.value + 1), .grub_config = true};
  const std::string id = *announce(baseline, change, kNow);
  EXPECT_EQ(*parse_baseline(sys::to_text(to_json(baseline))), baseline);
  const TestBoot updated_grub = with_grub_config("two");
  const Appraisal appraisal = judged_with_log(updated_grub, baseline);
  EXPECT_EQ(appraisal.verdict, Verdict::kHealthy) << told(appraisal);
  EXPECT_THAT(appraisal.planned_changes, ElementsAre(id));

  TestBoot boot = updated_grub;
  boot.parameters += " init=/bin/sh";
  EXPECT_TRUE(has_reason(judged_with_log(boot, baseline), "command_line_changed"));
  boot = updated_grub;
  boot.initrd = "initrd of somebody";
  EXPECT_EQ(judged_with_log(boot, baseline).verdict, Verdict::kUnhealthy);
  boot = updated_grub;
  boot.kernel.content = "MZ kernel of somebody";
  EXPECT_EQ(judged_with_log(boot, baseline).verdict, Verdict::kUnhealthy);
  boot = updated_grub;
  boot.second_command_line = "/boot/vmlinuz-6.1.0-43-amd64 single";
  EXPECT_EQ(judged_with_log(boot, baseline).verdict, Verdict::kUnhealthy);
  boot = updated_grub;
  boot.db.push_back("New CA");
  EXPECT_EQ(judged_with_log(boot, baseline).verdict, Verdict::kUnhealthy);
  // A command that nobody can read may be a kernel's command line.
  EXPECT_EQ(judged(updated_grub, baseline).verdict, Verdict::kUnhealthy);
  // Nor is a file known by its place where nobody vouches for the order.
  TestEvidence evidence(updated_grub);
  AppraisalInput input = evidence.by_log(kLinux, &baseline);
  input.context.now = kNow;
  EXPECT_EQ(appraise(input).verdict, Verdict::kUnhealthy);
}

TEST(Baseline, two_announced_changes_may_come_with_one_boot) {
  Baseline baseline = test_baseline(TestBoot{});
  ASSERT_TRUE(announce(baseline, kernel_update(), kNow).ok());
  PlannedChange quiet{.why = "no quiet", .expires = Micros(kNow.value + 1)};
  quiet.texts = {{.was = "ro quiet", .is = "ro"}};
  ASSERT_TRUE(announce(baseline, quiet, kNow).ok());
  TestBoot boot = updated();
  boot.parameters = "root=/dev/vda2 ro";
  Appraisal appraisal = judged(boot, baseline);
  EXPECT_EQ(appraisal.verdict, Verdict::kHealthy) << told(appraisal);
  EXPECT_EQ(appraisal.planned_changes.size(), 2u);
}

TEST(Baseline, any_number_of_announced_texts_may_meet_in_one_line) {
  TestBoot before;
  before.parameters = "a=old b=old c=old d=old e=old f=old";
  Baseline baseline = test_baseline(before);
  std::vector<std::string> ids;
  for (std::string_view name : {"a", "b", "c", "d", "e", "f"}) {
    PlannedChange change{.why = std::string(name), .expires = Micros(kNow.value + 1)};
    change.texts = {{.was = std::string(name) + "=old", .is = std::string(name) + "=new"}};
    ids.push_back(*announce(baseline, change, kNow));
  }
  TestBoot after;
  after.parameters = "a=new b=new c=new d=new e=new f=old";
  Appraisal appraisal = judged(after, baseline);
  EXPECT_EQ(appraisal.verdict, Verdict::kHealthy) << told(appraisal);
  ids.pop_back();
  EXPECT_THAT(appraisal.planned_changes, testing::UnorderedElementsAreArray(ids));
  after.parameters += " init=/bin/sh";
  EXPECT_EQ(judged(after, baseline).verdict, Verdict::kUnhealthy);
}

TEST(Baseline, only_the_announced_changes_that_came_are_consumed) {
  Baseline baseline = test_baseline(TestBoot{});
  std::vector<std::string> ids;
  for (auto [was, is] : {std::pair{"root=/dev/vda2", "root=/dev/vda3"},
                         {"ro quiet", "ro"},
                         {"vmlinuz-6.1.0-43", "vmlinuz-6.1.0-44"}}) {
    PlannedChange change{.why = is, .expires = Micros(kNow.value + 1)};
    change.texts = {{.was = was, .is = is}};
    ids.push_back(*announce(baseline, change, kNow));
  }
  // All three are of the same line: neither of the two shows alone.
  TestBoot boot;
  boot.parameters = "root=/dev/vda3 ro";
  Appraisal appraisal = judged(boot, baseline);
  EXPECT_EQ(appraisal.verdict, Verdict::kHealthy) << told(appraisal);
  EXPECT_THAT(appraisal.planned_changes, ElementsAre(ids[0], ids[1]));

  TestEvidence evidence(boot);
  auto measured = MeasuredBoot::from({.record = &evidence.record}, HashAlg::kSha256);
  Result<BaselineMatch> match = best_match(baseline, *measured, kLinux, {}, kNow);
  ASSERT_TRUE(consume(baseline, *match, learned(boot)).ok());
  ASSERT_EQ(baseline.planned.size(), 1u);
  EXPECT_EQ(baseline.planned[0].id, ids[2]);
  EXPECT_THAT(judged(boot, baseline).planned_changes, IsEmpty());
  boot.parameters += " init=/bin/sh";
  EXPECT_EQ(judged(boot, baseline).verdict, Verdict::kUnhealthy);
}

TEST(Baseline, windows_takes_new_programs_from_the_same_signers_only) {
  Policy windows = *built_in_policy("windows");
  Baseline baseline = test_baseline(TestBoot{});
  auto verdict = [&](const TestBoot& boot) {
    TestEvidence evidence(boot);
    return appraise(evidence.by_record(windows, &baseline)).verdict;
  };
  TestBoot newer;
  newer.grub.content = "MZ newer boot manager";
  EXPECT_EQ(verdict(newer), Verdict::kHealthy);
  newer.grub.signer = "Somebody else";
  EXPECT_EQ(verdict(newer), Verdict::kUnhealthy);
}

TEST(SequenceDiff, pairs_what_changed_and_keeps_what_stayed) {
  auto run = [](std::string_view was, std::string_view is) {
    auto spans = [](std::string_view text) {
      std::vector<ByteSpan> out;
      for (size_t i = 0; i < text.size(); ++i) out.push_back(as_bytes(text.substr(i, 1)));
      return out;
    };
    std::string text;
    for (const Alignment& at : differing(spans(was), spans(is))) {
      text += at.was ? was[*at.was] : '-';
      text += at.is ? is[*at.is] : '-';
      text += ' ';
    }
    return text;
  };
  EXPECT_EQ(run("abc", "abc"), "");
  EXPECT_EQ(run("abc", "axc"), "bx ");
  EXPECT_EQ(run("abc", "abxc"), "-x ");
  EXPECT_EQ(run("abc", "ac"), "b- ");
  EXPECT_EQ(run("", "ab"), "-a -b ");
  EXPECT_EQ(run("abcd", "xbcdy"), "ax -y ");
  EXPECT_EQ(run("aaa", "aa"), "a- ");
  std::string long_one(3000, 'a');
  EXPECT_EQ(run("x" + long_one + "y", "z" + long_one + "y"), "xz ");
}

}  // namespace
}  // namespace hf::attestation
