#include "attestation/words/variable_words.h"

#include <fmt/format.h>

#include <algorithm>

#include "attestation/words/device_path.h"
#include "secure_boot/keys/certificate.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::attestation {
namespace {

namespace guids = secure_boot::guids;
constexpr size_t kSignaturesShown = 6;
constexpr size_t kOwnerSize = Guid::kSize;
constexpr Guid kMemoryOverwriteGuid = Guid::of("e20939be-32d4-41be-a150-897f85d49829");

struct Named {
  Guid guid;
  const char* name;
};
constexpr Named kTables[] = {
    {Guid::of("eb9d2d31-2d88-11d3-9a16-0090273fc14d"), "SMBIOS"},
    {Guid::of("f2fd1544-9794-4a2c-992e-e5bbcf20e394"), "SMBIOS 3"},
    {Guid::of("eb9d2d30-2d88-11d3-9a16-0090273fc14d"), "ACPI 1.0"},
    {Guid::of("8868e871-e4f1-11d3-bc22-0080c73c8881"), "ACPI 2.0"},
};
constexpr Named kPartitionTypes[] = {
    {Guid::of("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"), "EFI system partition"},
    {Guid::of("21686148-6449-6e6f-744e-656564454649"), "BIOS boot"},
    {Guid::of("0fc63daf-8483-4772-8e79-3d69d8477de4"), "Linux"},
    {Guid::of("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"), "Linux root x86-64"},
    {Guid::of("bc13c2ff-59e6-4262-a352-b275fd6f7172"), "Linux boot"},
    {Guid::of("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"), "Linux swap"},
    {Guid::of("e6d6d379-f507-44c2-a23c-238f2a3df928"), "LVM"},
    {Guid::of("ca7d7ccb-63ed-4c53-861c-1742536059cc"), "LUKS"},
    {Guid::of("e3c9e316-0b5c-4db8-817d-f92df00215ae"), "Microsoft reserved"},
    {Guid::of("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"), "Microsoft basic data"},
    {Guid::of("de94bba4-06d1-4d40-a16a-bfd50179d6ac"), "Windows recovery"},
};

std::string name_in(std::span<const Named> names, const Guid& guid) {
  auto found = std::ranges::find(names, guid, &Named::guid);
  return found == names.end() ? guid.text() : found->name;
}

std::string safe(std::string_view text) { return printable(as_bytes(text)); }

// Certificates by name; digests by count, because dbx has hundreds.
std::string database(ByteSpan bytes) {
  auto parsed = secure_boot::SignatureDatabase::parse(bytes);
  if (!parsed.ok()) return fmt::format("{} bytes that are no signature lists", bytes.size());
  if (parsed->empty()) return "empty";
  std::string text;
  size_t digests = 0;
  size_t shown = 0;
  size_t more = 0;
  for (const secure_boot::SignatureList& list : parsed->lists()) {
    for (const secure_boot::Signature& signature : list.signatures) {
      if (list.type != guids::kX509) {
        ++digests;
      } else if (shown < kSignaturesShown) {
        text += fmt::format("{}{}", text.empty() ? "" : ", ",
                            safe(secure_boot::describe(list, signature).title));
        ++shown;
      } else {
        ++more;
      }
    }
  }
  if (more > 0) text += fmt::format(", {} more", more);
  if (digests > 0) text += fmt::format("{}{} digests", text.empty() ? "" : ", ", digests);
  return text;
}

std::string certificate_name(ByteSpan der) {
  auto facts = secure_boot::read_certificate(der);
  return facts.ok() ? safe(secure_boot::words(*facts)) : "";
}

// An EFI_SIGNATURE_DATA with a certificate or a digest; shim's own is a bare certificate.
std::string authority(ByteSpan data) {
  std::string name = certificate_name(data);
  if (name.empty() && data.size() > kOwnerSize) name = certificate_name(data.subspan(kOwnerSize));
  if (!name.empty()) return name;
  constexpr size_t kSha256Signature = kOwnerSize + 32;
  if (data.size() == kSha256Signature) return "digest " + to_hex(data.subspan(kOwnerSize));
  bool text = !data.empty() && std::ranges::all_of(as_text(data), [](char c) {
    return c == '\n' || (c >= ' ' && c <= '~') || c == '\0';
  });
  if (!text) return fmt::format("{} bytes", data.size());
  std::string shown = printable(data);
  for (size_t at; (at = shown.find("\\x0a")) != std::string::npos;) shown.replace(at, 4, " ");
  return shown;
}

// EFI_LOAD_OPTION: u32 attributes, u16 path size, description, paths, optional data.
std::string load_option(ByteSpan data) {
  constexpr size_t kHead = 6;
  if (data.size() < kHead) return "";
  size_t path_size = load_le<uint16_t>(data.data() + 4);
  size_t at = kHead;
  while (at + 1 < data.size() && load_le<uint16_t>(data.data() + at) != 0) at += 2;
  size_t text_size = at - kHead;
  at += 2;
  if (at > data.size() || path_size > data.size() - at) return "a damaged load option";
  return fmt::format("“{}”: {}", safe(utf8_of_utf16(data.subspan(kHead, text_size))),
                     describe_device_path(data.subspan(at, path_size)));
}

std::string boot_order(ByteSpan data) {
  std::string text;
  for (size_t i = 0; i + 1 < data.size() && i < 64; i += 2) {
    text += fmt::format("{}{:04X}", i == 0 ? "" : ", ", load_le<uint16_t>(data.data() + i));
  }
  return text;
}

bool is_boot_option(std::string_view name) {
  if (name.size() != 8 || !name.starts_with("Boot")) return false;
  return std::ranges::all_of(
      name.substr(4), [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); });
}

std::string switch_words(ByteSpan data) {
  if (data.empty()) return "not set";
  if (data.size() != 1) return to_hex(data.first(std::min<size_t>(data.size(), 16)));
  return data[0] == std::byte{1} ? "on" : data[0] == std::byte{0} ? "off" : to_hex(data);
}

std::string value_words(const EfiVariable& variable, bool is_authority) {
  ByteSpan data = variable.data;
  std::string_view name = variable.name;
  if (is_authority) return authority(data);
  if (variable.guid == guids::kGlobalVariable) {
    if (name == "PK" || name == "KEK") return database(data);
    if (name == "BootOrder") return boot_order(data);
    if (is_boot_option(name)) return load_option(data);
    return switch_words(data);  // SecureBoot, SetupMode, AuditMode, DeployedMode
  }
  if (variable.guid == guids::kImageSecurity) return database(data);
  if (name == "SbatLevel") return authority(data);
  if (data.size() <= 1) return switch_words(data);
  return fmt::format("{} bytes", data.size());
}

std::string title_of(const EfiVariable& variable, bool is_authority) {
  std::string name = safe(variable.name);
  if (is_authority) {
    if (variable.guid == guids::kShimLock && name == "SbatLevel") return "SBAT level";
    if (variable.guid == guids::kShimLock && name.starts_with("Mok") && name != "MokList" &&
        name != "MokListRT") {
      return "shim's state " + name;
    }
    return fmt::format(
        "a program was allowed by {}",
        variable.guid == guids::kShimLock && name == "Shim" ? "shim's own key" : name);
  }
  if (variable.guid == guids::kImageSecurity || name == "PK" || name == "KEK") {
    return "Secure Boot keys " + name;
  }
  if (name == "SecureBoot") return "Secure Boot";
  if (is_boot_option(name)) return "boot option " + name;
  if (name == "BootOrder") return "boot order";
  if (variable.guid == kMemoryOverwriteGuid) return "memory overwrite on reset " + name;
  return "variable " + name;
}

}  // namespace

EventWords describe_variable(const Event& event) {
  auto variable = efi_variable(event);
  if (!variable) return {"variable", "not readable", false};
  bool is_authority = event.type == EventType::kEfiVariableAuthority;
  return {title_of(*variable, is_authority), value_words(*variable, is_authority),
          variable->name_covered && variable->data_covered};
}

std::string table_name(const Guid& guid) { return name_in(kTables, guid); }
std::string partition_type_name(const Guid& guid) { return name_in(kPartitionTypes, guid); }

}  // namespace hf::attestation
