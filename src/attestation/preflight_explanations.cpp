#include "attestation/preflight_explanations.h"

#include <set>

namespace hf::attestation {
namespace {

constexpr uint32_t kProgramPcr = 4;

std::vector<std::string> signers_of(const secure_boot::BootPart& part) {
  std::vector<std::string> signers;
  for (const secure_boot::SignatureReport& signature : part.signatures) {
    if (signature.error.empty()) signers.push_back(signature.signer);
  }
  return signers;
}

}  // namespace

std::vector<FileExplanation> explanations_of(const secure_boot::PreflightReport& report,
                                             HashAlg bank) {
  std::vector<FileExplanation> files;
  std::set<std::string> programs;  // digests, hex
  if (bank == HashAlg::kSha256) {
    for (const secure_boot::BootPath& path : report.paths) {
      for (const secure_boot::BootPart& part : path.parts) {
        Result<Bytes> digest = from_hex(part.authenticode_sha256);
        if (!digest.ok() || !programs.insert(part.authenticode_sha256).second) continue;
        std::string what = part.detail.empty() ? std::string(to_string(part.kind)) : part.detail;
        files.push_back({.digest = std::move(*digest),
                         .what = std::move(what),
                         .path = part.path,
                         .signers = signers_of(part)});
      }
    }
  }
  for (const auto& [hex, explanation] : report.explanations()) {
    if (hex.size() != 2 * size_of(bank)) continue;
    if (explanation.pcr == kProgramPcr && programs.contains(hex)) continue;
    Result<Bytes> digest = from_hex(hex);
    if (digest.ok()) files.push_back({.digest = std::move(*digest), .what = explanation.words});
  }
  return files;
}

}  // namespace hf::attestation
