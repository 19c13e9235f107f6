#include "vm/admission.h"

#include <gtest/gtest.h>

#include <functional>

namespace hf::vm {
namespace {

VmId some_vm() {
  VmId vm;
  vm.bytes[0] = std::byte{5};
  return vm;
}

Definition as_created() {
  return {.name = "vm1",
          .cpus = 2,
          .memory_mib = 256,
          .machine_type = "pc-q35-7.2",
          .disks = {{.id = 1, .name = "disk1", .size_bytes = kDiskBytesMin},
                    {.id = 2, .name = "disk2", .size_bytes = kDiskBytesMin}},
          .nics = {{.name = "nic1", .mac = nic_mac(some_vm(), 0), .network = Network::kUser}},
          .firmware = {.code = "/c", .vars_template = "/v", .build = Digest()}};
}

TEST(Admission, what_a_create_makes_is_admitted) {
  EXPECT_TRUE(check_new_definition(some_vm(), as_created()).ok());
}

// Each of them is a definition that can be decoded.
TEST(Admission, what_no_create_makes_is_refused_with_all_three_parts) {
  std::vector<std::pair<const char*, std::function<void(Definition&)>>> changes{
      {"a name like an id", [](Definition& d) { d.name = std::string(32, 'a'); }},
      {"less memory than a create gives", [](Definition& d) { d.memory_mib = kMemoryMibMin; }},
      {"no disk", [](Definition& d) { d.disks.clear(); }},
      {"a disk of another name", [](Definition& d) { d.disks[1].name = "data"; }},
      {"a disk of another id", [](Definition& d) { d.disks[1].id = 7; }},
      {"a NIC of another name", [](Definition& d) { d.nics[0].name = "eth0"; }},
      {"another VM's address", [](Definition& d) { d.nics[0].mac = nic_mac(VmId(), 0); }},
  };
  for (const auto& [what, change] : changes) {
    Definition definition = as_created();
    change(definition);
    ASSERT_TRUE(parse_definition(to_json(definition)).ok()) << what;
    Status admitted = check_new_definition(some_vm(), definition);
    ASSERT_FALSE(admitted.ok()) << what;
    EXPECT_EQ(admitted.error().code, ErrorCode::kInvalidArgument) << what;
    EXPECT_FALSE(admitted.error().effect.empty() || admitted.error().mend.empty()) << what;
  }
}

}  // namespace
}  // namespace hf::vm
