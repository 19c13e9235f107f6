// What the preflight read off the disk, as explanations of digests.
#pragma once

#include "attestation/measured_boot.h"
#include "secure_boot/preflight.h"

namespace hf::attestation {

// Programs with what they are, their path and signers; everything else in the report's words. Of
// one bank.
std::vector<FileExplanation> explanations_of(const secure_boot::PreflightReport& report,
                                             HashAlg bank);

}  // namespace hf::attestation
