// What a VM is, apart from its contents: kept as JSON in the catalog, sent to a peer with an offer.
//
//   {"version":1,"name","security_type":"TrustedLaunch"|"Standard","secure_boot":bool,"vtpm":bool,
//    "cpus":n,"memory_mib":n,"machine_type":"pc-q35-7.2",
//    "disks":[{"id":1,"name":"disk1","size_bytes":n}],
//    "nics":[{"name":"nic1","mac":"02:…","network":"user"|"none"}],
//    "firmware":{"code":path,"vars_template":path,"build":hex},"guest_agent":bool}
//
// Firmware build and machine type are fixed at creation: another build measures another PCR 0, and
// a disk sealed to it would stay locked.
#pragma once

#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "sys/json.h"

namespace hf::daemon {

inline constexpr size_t kDisksMax = 16;
inline constexpr size_t kNicsMax = 8;
inline constexpr uint64_t kDiskBytesMin = uint64_t{1} << 20;
inline constexpr uint64_t kDiskBytesMax = uint64_t{1} << 46;

struct DiskDefinition {
  uint32_t id = 0;   // the journal's volume; from 1
  std::string name;  // "disk1"
  uint64_t size_bytes = 0;
};

struct NicDefinition {
  std::string name;
  std::string mac;
  std::string network;  // "user": NAT by QEMU; "none": the link is there and leads nowhere
};

struct FirmwareDefinition {
  std::string code;
  std::string vars_template;
  std::string build;  // SHA-256 of the code file, hex
};

struct VmDefinition {
  std::string name;
  bool trusted_launch = true;
  bool secure_boot = true;
  bool vtpm = true;
  uint32_t cpus = 1;
  uint64_t memory_mib = 1024;
  std::string machine_type;
  std::vector<DiskDefinition> disks;
  std::vector<NicDefinition> nics;
  FirmwareDefinition firmware;
  // A port for qemu-guest-agent. A VM keeps what it was made with: those made before this was
  // known have none.
  bool guest_agent = false;
};

std::string_view security_type(const VmDefinition& definition);  // "TrustedLaunch" or "Standard"
sys::JsonObject to_json(const VmDefinition& definition);
Result<VmDefinition> parse_definition(const sys::JsonObject& json);
Result<VmDefinition> parse_definition(std::string_view text);

// What POST /v1/vms asks for. Paths of images and blank sizes, one entry a disk, in order.
struct DiskRequest {
  std::string image;        // absolute path of a raw image, or empty
  uint64_t size_bytes = 0;  // of a blank disk, or to grow the image to; 0: the image's size
};
struct CreateRequest {
  VmDefinition definition;  // without sizes of image disks, firmware, machine type and MACs
  std::vector<DiskRequest> disks;
};
// Checks names, words and sizes; the errors say what is allowed.
Result<CreateRequest> parse_create_request(const sys::JsonObject& json);

// [a-z0-9] then [a-z0-9-], at most 63: a DNS label, so that it fits everywhere.
Status check_vm_name(std::string_view name);
// A locally administered address that follows from VM and place alone: the same at every site.
std::string nic_mac(VmId vm, size_t index);

}  // namespace hf::daemon
