#include "attestation/boot/boot_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "crypto/crypto.h"
#include "secure_boot/keys/certificate.h"

namespace hf::attestation {
namespace {

constexpr size_t kOwnerSize = 16;
constexpr size_t kSha256Size = 32;
constexpr size_t kNameMax = 256;

// Windows measures its settings as tagged events (u32 id, u32 size, data), nested where the id has
// the aggregation bit; ids as in the Windows SDK's wbcl.h.
constexpr uint32_t kSipaAggregation = 0x40000000;
constexpr size_t kSipaDepthMax = 4;
struct SipaSetting {
  uint32_t id;
  bool debugging_if;  // the value that means so
  std::string_view words;
};
constexpr std::array<SipaSetting, 4> kSipaSettings = {{
    {0x00040001, true, "Windows boot debugging"},
    {0x00050001, true, "Windows kernel debugging"},
    {0x00050002, false, "Windows code integrity off"},
    {0x00050003, true, "Windows test signing"},
}};

// Each setting once, however often the guest measures it.
void add_setting(std::vector<std::string>& settings, std::string_view words) {
  if (std::ranges::find(settings, words) == settings.end()) settings.emplace_back(words);
}

void read_sipa(ByteSpan bytes, size_t depth, std::vector<std::string>& settings) {
  while (bytes.size() >= 8) {
    auto id = load_le<uint32_t>(bytes.data());
    auto size = load_le<uint32_t>(bytes.data() + 4);
    if (size > bytes.size() - 8) return;
    ByteSpan data = bytes.subspan(8, size);
    bytes = bytes.subspan(8 + size_t{size});
    if ((id & kSipaAggregation) != 0) {
      if (depth < kSipaDepthMax) read_sipa(data, depth + 1, settings);
      continue;
    }
    for (const SipaSetting& setting : kSipaSettings) {
      if (setting.id != id || data.empty()) continue;
      bool on = data[0] != std::byte{0};
      if (on == setting.debugging_if) add_setting(settings, setting.words);
    }
  }
}

std::optional<Authority> from_certificate(ByteSpan der) {
  Result<secure_boot::CertificateNames> names = secure_boot::read_certificate_names(der);
  if (!names.ok()) return std::nullopt;
  Authority authority;
  authority.certificate = der;
  authority.common_name = clean_text(secure_boot::words(*names), kNameMax);
  authority.subject = names->subject;
  authority.fingerprint = names->fingerprint;
  return authority;
}

std::optional<Authority> from_content(ByteSpan content) {
  if (content.size() > kOwnerSize) {
    ByteSpan entry = content.subspan(kOwnerSize);
    if (entry.size() == kSha256Size) {
      Authority authority;
      std::ranges::copy(entry, authority.fingerprint.bytes.begin());
      authority.common_name = "SHA-256 " + to_hex(entry);
      return authority;
    }
    if (auto authority = from_certificate(entry)) return authority;
  }
  return from_certificate(content);  // shim's own certificate has no owner before it
}

void read_key_variable(const Measurement& m, BootFacts& facts) {
  if (m.name == "SecureBoot" && m.content.size() == 1) {
    facts.secure_boot = m.content[0] == std::byte{1};
  } else if (!m.name.empty()) {
    facts.variables[m.name] = m.content;
  }
}

void read_shim_state(const Measurement& m, BootFacts& facts) {
  if (m.name == "SbatLevel") {
    facts.sbat_level = std::string(as_text(m.content));
  } else if (!m.content.empty() && m.content[0] == std::byte{1}) {
    facts.shim_validation_off = true;
  }
}

}  // namespace

std::optional<Authority> read_authority(const Measurement& measurement) {
  if (measurement.content.empty()) return std::nullopt;
  std::optional<Authority> authority = from_content(measurement.content);
  if (!authority) return std::nullopt;
  authority->source = measurement.name;
  authority->measurement = &measurement;
  return authority;
}

BootFacts read_facts(const MeasuredBoot& boot) {
  BootFacts facts;
  for (const Measurement& m : boot.measurements()) {
    switch (m.kind) {
      case MeasurementKind::kKeyVariable:
        read_key_variable(m, facts);
        break;
      case MeasurementKind::kAuthority:
        facts.authority_measurements.push_back(&m);
        if (auto authority = read_authority(m)) facts.authorities.push_back(std::move(*authority));
        break;
      case MeasurementKind::kShimState:
        read_shim_state(m, facts);
        break;
      case MeasurementKind::kKernelCommandLine:
        facts.command_lines.push_back(&m);
        break;
      case MeasurementKind::kAction:
        if (m.pcr == 7 && m.name == "UEFI Debug Mode") add_setting(facts.debug_settings, m.name);
        break;
      default:
        break;
    }
    if (m.pcr >= 11 && m.pcr <= 13 && m.text.empty()) read_sipa(m.covered, 0, facts.debug_settings);
  }
  return facts;
}

}  // namespace hf::attestation
