// What a reading of the VM's disk (secure_boot/preflight/preflight.h) leaves for the appraisal of
// its boots: what the digests of its boot files stand for, and who signed its boot programs.
//
// As JSON it goes from the keeper, which alone can read the disk of its VM, into the catalog and
// along with the VM's journal:
//   {"version":1,"files":[{"digest":hex,"what","path","signers":[…]}…],"programs":[…]}
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "attestation/boot/measured_boot.h"
#include "secure_boot/preflight/preflight.h"
#include "secure_boot/preflight/signed_program.h"
#include "sys/json.h"

namespace hf::attestation {

inline constexpr size_t kFileExplanationsMax = 512;
inline constexpr size_t kDiskKnowledgeBytesMax = size_t{512} << 10;  // as JSON

struct DiskKnowledge {
  std::vector<FileExplanation> files;
  std::vector<secure_boot::SignedProgram> programs;
  bool empty() const { return files.empty() && programs.empty(); }
};

// Programs with what they are, their path and signers, then everything else in the report's words.
// A signer is one whose signature is of these very bytes; one that the VM's keys do not trust is
// said to be so, since anybody can make a certificate with any name. Of one bank.
DiskKnowledge disk_knowledge_of(const secure_boot::PreflightReport& report, HashAlg bank);

// Bounded: the first kFileExplanationsMax files; of what is larger than kDiskKnowledgeBytesMax,
// fewer.
std::string to_text(const DiskKnowledge& knowledge);
// Empty text: nothing known. kInvalidArgument, kLimit.
Result<DiskKnowledge> parse_disk_knowledge(std::string_view text);

}  // namespace hf::attestation
