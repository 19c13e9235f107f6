// Digests that mean something by themselves: separators, firmware's actions, Secure Boot variables
// whose content is known. They let a record without a log be read in words.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "attestation/boot/measured_boot.h"
#include "secure_boot/efi/guid.h"

namespace hf::attestation {

inline constexpr std::string_view kExitBootServicesAction = "Exit Boot Services Invocation";
inline constexpr std::string_view kDrillMarker = "holdfast drill";
inline constexpr std::string_view kBranchMarker = "holdfast branch";

// "separator", the action's text or a role's marker; empty if the digest is of neither. Of any PCR.
std::string_view known_event_text(HashAlg bank, ByteSpan digest);
bool is_separator_text(std::string_view text);  // of known_event_text()

// What systemd extends PCR 11 with in the phases of a boot (systemd-pcrphase.service(8)).
inline constexpr std::array<std::string_view, 6> kBootPhases = {
    "enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final"};
bool is_boot_phase(HashAlg bank, ByteSpan digest);

// The measurements of PCR 7 that given variables lead to: SecureBoot (off, on), PK, KEK, db, dbx
// and an authority for each entry of db.
class KnownVariables {
 public:
  struct Entry {
    Bytes digest;
    Bytes data;  // UEFI_VARIABLE_DATA
  };
  KnownVariables(const KeyVariables& variables, HashAlg bank);
  const Entry* find(ByteSpan digest) const;

 private:
  std::vector<Entry> entries_;
};

// The vendor GUID of a Secure Boot variable by its name.
const secure_boot::Guid& vendor_of(std::string_view variable);

}  // namespace hf::attestation
