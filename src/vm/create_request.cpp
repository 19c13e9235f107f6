#include "vm/create_request.h"

#include <fmt/format.h>

#include <algorithm>

#include "vm/admission.h"

namespace hf::vm {
namespace {

constexpr std::string_view kNothingCreated = "nothing was created";

Error bad_request(std::string cause, std::string mend) {
  return {.code = ErrorCode::kInvalidArgument,
          .cause = std::move(cause),
          .effect = std::string(kNothingCreated),
          .mend = std::move(mend)};
}

Status read_security(const sys::JsonObject& json, Definition& definition) {
  std::string type = TRY(sys::get_string_or(json, "security_type", "TrustedLaunch"));
  if (type != "TrustedLaunch" && type != "Standard") {
    return bad_request("\"" + type + "\" is not a security type", "use TrustedLaunch or Standard");
  }
  bool trusted = type == "TrustedLaunch";
  definition.security_type = trusted ? SecurityType::kTrustedLaunch : SecurityType::kStandard;
  definition.secure_boot = TRY(sys::get_bool_or(json, "secure_boot", trusted));
  definition.vtpm = TRY(sys::get_bool_or(json, "vtpm", trusted));
  if (!trusted && (definition.secure_boot || definition.vtpm)) {
    return bad_request(
        "a Standard VM has neither Secure Boot nor a vTPM",
        "use --security-type TrustedLaunch; each of its parts can be switched off by itself");
  }
  return {};
}

Status read_pcr_banks(const sys::JsonObject& json, Definition& definition) {
  if (!json.contains("pcr_banks")) return {};
  if (!definition.vtpm) {
    return bad_request("PCR banks are a vTPM's, and this VM has none",
                       "leave --pcr-banks out, or give the VM a vTPM");
  }
  std::vector<PcrBank> banks;
  for (const std::string& name : TRY(sys::get_strings_or_empty(json, "pcr_banks"))) {
    constexpr auto kKnown = json_words(sys::JsonOf<PcrBank>{});
    const auto known = std::ranges::find(kKnown, name, &sys::JsonWord<PcrBank>::word);
    if (known == kKnown.end()) {
      return bad_request("\"" + name + "\" is not a PCR bank",
                         "use sha256, with sha384, sha512 or sha1 beside it");
    }
    banks.push_back(known->value);
  }
  if (Status good = check_pcr_banks(banks); !good.ok()) {
    return bad_request(good.error().cause,
                       "name each bank once, sha256 among them: --pcr-banks sha256,sha384");
  }
  // Said by leaving it out, which a site that does not know of banks understands, too.
  if (banks != std::vector{PcrBank::kSha256}) definition.pcr_banks = std::move(banks);
  return {};
}

Status read_sizes(const sys::JsonObject& json, Definition& definition) {
  uint64_t cpus = TRY(sys::get_u64_or(json, "cpus", 1));
  definition.memory_mib = TRY(sys::get_u64_or(json, "memory_mib", 1024));
  TRY(check_new_sizes(cpus, definition.memory_mib));
  definition.cpus = static_cast<uint32_t>(cpus);
  return {};
}

Status read_disks(const sys::JsonObject& json, CreateRequest& request) {
  const sys::JsonArray* disks = TRY(sys::get_array(json, "disks"));
  TRY(check_new_disk_count(disks->size()));
  for (const sys::JsonValue& item : *disks) {
    if (!item.is_object()) return bad_request("\"disks\" holds no objects", "see api/openapi.yaml");
    const sys::JsonObject& disk = item.as_object();
    DiskRequest wish{.image = TRY(sys::get_string_or(disk, "image", "")),
                     .size_bytes = TRY(sys::get_u64_or(disk, "size_bytes", 0))};
    if (!wish.image.empty() && wish.image.front() != '/') {
      return bad_request("\"" + wish.image + "\" is not an absolute path",
                         "give the whole path of the image");
    }
    if (wish.image.empty() || wish.size_bytes != 0) TRY(check_new_disk_size(wish.size_bytes));
    request.disks.push_back(std::move(wish));
  }
  return {};
}

Status read_nics(const sys::JsonObject& json, Definition& definition) {
  std::vector<std::string> networks = TRY(sys::get_strings_or_empty(json, "nics"));
  if (networks.size() > kNicsMax) {
    return bad_request("too many NICs", fmt::format("give at most {}", kNicsMax));
  }
  for (const std::string& network : networks) {
    if (network != "user" && network != "none") {
      return bad_request("\"" + network + "\" is not a network", "use --nic user or --nic none");
    }
    definition.nics.push_back({.name = fmt::format("nic{}", definition.nics.size() + 1),
                               .mac = "",
                               .network = network == "user" ? Network::kUser : Network::kNone});
  }
  return {};
}

}  // namespace

Result<CreateRequest> parse_create_request(const sys::JsonObject& json) {
  CreateRequest request;
  request.definition.name = TRY(sys::get_string(json, "name"));
  TRY(check_new_vm_name(request.definition.name));
  TRY(read_security(json, request.definition));
  TRY(read_pcr_banks(json, request.definition));
  TRY(read_sizes(json, request.definition));
  TRY(read_disks(json, request));
  TRY(read_nics(json, request.definition));
  request.definition.guest_agent = TRY(sys::get_bool_or(json, "guest_agent", true));
  return request;
}

}  // namespace hf::vm
