#include "vm/definition.h"

#include <gtest/gtest.h>

#include <functional>

#include "vm/instance.h"

namespace hf::vm {
namespace {

Definition whole() {
  return {.name = "vm1",
          .vtpm = false,
          .cpus = 2,
          .memory_mib = 2048,
          .machine_type = "pc-q35-7.2",
          .disks = {{.id = 1, .name = "disk1", .size_bytes = kDiskBytesMin},
                    {.id = 2, .name = "disk2", .size_bytes = kDiskBytesMin}},
          .nics = {{.name = "nic1", .mac = "02:00:00:00:00:01", .network = Network::kUser}},
          .firmware = {.code = "/c", .vars_template = "/v", .build = Digest()}};
}

TEST(Definition, survives_json) {
  Result<Definition> again = parse_definition(sys::to_text(to_json(whole())));
  ASSERT_TRUE(again.ok()) << again.error().describe();
  EXPECT_EQ(sys::to_text(to_json(*again)), sys::to_text(to_json(whole())));
  EXPECT_EQ(again->nics[0].network, Network::kUser);
}

TEST(Definition, a_vm_made_before_guest_agents_were_known_keeps_its_devices) {
  Definition definition = whole();
  definition.guest_agent = true;
  sys::JsonObject json = to_json(definition);
  EXPECT_TRUE(parse_definition(json)->guest_agent);
  json.erase("guest_agent");
  EXPECT_FALSE(parse_definition(json)->guest_agent);
}

TEST(Definition, carries_the_banks_of_its_vtpm) {
  Definition definition = whole();
  EXPECT_TRUE(pcr_banks(definition).empty()) << "it has no vTPM";
  definition.vtpm = true;
  EXPECT_EQ(pcr_banks(definition), std::vector{PcrBank::kSha256});
  EXPECT_FALSE(to_json(definition).contains("pcr_banks")) << "older sites do not know of it";
  definition.pcr_banks = {PcrBank::kSha256, PcrBank::kSha384};
  EXPECT_EQ(parse_definition(to_json(definition))->pcr_banks, definition.pcr_banks);
}

TEST(Definition, what_a_peer_or_a_taken_over_daemon_might_say_is_refused) {
  std::vector<std::pair<const char*, std::function<void(Definition&)>>> changes{
      {"a name with a comma", [](Definition& d) { d.name = "a,plugin=x"; }},
      {"no name", [](Definition& d) { d.name.clear(); }},
      {"PCR banks without a vTPM", [](Definition& d) { d.pcr_banks = {PcrBank::kSha256}; }},
      {"PCR banks without sha256",
       [](Definition& d) {
         d.vtpm = true;
         d.pcr_banks = {PcrBank::kSha384};
       }},
      {"a PCR bank twice",
       [](Definition& d) {
         d.vtpm = true;
         d.pcr_banks = {PcrBank::kSha256, PcrBank::kSha256};
       }},
      {"no CPU", [](Definition& d) { d.cpus = 0; }},
      {"too many CPUs", [](Definition& d) { d.cpus = 256; }},
      {"no memory", [](Definition& d) { d.memory_mib = 0; }},
      {"endless memory", [](Definition& d) { d.memory_mib = uint64_t{1} << 61; }},
      {"a disk with a path for a name", [](Definition& d) { d.disks[0].name = "../x"; }},
      {"a disk named as the variables", [](Definition& d) { d.disks[0].name = "vars"; }},
      {"two disks of one name", [](Definition& d) { d.disks[1].name = "disk1"; }},
      {"two disks of one id", [](Definition& d) { d.disks[1].id = 1; }},
      {"the guest state as a disk", [](Definition& d) { d.disks[0].id = 0; }},
      {"a disk without end", [](Definition& d) { d.disks[0].size_bytes = uint64_t{1} << 60; }},
      {"a crooked disk", [](Definition& d) { d.disks[0].size_bytes += 512; }},
      {"a MAC with more", [](Definition& d) { d.nics[0].mac = "02:00:00:00:00:01,x"; }},
      {"a MAC that is none", [](Definition& d) { d.nics[0].mac = "02:00:00:00:00-01"; }},
      {"a multicast MAC", [](Definition& d) { d.nics[0].mac = "01:00:00:00:00:01"; }},
      {"17 disks", [](Definition& d) { d.disks.resize(17, d.disks[0]); }},
      {"9 NICs", [](Definition& d) { d.nics.resize(9, d.nics[0]); }},
      {"a Standard VM with Secure Boot",
       [](Definition& d) { d.security_type = SecurityType::kStandard; }},
      {"a terminal's escape in a path", [](Definition& d) { d.firmware.code = "/c\x1b]0;x"; }},
  };
  for (const auto& [what, change] : changes) {
    Definition definition = whole();
    change(definition);
    Result<Definition> parsed = parse_definition(to_json(definition));
    EXPECT_FALSE(parsed.ok()) << what;
  }
  sys::JsonObject unknown = to_json(whole());
  unknown["argv"] = "-plugin";
  EXPECT_FALSE(parse_definition(unknown).ok());
  sys::JsonObject network = to_json(whole());
  network["nics"].as_array()[0].as_object()["network"] = "bridge";
  EXPECT_FALSE(parse_definition(network).ok());
  sys::JsonObject later = to_json(whole());
  later["version"] = 2;
  EXPECT_EQ(parse_definition(later).error().code, ErrorCode::kUnsupported);
}

TEST(Definition, a_name_like_an_id_stays_where_it_is_and_is_not_given_anew) {
  const std::string name = "00112233445566778899aabbccddeeff";
  Definition definition = whole();
  definition.name = name;
  EXPECT_TRUE(parse_definition(to_json(definition)).ok());
  EXPECT_FALSE(check_new_vm_name(name).ok());
  EXPECT_TRUE(check_new_vm_name(name.substr(1)).ok());
  EXPECT_TRUE(check_new_vm_name("g" + name.substr(1)).ok());
}

TEST(Instance, production_has_no_id_and_the_others_have_one) {
  VmId vm;
  vm.bytes[0] = std::byte{1};
  Instance production = Instance::production(vm);
  EXPECT_TRUE(json_check(production).ok());
  EXPECT_EQ(instance_name(production), vm.hex());
  Instance drill{.vm = vm, .id = {}, .kind = InstanceKind::kDrill};
  EXPECT_FALSE(json_check(drill).ok());
  drill.id.bytes[0] = std::byte{2};
  auto back = sys::decode_json<Instance>(sys::encode_json(drill));
  ASSERT_TRUE(back.ok()) << back.error().describe();
  EXPECT_EQ(*back, drill);
  EXPECT_EQ(instance_name(drill), vm.hex() + "-drill-" + drill.id.hex());
  production.id = drill.id;
  EXPECT_FALSE(json_check(production).ok());
  EXPECT_FALSE(json_check(Instance::production(VmId())).ok());
}

TEST(Name, has_letters_of_both_cases_digits_and_three_signs) {
  for (const char* good : {"a", "db1", "DB1", "Web.north_2", "9-lives", "a..b"}) {
    EXPECT_TRUE(check_vm_name(good).ok()) << good;
  }
  EXPECT_TRUE(check_vm_name(std::string(63, 'A')).ok());
  // A first sign would be an option, a directory's own name or a hidden file's somewhere.
  for (const char* bad :
       {"", "-a", ".", "..", ".a", "_a", "a b", "a/b", "a,b", "a:b", "\xc3\xa4"}) {
    EXPECT_FALSE(check_vm_name(bad).ok()) << bad;
  }
  const Status odd = check_vm_name("a\x1b]0;x");
  ASSERT_FALSE(odd.ok());
  EXPECT_FALSE(odd.error().cause.contains('\x1b')) << odd.error().cause;
  EXPECT_FALSE(check_vm_name(std::string(64, 'a')).ok());
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
}  // namespace hf::vm
