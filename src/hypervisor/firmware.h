// Which firmware a VM boots, recorded when it is made and held to at every start.
//
// The firmware's code is measured into PCR 0, and what it measures into PCR 7 depends on its build:
// a disk sealed to the vTPM does not unlock under another one. The build's id is the SHA-256 of the
// code file; the machine type is a versioned one for the same reason (ACPI tables, device layout).
#pragma once

#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace hf::hypervisor {

enum class FirmwareKind {
  kSecureBoot,  // needs SMM; Microsoft's keys enrolled in the variable template
  kPlain,       // no Secure Boot enforced, empty variable template
};

struct Firmware {
  FirmwareKind kind = FirmwareKind::kSecureBoot;
  std::string code_path;      // absolute
  std::string template_path;  // variable store to start from; same size as the guest's store
  Digest build;               // SHA-256 of the code file
};

// Looks in the usual places of Debian's ovmf package below `root` (tests: a directory of their
// own). kNotFound names the package.
Result<Firmware> find_firmware(FirmwareKind kind, const std::string& root = "/usr/share/OVMF");

// The firmware of that build among what is installed, for a VM that was made with it. kConflict
// names both builds and says how to go on.
Result<Firmware> require_firmware(FirmwareKind kind, const Digest& recorded_build,
                                  const std::string& root = "/usr/share/OVMF");

// The machine type new VMs get, and those that old ones may have.
std::string_view default_machine_type();
Status check_machine_type(std::string_view machine_type);

}  // namespace hf::hypervisor
