#include "attestation/baseline/grub_config.h"

#include <algorithm>
#include <array>

namespace hf::attestation {
namespace {

constexpr uint8_t kCommandPcr = 8;
constexpr uint8_t kFilePcr = 9;
// As the preflight words what it read off the disk (secure_boot/preflight/grub_walk.cpp).
constexpr std::string_view kCommandWords = "GRUB command \"";
constexpr std::string_view kConfigWords = "GRUB's configuration ";
// Commands that read a file to start it, or a part of it. Prefixes: linux16, linuxefi, xen_module …
constexpr std::array<std::string_view, 9> kLoading = {
    "linux", "initrd", "chainloader", "multiboot", "module", "xen", "devicetree", "efi", "boot"};

bool is_config_file(std::string_view what) {
  return what.starts_with(kConfigWords) || what.ends_with("/grubenv)");
}

bool loads(std::string_view command) {
  return std::ranges::any_of(kLoading,
                             [&](std::string_view word) { return command.starts_with(word); });
}

}  // namespace

bool is_grub_config(const BaselineEntry& entry) {
  if (entry.pcr == kCommandPcr) {
    return entry.kind == MeasurementKind::kText || entry.what.starts_with(kCommandWords);
  }
  return entry.pcr == kFilePcr && is_config_file(entry.what);
}

GrubConfig::GrubConfig(const MeasuredBoot& boot, const Explanations& explanations)
    : boot_(boot), explanations_(explanations) {
  if (!boot.order_vouched()) return;
  for (const Measurement& m : boot.measurements()) {
    bool boundary = m.kind == MeasurementKind::kSeparator || m.kind == MeasurementKind::kAction;
    if (m.pcr == kCommandPcr && !boundary && (!is_command(m) || loads(command_of(m)))) break;
    ++loading_from_;
  }
}

std::string GrubConfig::command_of(const Measurement& m) const {
  if (!m.text.empty()) return m.kind == MeasurementKind::kText ? m.text : std::string();
  const FileExplanation* known = explanations_.find(m.digest);
  if (known == nullptr || !known->path.empty() || !known->what.starts_with(kCommandWords))
    return {};
  return known->what.substr(kCommandWords.size());
}

bool GrubConfig::is_command(const Measurement& m) const { return !command_of(m).empty(); }

bool GrubConfig::explains(const BaselineEntry* was, const Measurement* is) const {
  const uint8_t pcr = is != nullptr ? is->pcr : was->pcr;
  if (pcr == kCommandPcr) {
    bool line = was != nullptr && (was->kind == MeasurementKind::kKernelCommandLine ||
                                   was->what.starts_with("kernel command line"));
    return !line && (is == nullptr || is_command(*is));
  }
  if (pcr != kFilePcr) return false;
  bool other_file = was != nullptr && !was->what.empty() && !is_config_file(was->what);
  if (other_file) return false;
  if (is == nullptr) return is_config_file(was->what);
  const FileExplanation* known = explanations_.find(is->digest);
  if (known != nullptr) return is_config_file(known->what);
  return static_cast<size_t>(is - boot_.measurements().data()) < loading_from_;
}

}  // namespace hf::attestation
