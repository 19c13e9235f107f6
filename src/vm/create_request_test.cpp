#include "vm/create_request.h"

#include <gtest/gtest.h>

namespace hf::vm {
namespace {

Result<CreateRequest> parse(std::string_view text) {
  return parse_create_request(*sys::parse_json_object(text));
}

TEST(CreateRequest, trusted_launch_has_both_parts_unless_switched_off) {
  Result<CreateRequest> both = parse(R"({"name":"a","disks":[{"size_bytes":1048576}]})");
  ASSERT_TRUE(both.ok());
  EXPECT_TRUE(both->definition.secure_boot && both->definition.vtpm);
  Result<CreateRequest> one =
      parse(R"({"name":"a","secure_boot":false,"disks":[{"size_bytes":1048576}]})");
  ASSERT_TRUE(one.ok());
  EXPECT_FALSE(one->definition.secure_boot);
  EXPECT_TRUE(one->definition.vtpm);
  EXPECT_EQ(security_type(one->definition), "TrustedLaunch");
}

TEST(CreateRequest, standard_has_neither_and_contradictions_are_refused) {
  Result<CreateRequest> standard =
      parse(R"({"name":"a","security_type":"Standard","disks":[{"size_bytes":1048576}]})");
  ASSERT_TRUE(standard.ok());
  EXPECT_FALSE(standard->definition.secure_boot || standard->definition.vtpm);
  EXPECT_FALSE(
      parse(
          R"({"name":"a","security_type":"Standard","vtpm":true,"disks":[{"size_bytes":1048576}]})")
          .ok());
  EXPECT_FALSE(
      parse(R"({"name":"a","security_type":"trusted","disks":[{"size_bytes":1048576}]})").ok());
}

TEST(CreateRequest, refusals_have_all_three_parts) {
  for (std::string_view text : {
           R"({"name":"A b","disks":[{"size_bytes":1048576}]})",
           R"({"name":"-a","disks":[{"size_bytes":1048576}]})",
           R"({"name":"","disks":[{"size_bytes":1048576}]})",
           R"({"name":"00112233445566778899aabbccddeeff","disks":[{"size_bytes":1048576}]})",
           R"({"name":"a","disks":[]})",
           R"({"name":"a","disks":[{"size_bytes":100}]})",
           R"({"name":"a","disks":[{"image":"relative.raw"}]})",
           R"({"name":"a","cpus":0,"disks":[{"size_bytes":1048576}]})",
           R"({"name":"a","memory_mib":1,"disks":[{"size_bytes":1048576}]})",
           R"({"name":"a","nics":["bridge"],"disks":[{"size_bytes":1048576}]})",
       }) {
    Result<CreateRequest> request = parse(text);
    ASSERT_FALSE(request.ok()) << text;
    EXPECT_FALSE(request.error().cause.empty()) << text;
    EXPECT_FALSE(request.error().effect.empty()) << text;
    EXPECT_FALSE(request.error().mend.empty()) << text;
  }
}

TEST(CreateRequest, pcr_banks_are_a_choice_and_sha256_is_always_among_them) {
  const auto with = [](std::string_view more) {
    return parse(R"({"name":"a","disks":[{"size_bytes":1048576}],)" + std::string(more) + "}");
  };
  EXPECT_FALSE(parse(R"({"name":"a","disks":[{"size_bytes":1048576}]})")->definition.pcr_banks);
  EXPECT_FALSE(with(R"("pcr_banks":["sha256"])")->definition.pcr_banks) << "as older sites say it";
  const Result<CreateRequest> two = with(R"("pcr_banks":["sha384","sha256"])");
  ASSERT_TRUE(two.ok()) << two.error().describe();
  EXPECT_EQ(pcr_banks(two->definition), (std::vector{PcrBank::kSha384, PcrBank::kSha256}));
  for (std::string_view wrong :
       {R"("pcr_banks":["sha384"])", R"("pcr_banks":["sha256","sha256"])", R"("pcr_banks":[])",
        R"("pcr_banks":["md5","sha256"])", R"("vtpm":false,"pcr_banks":["sha256"])"}) {
    const Result<CreateRequest> refused = with(wrong);
    ASSERT_FALSE(refused.ok()) << wrong;
    EXPECT_FALSE(refused.error().effect.empty() || refused.error().mend.empty()) << wrong;
  }
}

TEST(CreateRequest, new_vms_have_a_port_for_a_guest_agent) {
  EXPECT_TRUE(parse(R"({"name":"a","disks":[{"size_bytes":1048576}]})")->definition.guest_agent);
}

}  // namespace
}  // namespace hf::vm
