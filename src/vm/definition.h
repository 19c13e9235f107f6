// What a VM is, apart from its contents: kept as JSON in the catalog, sent to a peer with an offer
// and to the launcher with a start. Whoever decodes checks it again.
//
//   {"version":1,"name","security_type":"TrustedLaunch"|"Standard","secure_boot":bool,"vtpm":bool,
//    "cpus":n,"memory_mib":n,"machine_type":"pc-q35-7.2",
//    "disks":[{"id":1,"name":"disk1","size_bytes":n}],
//    "nics":[{"name":"nic1","mac":"02:…","network":"user"|"none"}],
//    "firmware":{"code":path,"vars_template":path,"build":hex},"guest_agent":bool,
//    "pcr_banks":["sha1"|"sha256"|"sha384"|"sha512"]}
//
// Firmware build and machine type are fixed at creation: another build measures another PCR 0, and
// a disk sealed to it would stay locked. The firmware's paths are those of the site that holds the
// definition; a start looks for the build.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "sys/typed_json.h"

namespace hf::vm {

inline constexpr size_t kDisksMax = 16;
inline constexpr size_t kNicsMax = 8;
inline constexpr uint32_t kDiskIdMax = 1000;
inline constexpr uint32_t kCpusMax = 255;
inline constexpr uint64_t kMemoryMibMin = 64;
inline constexpr uint64_t kMemoryMibMax = uint64_t{4} << 20;
inline constexpr uint64_t kDiskBytesMin = uint64_t{1} << 20;
inline constexpr uint64_t kDiskBytesMax = uint64_t{1} << 46;

enum class SecurityType { kTrustedLaunch, kStandard };
constexpr auto json_words(sys::JsonOf<SecurityType>) {
  return std::array{sys::JsonWord{"TrustedLaunch", SecurityType::kTrustedLaunch},
                    sys::JsonWord{"Standard", SecurityType::kStandard}};
}

enum class Network {
  kNone,  // the device is there, its cable is not
  kUser,  // NAT by QEMU
};
constexpr auto json_words(sys::JsonOf<Network>) {
  return std::array{sys::JsonWord{"none", Network::kNone}, sys::JsonWord{"user", Network::kUser}};
}

// What the vTPM's registers are kept in; the numbers are TPM_ALG_IDs.
enum class PcrBank : uint16_t { kSha1 = 0x4, kSha256 = 0xB, kSha384 = 0xC, kSha512 = 0xD };
constexpr auto json_words(sys::JsonOf<PcrBank>) {
  return std::array{
      sys::JsonWord{"sha1", PcrBank::kSha1}, sys::JsonWord{"sha256", PcrBank::kSha256},
      sys::JsonWord{"sha384", PcrBank::kSha384}, sys::JsonWord{"sha512", PcrBank::kSha512}};
}

struct Disk {
  uint32_t id = 0;   // the journal's volume; from 1, each higher than the one before
  std::string name;  // "disk1": node, serial and socket; [a-z0-9-]
  uint64_t size_bytes = 0;
};
constexpr auto json_members(sys::JsonOf<Disk>) {
  return std::tuple(
      sys::json_member("id", &Disk::id, {.min = 1, .max = kDiskIdMax}),
      sys::json_member("name", &Disk::name, {.length_min = 1, .length_max = 20}),
      sys::json_member("size_bytes", &Disk::size_bytes,
                       {.min = static_cast<int64_t>(kDiskBytesMin), .max = kDiskBytesMax}));
}

struct Nic {
  std::string name;
  std::string mac;  // "02:00:00:12:34:56"
  Network network = Network::kNone;
};
constexpr auto json_members(sys::JsonOf<Nic>) {
  return std::tuple(sys::json_member("name", &Nic::name, {.length_min = 1, .length_max = 20}),
                    sys::json_member("mac", &Nic::mac, {.length_min = 17, .length_max = 17}),
                    sys::json_member("network", &Nic::network));
}

struct Firmware {
  std::string code;           // absolute path, where the VM was made
  std::string vars_template;  // likewise
  Digest build;               // SHA-256 of the code file
};
constexpr auto json_members(sys::JsonOf<Firmware>) {
  return std::tuple(
      sys::json_member("code", &Firmware::code, {.length_min = 1, .length_max = 1024}),
      sys::json_member("vars_template", &Firmware::vars_template,
                       {.length_min = 1, .length_max = 1024}),
      sys::json_member("build", &Firmware::build));
}

struct Definition {
  uint32_t version = 1;
  std::string name;
  SecurityType security_type = SecurityType::kTrustedLaunch;
  bool secure_boot = true;
  bool vtpm = true;
  uint32_t cpus = 1;
  uint64_t memory_mib = 1024;
  std::string machine_type;
  std::vector<Disk> disks;  // boot order
  std::vector<Nic> nics;
  Firmware firmware;
  // A port for qemu-guest-agent. A VM keeps what it was made with: those made before this was
  // known have none.
  bool guest_agent = false;
  // As the vTPM was manufactured; absent: SHA-256 alone. It is always among them, since it is what
  // attestation quotes. The firmware may allocate others later.
  std::optional<std::vector<PcrBank>> pcr_banks = std::nullopt;
};
constexpr auto json_members(sys::JsonOf<Definition>) {
  return std::tuple(
      sys::json_member("version", &Definition::version, {.min = 1, .max = 1}),
      sys::json_member("name", &Definition::name, {.length_min = 1, .length_max = 63}),
      sys::json_member("security_type", &Definition::security_type),
      sys::json_member("secure_boot", &Definition::secure_boot),
      sys::json_member("vtpm", &Definition::vtpm),
      sys::json_member("cpus", &Definition::cpus, {.min = 1, .max = kCpusMax}),
      sys::json_member("memory_mib", &Definition::memory_mib,
                       {.min = static_cast<int64_t>(kMemoryMibMin), .max = kMemoryMibMax}),
      sys::json_member("machine_type", &Definition::machine_type, {.length_max = 32}),
      sys::json_member("disks", &Definition::disks, {.items_max = kDisksMax}),
      sys::json_member("nics", &Definition::nics, {.items_max = kNicsMax}),
      sys::json_member("firmware", &Definition::firmware),
      sys::json_member_or_default("guest_agent", &Definition::guest_agent),
      sys::json_member("pcr_banks", &Definition::pcr_banks, {.items_max = 4}));
}
// Names of VM and disks, ids in order, MAC addresses, what goes with the security type.
Status json_check(const Definition& definition);

std::string_view security_type(const Definition& definition);  // "TrustedLaunch" or "Standard"
std::vector<PcrBank> pcr_banks(const Definition& definition);  // none without a vTPM
// kInvalidArgument: one twice, or no SHA-256 among them.
Status check_pcr_banks(const std::vector<PcrBank>& banks);
sys::JsonObject to_json(const Definition& definition);
// kUnsupported for another version; kInvalidArgument or kLimit name the member.
Result<Definition> parse_definition(const sys::JsonObject& json);
Result<Definition> parse_definition(std::string_view text);

// [A-Za-z0-9] then [A-Za-z0-9._-], at most 63: fits a word of QEMU's, a path's segment, a DNS
// label's length.
Status check_vm_name(std::string_view name);
// Of a VM that is new to a site. One of 32 hex digits could be taken for another VM's id; those
// that are there keep it.
Status check_new_vm_name(std::string_view name);
// A locally administered address that follows from VM and place alone: the same at every site.
std::string nic_mac(VmId vm, size_t index);

}  // namespace hf::vm
