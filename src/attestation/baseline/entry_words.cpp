#include "attestation/baseline/entry_words.h"

#include <fmt/format.h>

#include "attestation/boot/boot_facts.h"
#include "attestation/words/quoted.h"
#include "base/text.h"

namespace hf::attestation {
namespace {

constexpr size_t kWordsMax = 512;  // of a name that is kept

void explain_program(const FileExplanation& file, BaselineEntry& entry) {
  entry.what = file.path.empty() ? file.what : fmt::format("{} ({})", file.what, file.path);
  entry.signers = file.signers;
}

std::string authority_words(const Measurement& m) {
  std::optional<Authority> authority = read_authority(m);
  if (!authority) return m.name;
  return fmt::format("{}: {}", authority->source, authority->common_name);
}

std::string what_of(const Measurement& m) {
  switch (m.kind) {
    case MeasurementKind::kSeparator:
    case MeasurementKind::kAction:
    case MeasurementKind::kExitBootServices:
      return m.name;
    case MeasurementKind::kKeyVariable:
      if (m.name == "SecureBoot" && m.content.size() == 1) {
        return m.content[0] == std::byte{1} ? "Secure Boot on" : "Secure Boot off";
      }
      return m.name;
    case MeasurementKind::kAuthority:
      return authority_words(m);
    case MeasurementKind::kShimState:
      return m.name == "SbatLevel" ? "SBAT level " + quoted(as_text(m.content)) : m.name;
    default:
      return {};
  }
}

}  // namespace

BaselineEntry entry_of(const Measurement& m, const Explanations& explanations) {
  BaselineEntry entry{.pcr = m.pcr,
                      .digest = {m.digest.begin(), m.digest.end()},
                      .kind = m.kind,
                      .what = what_of(m)};
  if (m.text.size() <= kBaselineTextMax) entry.text = m.text;
  if (const FileExplanation* file = explanations.find(m.digest)) explain_program(*file, entry);
  entry.what = clean_text(entry.what, kWordsMax);
  return entry;
}

std::string name_of(const BaselineEntry& entry) {
  if (entry.kind == MeasurementKind::kKernelCommandLine && !entry.text.empty()) {
    return "the kernel command line " + quoted(entry.text);
  }
  if (!entry.what.empty()) return entry.what;
  if (!entry.text.empty()) return "the command " + quoted(entry.text);
  switch (entry.kind) {
    case MeasurementKind::kProgram:
      return "a program";
    case MeasurementKind::kKernelCommandLine:
      return "a kernel command line";
    case MeasurementKind::kFile:
      return "a file that the boot loader read";
    case MeasurementKind::kText:
      return "a command of the boot loader";
    case MeasurementKind::kMok:
      return "a list of shim's (MOK)";
    case MeasurementKind::kKeyVariable:
      return "a Secure Boot variable";
    case MeasurementKind::kAuthority:
      return "a certificate that vouched for a program";
    case MeasurementKind::kBootVariable:
      return "a boot setting";
    default:
      break;
  }
  if (entry.pcr == 0) return "a part of the firmware";
  return entry.pcr == 5 ? "the partition table or a boot attempt" : "a measurement";
}

}  // namespace hf::attestation
