// Can Windows (or Linux) in this VM use virtualization-based security? What is missing?
//
// The parts are those Microsoft names for VBS and memory integrity: "OEM VBS" and
// "System.Fundamentals. Firmware.UEFI" requirements (64-bit CPU with virtualization extensions and
// SLAT, IOMMU, TPM 2.0, SMM protected variables, UEFI memory attributes table, Secure Boot).
#pragma once

#include <string>
#include <vector>

#include "sys/json.h"

namespace hf::secure_boot {

// What the VM's definition and its host give.
struct VmProfile {
  bool uefi = true;
  bool secure_boot = true;
  bool smm = true;  // variables writable from system management mode only
  bool vtpm = true;
  bool memory_attributes = true;  // firmware publishes EFI_MEMORY_ATTRIBUTES_TABLE, code read-only
  bool iommu = false;             // a virtual IOMMU, so that DMA can be bounded
  bool nested_virtualization = false;  // VMX or SVM, and nested paging, offered to the guest
  std::string accelerator;             // "kvm", "tcg"
};

struct VbsPart {
  std::string name;      // "Secure Boot"
  bool required = true;  // for VBS at all; the others add to it
  bool present = false;
  std::string why;  // what it is for, or how to get it
};

struct VbsReadiness {
  std::vector<VbsPart> parts;
  bool ready = false;  // all required ones are there
  std::string summary;
};

VbsReadiness vbs_readiness(const VmProfile& profile);
sys::JsonObject to_json(const VbsReadiness& readiness);

}  // namespace hf::secure_boot
