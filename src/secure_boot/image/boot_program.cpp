#include "secure_boot/image/boot_program.h"

#include <algorithm>

#include "secure_boot/disk/fat.h"
#include "secure_boot/image/sbat.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kTextMax = size_t{64} << 10;

// GRUB's include/grub/kernel.h: what is appended to the core image, in its section "mods".
constexpr uint32_t kModulesMagic = 0x676D696D;
constexpr size_t kModulesHeader = 24;  // magic, padding, offset, size
constexpr uint32_t kObjectMemoryDisk = 1;
constexpr uint32_t kObjectConfig = 2;
constexpr uint32_t kObjectPrefix = 3;
constexpr uint32_t kObjectDisableShimLock = 6;
constexpr size_t kObjectsMax = 4096;

bool has_sbat(const PeImage& image, std::string_view component) {
  const PeSection* section = image.section(".sbat");
  if (section == nullptr) return false;
  Result<std::vector<SbatComponent>> components = parse_sbat(image.content(*section));
  return components.ok() &&
         std::ranges::find(*components, component, &SbatComponent::name) != components->end();
}

bool has_magic(const PeImage& image, std::string_view text) {
  const PeSection* section = image.section(".sdmagic");
  return section != nullptr &&
         as_text(image.content(*section)).find(text) != std::string_view::npos;
}

// The boot protocol's header at 0x1F1 (Documentation/arch/x86/boot.rst).
bool is_bzimage(ByteSpan file) {
  return file.size() > 0x206 && as_text(file.subspan(0x202, 4)) == "HdrS";
}

// UTF-16 text in the version resource and in the file's own strings.
bool mentions_windows(const PeImage& image) {
  const PeSection* resources = image.section(".rsrc");
  if (resources == nullptr) return false;
  const ByteSpan content = image.content(*resources);
  constexpr std::string_view kText("M\0i\0c\0r\0o\0s\0o\0f\0t\0", 18);
  return as_text(content.first(std::min(content.size(), kTextMax))).find(kText) !=
         std::string_view::npos;
}

std::string text_of(const PeImage& image, std::string_view name) {
  const PeSection* section = image.section(name);
  if (section == nullptr) return {};
  std::string_view text = as_text(image.content(*section));
  text = text.substr(0, std::min(text.find('\0'), kTextMax));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return std::string(text);
}

// KEY=value or KEY="value" of os-release(5).
std::string release_field(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != '=') continue;
    line.remove_prefix(key.size() + 1);
    if (line.size() >= 2 && line.front() == line.back() &&
        (line.front() == '"' || line.front() == '\'')) {
      line = line.substr(1, line.size() - 2);
    }
    return std::string(line);
  }
  return {};
}

std::string memory_disk_config(ByteSpan disk) {
  MemorySource source(disk);
  Result<FatVolume> files = FatVolume::open(source);
  if (!files.ok()) return {};
  Result<Bytes> text = files->read("grub.cfg", kTextMax);
  return text.ok() ? std::string(as_text(*text)) : std::string();
}

}  // namespace

std::string_view to_string(ProgramKind kind) {
  switch (kind) {
    case ProgramKind::kShim:
      return "shim";
    case ProgramKind::kFallback:
      return "shim's fallback";
    case ProgramKind::kMokManager:
      return "MokManager";
    case ProgramKind::kGrub:
      return "GRUB";
    case ProgramKind::kSystemdBoot:
      return "systemd-boot";
    case ProgramKind::kUki:
      return "unified kernel image";
    case ProgramKind::kLinux:
      return "Linux kernel";
    case ProgramKind::kWindows:
      return "Windows boot manager";
    case ProgramKind::kOther:
      break;
  }
  return "EFI program";
}

ProgramKind kind_of(const PeImage& image) {
  if (image.section(".vendor_cert") != nullptr) return ProgramKind::kShim;
  if (image.section(".linux") != nullptr) return ProgramKind::kUki;
  if (has_magic(image, "LoaderInfo: systemd-boot")) return ProgramKind::kSystemdBoot;
  if (image.section("mods") != nullptr || has_sbat(image, "grub")) return ProgramKind::kGrub;
  if (is_bzimage(image.file())) return ProgramKind::kLinux;
  if (has_sbat(image, "shim")) {
    // The two helpers come from shim's source and say no more; their texts differ.
    constexpr std::string_view kManager("M\0O\0K\0 \0m\0a\0n\0a\0g\0e\0m\0e\0n\0t\0", 28);
    return as_text(image.file()).find(kManager) == std::string_view::npos
               ? ProgramKind::kFallback
               : ProgramKind::kMokManager;
  }
  if (mentions_windows(image)) return ProgramKind::kWindows;
  return ProgramKind::kOther;
}

UkiFacts uki_facts_of(const PeImage& image) {
  const std::string release = text_of(image, ".osrel");
  UkiFacts facts{.name = release_field(release, "PRETTY_NAME"),
                 .release = text_of(image, ".uname"),
                 .command_line = text_of(image, ".cmdline")};
  if (facts.name.empty()) facts.name = release_field(release, "ID");
  return facts;
}

GrubFacts grub_facts_of(const PeImage& image) {
  GrubFacts facts;
  const PeSection* section = image.section("mods");
  if (section == nullptr) return facts;
  const ByteSpan modules = image.content(*section);
  if (modules.size() < kModulesHeader || load_le<uint32_t>(modules.data()) != kModulesMagic) {
    return facts;
  }
  uint64_t at = load_le<uint64_t>(modules.data() + 8);
  const uint64_t end = std::min<uint64_t>(load_le<uint64_t>(modules.data() + 16), modules.size());
  for (size_t count = 0; count < kObjectsMax && at < end && end - at > 8; ++count) {
    const uint32_t type = load_le<uint32_t>(modules.data() + at);
    const uint32_t size = load_le<uint32_t>(modules.data() + at + 4);
    if (size < 8 || size > end - at) break;
    if (type == kObjectMemoryDisk) {
      facts.memory_disk_config = memory_disk_config(modules.subspan(at + 8, size - 8));
    }
    if (type == kObjectDisableShimLock) facts.shim_lock_disabled = true;
    if (type == kObjectConfig || type == kObjectPrefix) {
      std::string_view text = as_text(modules.subspan(at + 8, size - 8));
      text = text.substr(0, std::min(text.find('\0'), kTextMax));
      (type == kObjectConfig ? facts.embedded_config : facts.prefix) = std::string(text);
    }
    at += size;
  }
  return facts;
}

bool is_boot_application(ByteSpan file) {
  constexpr size_t kDosHeader = 64;
  constexpr uint64_t kPeHeader = 264;  // EFI_IMAGE_OPTIONAL_HEADER_UNION
  constexpr size_t kOptional = 24;
  if (file.size() < kDosHeader || as_text(file.first(2)) != "MZ") return false;
  const uint64_t at = load_le<uint32_t>(file.data() + 60);
  if (at + kPeHeader > file.size()) return false;
  const std::byte* pe = file.data() + at;
  if (load_le<uint32_t>(pe) != 0x00004550) return false;
  const uint16_t magic = load_le<uint16_t>(pe + kOptional);
  return (magic == 0x10B || magic == 0x20B) &&
         load_le<uint16_t>(pe + kOptional + 68) == kPeSubsystemEfiApplication;
}

}  // namespace hf::secure_boot
