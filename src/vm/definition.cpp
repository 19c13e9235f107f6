#include "vm/definition.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "crypto/crypto.h"

namespace hf::vm {
namespace {

Error odd(std::string cause) {
  return {.code = ErrorCode::kInvalidArgument,
          .cause = std::move(cause),
          .effect = "the VM cannot be used here",
          .mend = "holdfast vm show"};
}

bool plain_name(std::string_view name) {
  auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return !name.empty() && name.front() != '-' && std::ranges::all_of(name, good);
}

// QEMU's nodes and the keeper's sockets stand beside a disk's.
bool reserved(std::string_view name) {
  constexpr std::array<std::string_view, 9> kOthers{
      "code", "config", "console", "control", "feed", "scratch", "ship", "tpm", "vars"};
  return std::ranges::find(kOthers, name) != kOthers.end();
}

bool unicast_mac(std::string_view mac) {
  bool good = mac.size() == 17;
  for (size_t i = 0; good && i < mac.size(); ++i) {
    bool hex = (mac[i] >= '0' && mac[i] <= '9') || (mac[i] >= 'a' && mac[i] <= 'f');
    good = i % 3 == 2 ? mac[i] == ':' : hex;
  }
  // The second digit's lowest bit says multicast.
  return good && ((mac[1] >= 'a' ? mac[1] - 'a' + 10 : mac[1] - '0') & 1) == 0;
}

}  // namespace

Status json_check(const Definition& definition) {
  TRY(check_vm_name(definition.name));
  bool standard = definition.security_type == SecurityType::kStandard;
  if (standard && (definition.secure_boot || definition.vtpm)) {
    return odd("a Standard VM with Secure Boot or a vTPM");
  }
  if (definition.pcr_banks) {
    if (!definition.vtpm) return odd("PCR banks without a vTPM");
    TRY(check_pcr_banks(*definition.pcr_banks));
  }
  for (size_t i = 0; i < definition.disks.size(); ++i) {
    const Disk& disk = definition.disks[i];
    auto same = [&](const Disk& other) { return other.name == disk.name; };
    if (!plain_name(disk.name) || reserved(disk.name) ||
        std::ranges::count_if(definition.disks, same) > 1) {
      return odd("\"" + disk.name + "\" is not a name for a disk, or one for two");
    }
    if (i > 0 && disk.id <= definition.disks[i - 1].id) return odd("the disks' ids do not rise");
    if (disk.size_bytes % 4096 != 0) return odd("a disk that is no multiple of 4096 bytes");
  }
  for (const Nic& nic : definition.nics) {
    if (!plain_name(nic.name)) return odd("\"" + nic.name + "\" is not a name for a NIC");
    if (!unicast_mac(nic.mac)) {
      return odd("the MAC address \"" + nic.mac + "\" is not like 02:00:00:12:34:56");
    }
  }
  return {};
}

std::string_view security_type(const Definition& definition) {
  return sys::json_word(definition.security_type);
}

std::vector<PcrBank> pcr_banks(const Definition& definition) {
  if (!definition.vtpm) return {};
  return definition.pcr_banks.value_or(std::vector{PcrBank::kSha256});
}

Status check_pcr_banks(const std::vector<PcrBank>& banks) {
  for (const PcrBank bank : banks) {
    if (std::ranges::count(banks, bank) > 1) {
      return odd(fmt::format("the PCR bank {} twice", sys::json_word(bank)));
    }
  }
  if (std::ranges::count(banks, PcrBank::kSha256) != 0) return {};
  return odd("PCR banks without sha256, which is what attestation quotes");
}

sys::JsonObject to_json(const Definition& definition) { return sys::encode_json(definition); }

Result<Definition> parse_definition(std::string_view text) {
  return parse_definition(TRY(sys::parse_json_object(text)));
}

Result<Definition> parse_definition(const sys::JsonObject& json) {
  // First, since another version may have other members.
  if (TRY(sys::get_u64(json, "version")) != 1) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "a VM definition of another version",
                 .effect = "the VM cannot be used here",
                 .mend = "upgrade Holdfast at this site"};
  }
  return sys::decode_json<Definition>(json);
}

Status check_vm_name(std::string_view name) {
  auto alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  auto good = [&](char c) { return alphanumeric(c) || c == '-' || c == '_' || c == '.'; };
  if (!name.empty() && name.size() <= 63 && alphanumeric(name.front()) &&
      std::ranges::all_of(name, good)) {
    return {};
  }
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "\"" + clean_text(name, 80) + "\" is not a name for a VM",
               .effect = "nothing was created",
               .mend =
                   "choose 1 to 63 letters, digits, '.', '_' and '-', beginning with a letter "
                   "or digit"};
}

Status check_new_vm_name(std::string_view name) {
  TRY(check_vm_name(name));
  if (!VmId::parse_hex(name).ok()) return {};
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "\"" + std::string(name) + "\" looks like a VM's id",
               .effect = "nothing was created",
               .mend = "choose a name that is not 32 hexadecimal digits"};
}

std::string nic_mac(VmId vm, size_t index) {
  std::byte place[1] = {static_cast<std::byte>(index)};
  Digest digest = crypto::sha256(vm.span(), place);
  std::string mac = "02";  // locally administered, unicast
  for (size_t i = 0; i < 5; ++i)
    mac += fmt::format(":{:02x}", std::to_integer<unsigned>(digest.bytes[i]));
  return mac;
}

}  // namespace hf::vm
