// What a VM's first disk boots, asked of its keeper (keeper/service/boot_files.h).
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "attestation/baseline/disk_knowledge.h"
#include "base/result.h"
#include "sys/json.h"

namespace hf::control {

struct BootFiles {
  attestation::DiskKnowledge knowledge;
  sys::JsonObject report;  // as `vm check` gives it
  std::string text;        // the same as lines
};

// Begins a reading; its ticket. kUnsupported: the VM has nothing to boot from that is read here.
Result<uint64_t> ask_boot_files(const std::string& control_socket);
// nullopt: it is still under way. kConflict: the keeper was restarted since. An error of the
// reading itself: the disk cannot be read, and why.
Result<std::optional<BootFiles>> take_boot_files(const std::string& control_socket,
                                                 uint64_t ticket);
// Both; waits. kTimeout.
Result<BootFiles> read_boot_files(const std::string& control_socket,
                                  std::chrono::milliseconds limit);

}  // namespace hf::control
