// A measurement in words, as the baseline keeps it and as reasons name it.
#pragma once

#include "attestation/baseline/baseline.h"

namespace hf::attestation {

BaselineEntry entry_of(const Measurement& measurement, const Explanations& explanations);
// "GRUB 2.06 (EFI/debian/grubx64.efi)", "db", "kernel command line \"…\""; never empty.
std::string name_of(const BaselineEntry& entry);

}  // namespace hf::attestation
