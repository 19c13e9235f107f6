#include "attestation/baseline/pcr7.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/boot/boot_facts.h"
#include "attestation/log/variable_data.h"
#include "attestation/testing/corpus.h"
#include "attestation/testing/test_boot.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::attestation {
namespace {

using testing::Contains;
using testing::HasSubstr;

KeyVariables measured_variables(const MeasuredBoot& boot) {
  KeyVariables variables;
  for (const auto& [name, content] : read_facts(boot).variables) {
    variables[name] = {content.begin(), content.end()};
  }
  return variables;
}

// What vouched for programs, as the log tells it.
std::vector<secure_boot::Authority> measured_authorities(const MeasuredBoot& boot) {
  std::vector<secure_boot::Authority> authorities;
  for (const Measurement* m : read_facts(boot).authority_measurements) {
    auto data = read_variable_data(m->covered);
    if (!data) continue;
    authorities.push_back({.variable = data->name,
                           .vendor = data->vendor,
                           .data = {data->content.begin(), data->content.end()},
                           .words = data->name});
  }
  return authorities;
}

struct RealBoot {
  explicit RealBoot(const std::string& name, HashAlg bank = HashAlg::kSha256)
      : corpus(corpus::boot(name)), log(EventLog::parse(corpus.log).value()) {
    boot = MeasuredBoot::from({.log = &log}, bank).value();
    value = corpus.pcrs.at(bank).at(7);
    variables = measured_variables(*boot);
    authorities = measured_authorities(*boot);
  }
  corpus::Boot corpus;
  EventLog log;
  std::optional<MeasuredBoot> boot;
  Bytes value;
  KeyVariables variables;
  std::vector<secure_boot::Authority> authorities;
};

TEST(Pcr7, is_recomputed_from_the_variables_of_every_real_boot) {
  size_t boots = 0;
  for (const corpus::Boot& each : corpus::own_boots()) {
    for (const auto& [bank, values] : each.pcrs) {
      if (bank == HashAlg::kSha1) continue;
      RealBoot real(each.name, bank);
      Result<Pcr7Prediction> same = predict_pcr7(
          {.previous = &*real.boot, .before = real.variables, .after = real.variables});
      ASSERT_TRUE(same.ok()) << each.name << same.error().cause;
      EXPECT_EQ(same->value, real.value) << each.name;
      EXPECT_TRUE(same->certain);
      EXPECT_TRUE(same->changes.empty());
      ++boots;
    }
  }
  EXPECT_GE(boots, 20u);
}

// Real boots before and after a change of keys.
TEST(Pcr7, the_next_real_boot_is_foretold) {
  RealBoot before("holdfast-shim-grub");
  ASSERT_EQ(before.authorities.size(), 2u) << "shim by db, GRUB and the kernel by shim";
  const std::vector<secure_boot::Authority> programs = {
      before.authorities[0], before.authorities[1], before.authorities[1]};
  struct Case {
    std::string name;
    std::vector<size_t> by;  // which of the later boot's authorities vouches for each program
    bool certain;
  };
  for (const Case& c :
       {Case{"holdfast-db-key", {0, 1, 2}, false}, Case{"holdfast-mok", {0, 1, 2}, false},
        Case{"holdfast-own-keys-shim", {0, 1, 1}, true}}) {
    RealBoot after(c.name);
    Pcr7Input input{.previous = &*before.boot,
                    .before = before.variables,
                    .after = after.variables,
                    .authorities_before = programs};
    for (size_t i : c.by) input.authorities_after.push_back(after.authorities.at(i));
    Result<Pcr7Prediction> prediction = predict_pcr7(input);
    ASSERT_TRUE(prediction.ok()) << c.name << ": " << prediction.error().cause;
    EXPECT_EQ(prediction->value, after.value) << c.name;
    EXPECT_EQ(prediction->certain, c.certain) << c.name;
    EXPECT_FALSE(prediction->changes.empty()) << c.name;
  }
}

struct MadeBoot {
  explicit MadeBoot(const TestBoot& boot)
      : evidence(boot),
        by_log(MeasuredBoot::from({.log = &*evidence.log}, HashAlg::kSha256).value()),
        by_record(MeasuredBoot::from({.record = &evidence.record, .variables = &evidence.variables},
                                     HashAlg::kSha256)
                      .value()) {}
  TestEvidence evidence;
  MeasuredBoot by_log;
  MeasuredBoot by_record;
};

TEST(Pcr7, a_roll_over_is_foretold_and_passes_as_announced) {
  TestBoot old_keys;
  TestBoot both = old_keys;
  both.db.push_back("Microsoft UEFI CA 2023");
  TestBoot new_only = both;
  new_only.db = {"Microsoft UEFI CA 2023"};
  new_only.shim.signer = "Microsoft UEFI CA 2023";  // Debian's shim is signed by both
  const std::vector<TestBoot> steps = {old_keys, both, new_only, old_keys};
  Policy linux_policy = *built_in_policy("linux");
  Baseline baseline = test_baseline(old_keys);
  for (size_t i = 0; i + 1 < steps.size(); ++i) {
    SCOPED_TRACE(i);
    MadeBoot from(steps[i]);
    MadeBoot to(steps[i + 1]);
    for (const MeasuredBoot* previous : {&from.by_log, &from.by_record}) {
      Pcr7Input input{.previous = previous,
                      .before = from.evidence.variables,
                      .after = to.evidence.variables,
                      .authorities_before = measured_authorities(from.by_log),
                      .authorities_after = measured_authorities(to.by_log)};
      Result<Pcr7Prediction> prediction = predict_pcr7(input);
      ASSERT_TRUE(prediction.ok()) << prediction.error().cause;
      EXPECT_EQ(prediction->value, *to.evidence.quote.find(HashAlg::kSha256, 7));
      EXPECT_TRUE(prediction->certain);
      if (previous == &from.by_log) continue;
      Micros now(2'000'000);
      ASSERT_TRUE(announce(baseline,
                           key_change(*prediction, input.after, "roll-over", Micros(3'000'000)),
                           now)
                      .ok());
      AppraisalInput judged = to.evidence.by_record(linux_policy, &baseline);
      Appraisal appraisal = appraise(judged);
      EXPECT_EQ(appraisal.verdict, Verdict::kHealthy) << told(appraisal);
      EXPECT_EQ(appraisal.planned_changes.size(), 1u);
      BaselineMatch match = best_match(baseline, to.by_record, linux_policy, {}, now).value();
      ASSERT_TRUE(consume(baseline, match, learn(to.by_record, {}, "", now).value()).ok());
      EXPECT_EQ(appraise(judged).verdict, Verdict::kHealthy);
    }
  }
}

// Nothing fails without the announcement, for dbx may grow. Yet it has come: the baseline has the
// new entry from then on, and its loss would be seen.
TEST(Pcr7, an_announced_growth_of_dbx_is_carried_out) {
  TestBoot before;
  TestBoot after = before;
  after.dbx.push_back("revoked 2");
  MadeBoot from(before);
  MadeBoot to(after);
  Policy policy = *built_in_policy("linux");
  Baseline baseline = test_baseline(before);
  Micros now(2'000'000);
  Pcr7Input input{.previous = &from.by_log,
                  .before = from.evidence.variables,
                  .after = to.evidence.variables,
                  .authorities_before = measured_authorities(from.by_log),
                  .authorities_after = measured_authorities(to.by_log)};
  PlannedChange change =
      key_change(*predict_pcr7(input), input.after, "a newer dbx", Micros(3'000'000));
  const std::string id = announce(baseline, change, now).value();
  EXPECT_TRUE(best_match(baseline, from.by_record, policy, {}, now)->planned.empty())
      << "the old keys still boot";
  BaselineMatch match = best_match(baseline, to.by_record, policy, {}, now).value();
  EXPECT_EQ(match.planned, std::vector<std::string>{id});
  EXPECT_TRUE(match.differences.empty());
  ASSERT_TRUE(consume(baseline, match, learn(to.by_record, {}, "", now).value()).ok());
  EXPECT_TRUE(baseline.planned.empty());
  EXPECT_EQ(appraise(from.evidence.by_record(policy, &baseline)).verdict, Verdict::kUnhealthy)
      << "dbx went back";
}

TEST(Pcr7, refuses_to_foretell_a_vm_that_does_not_start) {
  MadeBoot from(TestBoot{});
  TestBoot without;
  without.db = {"Microsoft Windows Production PCA 2011"};
  Pcr7Input input{
      .previous = &from.by_log, .before = from.evidence.variables, .after = without.variables()};
  Result<Pcr7Prediction> unknown = predict_pcr7(input);
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, ErrorCode::kConflict);
  EXPECT_THAT(unknown.error().cause, HasSubstr("Microsoft Corporation UEFI CA 2011"));
  EXPECT_FALSE(unknown.error().mend.empty());
  input.authorities_before = measured_authorities(from.by_log);
  input.authorities_after = {input.authorities_before.at(1)};
  EXPECT_THAT(predict_pcr7(input).error().effect, HasSubstr("would not start"));
}

TEST(Pcr7, says_when_a_guess_is_one) {
  MadeBoot from(TestBoot{});
  TestBoot more;
  more.db.push_back("Another CA");
  Pcr7Input input{
      .previous = &from.by_record, .before = from.evidence.variables, .after = more.variables()};
  Result<Pcr7Prediction> prediction = predict_pcr7(input);
  ASSERT_TRUE(prediction.ok());
  EXPECT_FALSE(prediction->certain) << "the new entry might vouch for something";
  EXPECT_THAT(prediction->changes, Contains(HasSubstr("\"Another CA\"")));
  input.after = from.evidence.variables;
  input.after["dbx"].clear();
  EXPECT_TRUE(predict_pcr7(input)->certain);

  // The store was changed since that boot: what the boot measured is not known.
  MadeBoot other(more);
  auto unread = MeasuredBoot::from(
      {.record = &from.evidence.record, .variables = &other.evidence.variables}, HashAlg::kSha256);
  input = {
      .previous = &*unread, .before = other.evidence.variables, .after = from.evidence.variables};
  EXPECT_EQ(predict_pcr7(input).error().code, ErrorCode::kNotFound);
}

// Firmware and shim each measure an entry once, and who measured the two is not known here.
TEST(Pcr7, two_entries_that_become_one_are_a_guess) {
  RealBoot real("holdfast-shim-grub");
  ASSERT_EQ(real.authorities.size(), 2u);
  RealBoot other("holdfast-own-keys-shim");
  Pcr7Input input{.previous = &*real.boot,
                  .before = real.variables,
                  .after = real.variables,
                  .authorities_before = real.authorities,
                  .authorities_after = {other.authorities[0], other.authorities[0]}};
  Result<Pcr7Prediction> prediction = predict_pcr7(input);
  ASSERT_TRUE(prediction.ok()) << prediction.error().cause;
  EXPECT_FALSE(prediction->certain);
  input.authorities_after = real.authorities;
  EXPECT_TRUE(predict_pcr7(input)->certain);
}

TEST(Pcr7, without_a_platform_key_secure_boot_is_off) {
  MadeBoot from(TestBoot{});
  Pcr7Input input{
      .previous = &from.by_record, .before = from.evidence.variables, .after = {{"PK", Bytes()}}};
  Result<Pcr7Prediction> prediction = predict_pcr7(input);
  ASSERT_TRUE(prediction.ok());
  EXPECT_EQ(prediction->entries.at(0).what, "Secure Boot off");
}

}  // namespace
}  // namespace hf::attestation
