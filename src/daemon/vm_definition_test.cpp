#include "daemon/vm_definition.h"

#include <gtest/gtest.h>

namespace hf::daemon {
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

TEST(Definition, survives_json) {
  VmDefinition definition{.name = "vm1",
                          .trusted_launch = true,
                          .secure_boot = true,
                          .vtpm = false,
                          .cpus = 2,
                          .memory_mib = 2048,
                          .machine_type = "pc-q35-7.2",
                          .disks = {{.id = 1, .name = "disk1", .size_bytes = 4096}},
                          .nics = {{.name = "nic1", .mac = "02:00:00:00:00:01", .network = "user"}},
                          .firmware = {.code = "/c", .vars_template = "/v", .build = "00"}};
  Result<VmDefinition> again = parse_definition(sys::to_text(to_json(definition)));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(sys::to_text(to_json(*again)), sys::to_text(to_json(definition)));
}

TEST(Definition, a_vm_made_before_guest_agents_were_known_keeps_its_devices) {
  EXPECT_TRUE(parse(R"({"name":"a","disks":[{"size_bytes":1048576}]})")->definition.guest_agent);
  VmDefinition definition{.name = "vm1", .guest_agent = true};
  sys::JsonObject json = to_json(definition);
  EXPECT_TRUE(parse_definition(json)->guest_agent);
  json.erase("guest_agent");
  EXPECT_FALSE(parse_definition(json)->guest_agent);
}

TEST(Nic, address_follows_from_vm_and_place_alone) {
  VmId vm;
  vm.bytes[3] = std::byte{7};
  EXPECT_EQ(nic_mac(vm, 0), nic_mac(vm, 0));
  EXPECT_NE(nic_mac(vm, 0), nic_mac(vm, 1));
  EXPECT_NE(nic_mac(vm, 0), nic_mac(VmId(), 0));
  EXPECT_EQ(nic_mac(vm, 0).substr(0, 3), "02:");
  EXPECT_EQ(nic_mac(vm, 0).size(), 17U);
}

}  // namespace
}  // namespace hf::daemon
