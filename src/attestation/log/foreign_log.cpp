#include "attestation/log/foreign_log.h"

#include <algorithm>
#include <array>

namespace hf::attestation {
namespace {

constexpr std::string_view kTakeLog =
    "take the guest's /sys/kernel/security/tpm0/binary_bios_measurements as it is";
constexpr std::string_view kSpecId{"Spec ID Event03\0", 16};
constexpr size_t kHeaderDataAt = 32;
constexpr size_t kTextMin = 32;

bool starts(ByteSpan bytes, std::string_view with) { return as_text(bytes).starts_with(with); }

// ACPI 6.5, 5.2.34; UEFI 2.10, 38.4.1: the header of a confidential VM's log counts its register
// from 1 as all others, where a TPM's names PCR 0.
bool is_ccel(ByteSpan bytes) {
  if (bytes.size() < kHeaderDataAt + kSpecId.size()) return false;
  return load_le<uint32_t>(bytes.data()) == 1 && load_le<uint32_t>(bytes.data() + 4) == 3 &&
         starts(bytes.subspan(kHeaderDataAt), kSpecId);
}

// PCR, SHA-1 of the template, size of its name, the name (Linux, Documentation/security/IMA).
bool is_ima(ByteSpan bytes) {
  constexpr size_t kNameAt = 28;
  if (bytes.size() < kNameAt + 3) return false;
  return load_le<uint32_t>(bytes.data() + kNameAt - 4) <= 16 &&
         starts(bytes.subspan(kNameAt), "ima");
}

bool is_printable_text(ByteSpan bytes) {
  ByteSpan head = bytes.first(std::min(bytes.size(), kTextMin));
  return std::ranges::all_of(head, [](std::byte byte) {
    auto c = std::to_integer<uint8_t>(byte);
    return (c >= 0x20 && c != 0x7f) || (c >= '\t' && c <= '\r') || c == 0x1e;
  });
}

}  // namespace

std::optional<ForeignLog> foreign_log(ByteSpan bytes) {
  if (bytes.empty()) {
    return ForeignLog{"an empty file",
                      "read it in the guest as root, when its TPM driver is loaded; firmware that "
                      "found no TPM writes no log"};
  }
  if (is_ccel(bytes)) {
    return ForeignLog{
        "the log of a confidential VM (CCEL, Intel TDX): its registers are RTMRs, not PCRs, and no "
        "TPM proves them",
        "read a TPM's log; a TD's is for a verifier of TDX quotes"};
  }
  if (starts(bytes, "CCEL")) {
    return ForeignLog{"the ACPI table CCEL, which says where a confidential VM's log lies",
                      kTakeLog};
  }
  if (starts(bytes, "TPM2") || starts(bytes, "TCPA")) {
    return ForeignLog{"an ACPI table, which says where the TPM's log lies", kTakeLog};
  }
  if (is_ima(bytes)) {
    return ForeignLog{"Linux' IMA log: what the system measured after the boot", kTakeLog};
  }
  if (starts(bytes, "\x1f\x8b") ||
      starts(bytes,
             "\xfd"
             "7zXZ") ||
      starts(bytes, "\x28\xb5\x2f\xfd")) {
    return ForeignLog{"a compressed file", "unpack it first"};
  }
  if (is_printable_text(bytes)) {
    return ForeignLog{"text, such as tpm2_eventlog or systemd write", kTakeLog};
  }
  return std::nullopt;
}

}  // namespace hf::attestation
