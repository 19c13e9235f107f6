// The report as JSON and as lines for a terminal.
#include <fmt/format.h>

#include "base/text.h"
#include "secure_boot/preflight/preflight.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kTextMax = 400;  // bytes of any one text of the disk's

void clean(std::string& text) { text = clean_text(text, kTextMax); }

void clean(BootPart& part) {
  clean(part.path);
  clean(part.detail);
  clean(part.verdict.reason);
  if (part.verdict.authority) clean(part.verdict.authority->words);
  for (SignatureReport& signature : part.signatures) {
    for (std::string* text : {&signature.signer, &signature.issuer, &signature.error}) clean(*text);
  }
  for (SbatComponent& component : part.sbat) {
    clean(component.name);
    clean(component.version);
  }
}

std::string_view text_of(PartitionStyle style) {
  switch (style) {
    case PartitionStyle::kGpt:
      return "GPT";
    case PartitionStyle::kMbr:
      return "MBR";
    case PartitionStyle::kElTorito:
      return "El Torito";
    case PartitionStyle::kUdf:
      return "UDF";
    case PartitionStyle::kNone:
      break;
  }
  return "none";
}

std::string_view text_of(Generation generation) {
  if (generation == Generation::kGen2) return "Gen2";
  return generation == Generation::kGen1 ? "Gen1" : "unknown";
}

sys::JsonArray strings(const std::vector<std::string>& texts) {
  sys::JsonArray out;
  for (const std::string& text : texts) out.emplace_back(text);
  return out;
}

sys::JsonArray signatures_json(const BootPart& part) {
  sys::JsonArray out;
  for (const SignatureReport& signature : part.signatures) {
    sys::JsonObject entry{{"signer", signature.signer},
                          {"issuer", signature.issuer},
                          {"algorithm", signature.algorithm},
                          {"covers_image", signature.covers_image}};
    if (!signature.error.empty()) entry["error"] = signature.error;
    out.push_back(std::move(entry));
  }
  return out;
}

sys::JsonObject part_json(const BootPart& part) {
  sys::JsonArray sbat;
  for (const SbatComponent& component : part.sbat) {
    sbat.push_back(sys::JsonObject{{"component", component.name},
                                   {"generation", component.generation},
                                   {"version", component.version}});
  }
  sys::JsonObject out{{"kind", to_string(part.kind)},
                      {"partition", part.partition},
                      {"path", part.path},
                      {"size_bytes", part.size_bytes},
                      {"judged_by", part.judged_by},
                      {"verdict", to_string(part.verdict.verdict)},
                      {"reason", part.verdict.reason},
                      {"signatures", signatures_json(part)},
                      {"sbat", std::move(sbat)},
                      {"nx_compatible", part.nx_compatible},
                      {"authenticode_sha256", part.authenticode_sha256},
                      {"file_sha256", part.file_sha256}};
  if (!part.detail.empty()) out["detail"] = part.detail;
  if (part.verdict.authority) {
    out["trusted_by"] = sys::JsonObject{{"variable", part.verdict.authority->variable},
                                        {"words", part.verdict.authority->words}};
  }
  return out;
}

sys::JsonArray partitions_json(const PreflightReport& report) {
  sys::JsonArray out;
  for (const Partition& partition : report.partitions) {
    sys::JsonObject entry{{"number", partition.number},
                          {"offset", partition.offset},
                          {"size_bytes", partition.size},
                          {"efi_system", partition.is_efi_system}};
    if (report.style == PartitionStyle::kGpt) {
      entry["type"] = partition.type.text();
      entry["id"] = partition.id.text();
      entry["name"] = partition.name;
    } else {
      entry["type"] = fmt::format("{:02x}", partition.mbr_type);
    }
    out.push_back(std::move(entry));
  }
  return out;
}

void part_words(const BootPart& part, std::string& out) {
  out += fmt::format("    {} {}{}: {}, {}\n", to_string(part.kind), part.path,
                     part.detail.empty() ? "" : " (" + part.detail + ")",
                     to_string(part.verdict.verdict), part.verdict.reason);
  for (const SignatureReport& signature : part.signatures) {
    out += signature.error.empty()
               ? fmt::format("      signed by {}, issued by {}{}\n", signature.signer,
                             signature.issuer,
                             signature.covers_image ? "" : "; for other bytes than these")
               : fmt::format("      a signature that cannot be read: {}\n", signature.error);
  }
  if (!part.authenticode_sha256.empty()) {
    out += fmt::format("      Authenticode SHA-256 {}\n", part.authenticode_sha256);
  }
}

}  // namespace

void make_printable(PreflightReport& report) {
  clean(report.summary);
  for (Partition& partition : report.partitions) clean(partition.name);
  for (std::string& warning : report.warnings) clean(warning);
  for (BootPath& path : report.paths) {
    clean(path.name);
    clean(path.reason);
    for (std::string& note : path.notes) clean(note);
    for (BootPart& part : path.parts) clean(part);
  }
}

sys::JsonObject to_json(const PreflightReport& report) {
  sys::JsonArray paths;
  for (const BootPath& path : report.paths) {
    sys::JsonArray parts;
    for (const BootPart& part : path.parts) parts.push_back(part_json(part));
    paths.push_back(sys::JsonObject{{"name", path.name},
                                    {"boots", to_string(path.boots)},
                                    {"reason", path.reason},
                                    {"notes", strings(path.notes)},
                                    {"parts", std::move(parts)}});
  }
  sys::JsonArray explained;
  for (const auto& [digest, explanation] : report.explanations()) {
    explained.push_back(sys::JsonObject{
        {"digest", digest}, {"pcr", explanation.pcr}, {"words", explanation.words}});
  }
  sys::JsonObject out{{"boots", to_string(report.boots)},
                      {"summary", report.summary},
                      {"profile", report.profile},
                      {"secure_boot", report.enforced},
                      {"partition_style", text_of(report.style)},
                      {"generation", text_of(report.generation)},
                      {"partitions", partitions_json(report)},
                      {"warnings", strings(report.warnings)},
                      {"paths", std::move(paths)},
                      {"explanations", std::move(explained)}};
  if (report.vbs) out["vbs"] = to_json(*report.vbs);
  return out;
}

std::string in_words(const PreflightReport& report) {
  std::string out =
      fmt::format("boots        {}\n             {}\n", to_string(report.boots), report.summary);
  out += fmt::format("profile      {}, Secure Boot {}\n", report.profile,
                     report.enforced ? "on" : "off");
  out += fmt::format("disk         {} partitions, {}\n", text_of(report.style),
                     text_of(report.generation));
  for (const std::string& warning : report.warnings) out += "warning      " + warning + "\n";
  for (const BootPath& path : report.paths) {
    out += fmt::format("{}\n    boots: {}; {}\n", path.name, to_string(path.boots), path.reason);
    for (const BootPart& part : path.parts) part_words(part, out);
    for (const std::string& note : path.notes) out += "    note: " + note + "\n";
  }
  if (report.vbs) out += "VBS          " + report.vbs->summary + "\n";
  return out;
}

}  // namespace hf::secure_boot
