#include "daemon/vm_definition.h"

#include <fmt/format.h>

#include "crypto/crypto.h"

namespace hf::daemon {
namespace {

constexpr std::string_view kNothingCreated = "nothing was created";

Error bad_request(std::string cause, std::string mend) {
  return {.code = ErrorCode::kInvalidArgument,
          .cause = std::move(cause),
          .effect = std::string(kNothingCreated),
          .mend = std::move(mend)};
}

}  // namespace

std::string_view security_type(const VmDefinition& definition) {
  return definition.trusted_launch ? "TrustedLaunch" : "Standard";
}

sys::JsonObject to_json(const VmDefinition& definition) {
  sys::JsonArray disks;
  for (const DiskDefinition& disk : definition.disks) {
    disks.push_back(
        sys::JsonObject{{"id", disk.id}, {"name", disk.name}, {"size_bytes", disk.size_bytes}});
  }
  sys::JsonArray nics;
  for (const NicDefinition& nic : definition.nics) {
    nics.push_back(sys::JsonObject{{"name", nic.name}, {"mac", nic.mac}, {"network", nic.network}});
  }
  const FirmwareDefinition& firmware = definition.firmware;
  return {{"version", 1},
          {"name", definition.name},
          {"security_type", security_type(definition)},
          {"secure_boot", definition.secure_boot},
          {"vtpm", definition.vtpm},
          {"cpus", definition.cpus},
          {"memory_mib", definition.memory_mib},
          {"machine_type", definition.machine_type},
          {"disks", std::move(disks)},
          {"nics", std::move(nics)},
          {"firmware",
           {{"code", firmware.code},
            {"vars_template", firmware.vars_template},
            {"build", firmware.build}}},
          {"guest_agent", definition.guest_agent}};
}

Result<VmDefinition> parse_definition(std::string_view text) {
  return parse_definition(TRY(sys::parse_json_object(text)));
}

Result<VmDefinition> parse_definition(const sys::JsonObject& json) {
  if (TRY(sys::get_u64(json, "version")) != 1) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "a VM definition of another version",
                 .effect = "the VM cannot be used here",
                 .mend = "upgrade Holdfast at this site"};
  }
  VmDefinition definition;
  definition.name = TRY(sys::get_string(json, "name"));
  TRY(check_vm_name(definition.name));
  definition.trusted_launch = TRY(sys::get_string(json, "security_type")) == "TrustedLaunch";
  definition.secure_boot = TRY(sys::get_bool(json, "secure_boot"));
  definition.vtpm = TRY(sys::get_bool(json, "vtpm"));
  definition.cpus = static_cast<uint32_t>(TRY(sys::get_u64(json, "cpus")));
  definition.memory_mib = TRY(sys::get_u64(json, "memory_mib"));
  definition.machine_type = TRY(sys::get_string(json, "machine_type"));
  const sys::JsonArray* disks = TRY(sys::get_array(json, "disks"));
  const sys::JsonArray* nics = TRY(sys::get_array(json, "nics"));
  if (disks->size() > kDisksMax || nics->size() > kNicsMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "a VM definition with too many disks or NICs"};
  }
  for (const sys::JsonValue& item : *disks) {
    if (!item.is_object())
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "\"disks\" holds no objects"};
    const sys::JsonObject& disk = item.as_object();
    definition.disks.push_back({.id = static_cast<uint32_t>(TRY(sys::get_u64(disk, "id"))),
                                .name = TRY(sys::get_string(disk, "name")),
                                .size_bytes = TRY(sys::get_u64(disk, "size_bytes"))});
  }
  for (const sys::JsonValue& item : *nics) {
    if (!item.is_object())
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "\"nics\" holds no objects"};
    const sys::JsonObject& nic = item.as_object();
    definition.nics.push_back({.name = TRY(sys::get_string(nic, "name")),
                               .mac = TRY(sys::get_string(nic, "mac")),
                               .network = TRY(sys::get_string(nic, "network"))});
  }
  const sys::JsonObject* firmware = TRY(sys::get_object(json, "firmware"));
  definition.firmware = {.code = TRY(sys::get_string(*firmware, "code")),
                         .vars_template = TRY(sys::get_string(*firmware, "vars_template")),
                         .build = TRY(sys::get_string(*firmware, "build"))};
  definition.guest_agent = TRY(sys::get_bool_or(json, "guest_agent", false));
  return definition;
}

Status check_vm_name(std::string_view name) {
  bool good = !name.empty() && name.size() <= 63 && name.front() != '-';
  for (char c : name) good = good && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-');
  if (good) return {};
  return bad_request(
      "\"" + std::string(name.substr(0, 80)) + "\" is not a name for a VM",
      "choose a name of a-z, 0-9 and '-', at most 63 characters, not beginning with '-'");
}

std::string nic_mac(VmId vm, size_t index) {
  std::byte place[1] = {static_cast<std::byte>(index)};
  Digest digest = crypto::sha256(vm.span(), place);
  std::string mac = "02";  // locally administered, unicast
  for (size_t i = 0; i < 5; ++i)
    mac += fmt::format(":{:02x}", std::to_integer<unsigned>(digest.bytes[i]));
  return mac;
}

namespace {

Status read_security(const sys::JsonObject& json, VmDefinition& definition) {
  std::string type = TRY(sys::get_string_or(json, "security_type", "TrustedLaunch"));
  if (type != "TrustedLaunch" && type != "Standard") {
    return bad_request("\"" + type + "\" is not a security type", "use TrustedLaunch or Standard");
  }
  definition.trusted_launch = type == "TrustedLaunch";
  definition.secure_boot = TRY(sys::get_bool_or(json, "secure_boot", definition.trusted_launch));
  definition.vtpm = TRY(sys::get_bool_or(json, "vtpm", definition.trusted_launch));
  if (!definition.trusted_launch && (definition.secure_boot || definition.vtpm)) {
    return bad_request(
        "a Standard VM has neither Secure Boot nor a vTPM",
        "use --security-type TrustedLaunch; each of its parts can be switched off by itself");
  }
  return {};
}

Status read_sizes(const sys::JsonObject& json, VmDefinition& definition) {
  uint64_t cpus = TRY(sys::get_u64_or(json, "cpus", 1));
  if (cpus < 1 || cpus > 255)
    return bad_request(fmt::format("{} CPUs are not possible", cpus), "use 1 to 255");
  definition.cpus = static_cast<uint32_t>(cpus);
  definition.memory_mib = TRY(sys::get_u64_or(json, "memory_mib", 1024));
  if (definition.memory_mib < 256 || definition.memory_mib > (uint64_t{4} << 20)) {
    return bad_request(fmt::format("{} MiB of memory are not possible", definition.memory_mib),
                       "use 256 MiB to 4 TiB");
  }
  return {};
}

Status read_disks(const sys::JsonObject& json, CreateRequest& request) {
  const sys::JsonArray* disks = TRY(sys::get_array(json, "disks"));
  if (disks->empty() || disks->size() > kDisksMax) {
    return bad_request(fmt::format("a VM with {} disks is not possible", disks->size()),
                       fmt::format("give 1 to {} disks: --disk IMAGE or --blank SIZE", kDisksMax));
  }
  for (const sys::JsonValue& item : *disks) {
    if (!item.is_object()) return bad_request("\"disks\" holds no objects", "see api/openapi.yaml");
    const sys::JsonObject& disk = item.as_object();
    DiskRequest wish{.image = TRY(sys::get_string_or(disk, "image", "")),
                     .size_bytes = TRY(sys::get_u64_or(disk, "size_bytes", 0))};
    if (!wish.image.empty() && wish.image.front() != '/') {
      return bad_request("\"" + wish.image + "\" is not an absolute path",
                         "give the whole path of the image");
    }
    if (wish.image.empty() || wish.size_bytes != 0) {
      if (wish.size_bytes < kDiskBytesMin || wish.size_bytes > kDiskBytesMax ||
          wish.size_bytes % 4096 != 0) {
        return bad_request(fmt::format("a disk of {} bytes is not possible", wish.size_bytes),
                           "use a multiple of 4096 bytes from 1 MiB to 64 TiB");
      }
    }
    request.disks.push_back(std::move(wish));
  }
  return {};
}

Status read_nics(const sys::JsonObject& json, VmDefinition& definition) {
  std::vector<std::string> networks = TRY(sys::get_strings_or_empty(json, "nics"));
  if (networks.size() > kNicsMax) {
    return bad_request("too many NICs", fmt::format("give at most {}", kNicsMax));
  }
  for (std::string& network : networks) {
    if (network != "user" && network != "none") {
      return bad_request("\"" + network + "\" is not a network", "use --nic user or --nic none");
    }
    definition.nics.push_back({.name = fmt::format("nic{}", definition.nics.size() + 1),
                               .mac = "",
                               .network = std::move(network)});
  }
  return {};
}

}  // namespace

Result<CreateRequest> parse_create_request(const sys::JsonObject& json) {
  CreateRequest request;
  request.definition.name = TRY(sys::get_string(json, "name"));
  TRY(check_vm_name(request.definition.name));
  TRY(read_security(json, request.definition));
  TRY(read_sizes(json, request.definition));
  TRY(read_disks(json, request));
  TRY(read_nics(json, request.definition));
  request.definition.guest_agent = TRY(sys::get_bool_or(json, "guest_agent", true));
  return request;
}

}  // namespace hf::daemon
