#include "attestation/baseline/disk_knowledge.h"

#include <set>

namespace hf::attestation {
namespace {

constexpr uint32_t kProgramPcr = 4;

std::vector<std::string> signers_of(const secure_boot::BootPart& part) {
  std::vector<std::string> signers;
  for (const secure_boot::SignatureReport& signature : part.signatures) {
    if (!signature.error.empty() || !signature.covers_image) continue;
    signers.push_back(part.verdict.authority
                          ? signature.signer
                          : signature.signer + " (whom the VM's keys do not trust)");
  }
  return signers;
}

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

sys::JsonObject to_json(const FileExplanation& file) {
  sys::JsonArray signers;
  for (const std::string& signer : file.signers) signers.emplace_back(signer);
  return {{"digest", to_hex(file.digest)},
          {"what", file.what},
          {"path", file.path},
          {"signers", std::move(signers)}};
}

std::string to_text(const DiskKnowledge& knowledge, size_t files_max, size_t programs_max) {
  sys::JsonArray files;
  for (const FileExplanation& file : knowledge.files) {
    if (files.size() == files_max) break;
    files.push_back(to_json(file));
  }
  sys::JsonArray programs = secure_boot::to_json(knowledge.programs);
  if (programs.size() > programs_max) programs.resize(programs_max);
  return sys::to_text(sys::JsonObject{
      {"version", 1}, {"files", std::move(files)}, {"programs", std::move(programs)}});
}

}  // namespace

DiskKnowledge disk_knowledge_of(const secure_boot::PreflightReport& report, HashAlg bank) {
  return {.files = explanations_of(report, bank),
          .programs = secure_boot::signed_programs_of(report)};
}

std::string to_text(const DiskKnowledge& knowledge) {
  // What a guest put on its disk decides how long names and signatures are.
  size_t programs = secure_boot::kSignedProgramsMax;
  for (size_t files = kFileExplanationsMax;; files /= 2, programs /= 2) {
    std::string text = to_text(knowledge, files, programs);
    if (text.size() <= kDiskKnowledgeBytesMax || files == 0) return text;
  }
}

Result<DiskKnowledge> parse_disk_knowledge(std::string_view text) {
  DiskKnowledge knowledge;
  if (text.empty()) return knowledge;
  sys::JsonObject json = TRY(sys::parse_json_object(text, {.bytes_max = kDiskKnowledgeBytesMax}));
  for (const sys::JsonValue& item : *TRY(sys::get_array(json, "files"))) {
    if (!item.is_object() || knowledge.files.size() == kFileExplanationsMax) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "a broken list of explanations"};
    }
    const sys::JsonObject& file = item.get_object();
    knowledge.files.push_back({.digest = TRY(from_hex(TRY(sys::get_string(file, "digest")))),
                               .what = TRY(sys::get_string(file, "what")),
                               .path = TRY(sys::get_string(file, "path")),
                               .signers = TRY(sys::get_strings_or_empty(file, "signers"))});
  }
  knowledge.programs =
      TRY(secure_boot::signed_programs_from_json(*TRY(sys::get_array(json, "programs"))));
  return knowledge;
}

}  // namespace hf::attestation
