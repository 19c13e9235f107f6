// A UEFI variable of a running Linux guest, written through its agent: SetVariable by the guest's
// own firmware, which checks what is signed.
//
// Linux gives variables as files (Documentation/filesystems/efivarfs.rst): attributes as u32, then
// the data, in one write; those that it does not know are marked immutable.
#pragma once

#include <string>

#include "hypervisor/guest_agent.h"

namespace hf::hypervisor {

struct EfiVariableWrite {
  std::string file;  // "dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f": letters, digits and '-'
  uint32_t attributes = 0;
  Bytes data;
};

// kConflict: the guest could not, in its own words. What the firmware made of it is not said here.
Status write_efi_variable(GuestAgent& agent, const EfiVariableWrite& variable,
                          GuestAgent::Millis limit);

}  // namespace hf::hypervisor
