#include "attestation/policy/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hf::attestation {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr std::string_view kEverything = R"({
  "version": 1, "name": "web", "description": "front ends", "extends": "linux",
  "banks": ["sha384", "sha256"], "baseline": "optional",
  "evidence": {"quote": "required", "event_log": "required", "attestation_key": "certified"},
  "pcrs": {"4": {"values": ["sha256:0000000000000000000000000000000000000000000000000000000000000001"]},
           "9": "note", "5": "ignore", "11": "signed"},
  "secure_boot": {
    "state": "required",
    "keys": {"db": [{"subject": "Microsoft*"}]},
    "signers": [{"subject": "Debian*"},
                {"sha256": "aa00000000000000000000000000000000000000000000000000000000000000"}],
    "refused_signers": [{"subject": "*2011"}], "test_signers": "allow",
    "mok": [{"subject": "My key"}],
    "dbx": {"growth": "refuse", "entries_min": 371, "contains": ["0102"]},
    "sbat_level": {"grub": 3}},
  "kernel_command_line": {"contains": ["ro"], "excludes": ["init=/bin/sh"], "equals": ["a"],
                          "starts_with": ["/boot/"], "like": ["*quiet*"]},
  "debugging": "allow"})";

std::string error_of(std::string_view json) {
  Result<Policy> policy = parse_policy(json);
  return policy.ok() ? "" : policy.error().cause;
}

TEST(Policy, reads_every_member) {
  Result<Policy> policy = parse_policy(kEverything);
  ASSERT_TRUE(policy.ok()) << policy.error().cause;
  EXPECT_EQ(policy->banks.front(), HashAlg::kSha384);
  EXPECT_EQ(policy->baseline, Need::kOptional);
  EXPECT_EQ(policy->quote, Need::kRequired);
  EXPECT_EQ(policy->event_log, Need::kRequired);
  EXPECT_EQ(policy->attestation_key, KeyNeed::kCertified);
  EXPECT_EQ(policy->pcrs[4].rule, PcrRule::kValues);
  EXPECT_EQ(policy->pcrs[4].values.at(0).bytes.at(31), std::byte{1});
  EXPECT_EQ(policy->pcrs[9].rule, PcrRule::kNote);
  EXPECT_EQ(policy->pcrs[5].rule, PcrRule::kIgnore);
  EXPECT_EQ(policy->pcrs[11].rule, PcrRule::kSigned);
  EXPECT_EQ(policy->pcrs[7].rule, PcrRule::kBaseline) << "from linux";
  EXPECT_EQ(policy->keys.at("db").size(), 1u);
  EXPECT_EQ(policy->signers.size(), 2u);
  EXPECT_EQ(policy->refused_signers.at(0).subject, "*2011");
  EXPECT_EQ(policy->test_signers, Allow::kAllow);
  EXPECT_EQ(policy->mok, MokRule::kListed);
  EXPECT_EQ(policy->dbx_growth, Allow::kRefuse);
  EXPECT_EQ(policy->dbx_entries_min, 371u);
  EXPECT_EQ(policy->sbat_level.at("grub"), 3u);
  EXPECT_EQ(policy->kernel_command_line.like.at(0), "*quiet*");
  EXPECT_EQ(policy->debugging, Allow::kAllow);
}

TEST(Policy, keeps_its_meaning_through_its_own_text) {
  for (std::string_view name : {"linux", "windows", "none"}) {
    Policy policy = *built_in_policy(name);
    EXPECT_EQ(*parse_policy(sys::to_text(to_json(policy))), policy) << name;
  }
  Policy policy = *parse_policy(kEverything);
  Result<Policy> again = parse_policy(sys::to_text(to_json(policy)));
  ASSERT_TRUE(again.ok()) << again.error().cause;
  EXPECT_EQ(*again, policy);
  EXPECT_EQ(policy_id(*again), policy_id(policy));
  EXPECT_THAT(policy_id(policy), StartsWith("web:"));
  EXPECT_NE(policy_id(*built_in_policy("linux")), policy_id(policy));
}

TEST(Policy, refuses_unknown_members_everywhere) {
  EXPECT_THAT(error_of(R"({"version":1,"name":"x","extends":"linux","secureboot":{}})"),
              HasSubstr("\"secureboot\" is not known"));
  EXPECT_THAT(error_of(R"({"version":1,"name":"x","extends":"linux","secure_boot":{"on":true}})"),
              HasSubstr("\"on\" is not known"));
  EXPECT_THAT(error_of(R"({"version":1,"name":"x","extends":"linux",
                           "kernel_command_line":{"regex":["a"]}})"),
              HasSubstr("\"regex\" is not known"));
  EXPECT_THAT(error_of(R"({"version":1,"name":"x","extends":"linux",
                           "secure_boot":{"signers":[{"fingerprint":"aa"}]}})"),
              HasSubstr("\"fingerprint\" is not known"));
}

TEST(Policy, says_what_is_wrong) {
  EXPECT_THAT(error_of(R"({"version":2,"name":"x","extends":"linux"})"), HasSubstr("version 2"));
  EXPECT_THAT(error_of(R"({"version":1,"name":"x"})"), HasSubstr("\"extends\" is missing"));
  EXPECT_THAT(error_of(R"({"version":1,"name":"x","extends":"bsd"})"), HasSubstr("linux, windows"));
  EXPECT_THAT(error_of(R"({"version":1,"name":"x","extends":"linux","pcrs":{"24":"note"}})"),
              HasSubstr("\"24\""));
  EXPECT_THAT(error_of(R"({"version":1,"name":"x","extends":"linux","pcrs":{"4":"strict"}})"),
              HasSubstr("\"baseline\""));
  EXPECT_THAT(error_of(R"({"version":1,"name":"x","extends":"linux",
                           "pcrs":{"4":{"values":["sha256:00"]}}})"),
              HasSubstr("length"));
  EXPECT_THAT(error_of(R"({"version":1,"name":"x","extends":"linux","debugging":"yes"})"),
              HasSubstr("\"allow\", \"refuse\""));
  EXPECT_THAT(error_of(R"({"version":1,"name":"x","extends":"linux","banks":["sha256","sha256"]})"),
              HasSubstr("twice"));
  EXPECT_THAT(error_of("{"), StartsWith("appraisal policy"));
}

TEST(Policy, an_empty_list_of_requirements_cannot_come_from_a_forgotten_line) {
  // Without "extends" the file is refused; with "none" it says so itself.
  EXPECT_TRUE(parse_policy(R"({"version":1,"name":"x","extends":"none"})").ok());
  EXPECT_FALSE(built_in_policy("none")->compares_with_baseline());
  EXPECT_TRUE(built_in_policy("linux")->compares_with_baseline());
}

TEST(TextRules, compare_whole_words) {
  std::string_view line = "/vmlinuz root=/dev/vda1 ro quiet";
  EXPECT_EQ(broken_rule({.contains = {"ro", "quiet"}}, line), "");
  EXPECT_EQ(broken_rule({.contains = {"root=/dev/vda1 ro"}}, line), "");
  EXPECT_THAT(broken_rule({.contains = {"root"}}, line), HasSubstr("lacks \"root\""));
  EXPECT_THAT(broken_rule({.excludes = {"quiet"}}, line), HasSubstr("has \"quiet\""));
  EXPECT_EQ(broken_rule({.excludes = {"qui"}}, line), "");
  EXPECT_THAT(broken_rule({.equals = {"a", "b"}}, line), HasSubstr("or another"));
  EXPECT_EQ(broken_rule({.starts_with = {"/vmlinuz"}}, line), "");
  EXPECT_THAT(broken_rule({.like = {"*debug*"}}, line), HasSubstr("not like"));
}

TEST(Glob, matches_runs_and_single_characters) {
  EXPECT_TRUE(glob_match("Microsoft*UEFI CA 20??", "Microsoft Corporation UEFI CA 2011"));
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("microsoft", "Microsoft"));
  EXPECT_FALSE(glob_match("?", ""));
  EXPECT_FALSE(glob_match("a*b", "acb "));
  // Many stars over a long text end soon.
  EXPECT_FALSE(glob_match("*a*a*a*a*a*a*a*a*b", std::string(10000, 'a')));
}

}  // namespace
}  // namespace hf::attestation
