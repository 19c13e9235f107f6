#include "attestation/words/measurement_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "attestation/boot/boot_facts.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::attestation {
namespace {

constexpr size_t kWordsMax = 512;       // of a name that is kept
constexpr size_t kQuotedMax = 400;      // of guest text in a sentence
constexpr size_t kNamedSignatures = 4;  // of a database's change; the rest is counted

void explain_program(const FileExplanation& file, BaselineEntry& entry) {
  entry.what = file.path.empty() ? file.what : fmt::format("{} ({})", file.what, file.path);
  entry.signers = file.signers;
}

std::string authority_words(const Measurement& m) {
  std::optional<Authority> authority = read_authority(m);
  if (!authority) return m.name;
  return fmt::format("{}: {}", authority->source, authority->common_name);
}

std::string what_of(const Measurement& m) {
  switch (m.kind) {
    case MeasurementKind::kSeparator:
    case MeasurementKind::kAction:
    case MeasurementKind::kExitBootServices:
      return m.name;
    case MeasurementKind::kKeyVariable:
      if (m.name == "SecureBoot" && m.content.size() == 1) {
        return m.content[0] == std::byte{1} ? "Secure Boot on" : "Secure Boot off";
      }
      return m.name;
    case MeasurementKind::kAuthority:
      return authority_words(m);
    case MeasurementKind::kShimState:
      return m.name == "SbatLevel" ? "SBAT level " + quoted(as_text(m.content)) : m.name;
    default:
      return {};
  }
}

// What a database has, whoever owns it; databases of a megabyte are compared in one pass.
class Entries {
 public:
  explicit Entries(const secure_boot::SignatureDatabase& database) {
    for (const secure_boot::SignatureList& list : database.lists()) {
      for (const secure_boot::Signature& signature : list.signatures) {
        entries_.emplace(list.type.bytes, as_text(signature.data));
      }
    }
  }
  bool contain(const secure_boot::Guid& type, ByteSpan data) const {
    return entries_.contains({type.bytes, as_text(data)});
  }

 private:
  std::set<std::pair<decltype(secure_boot::Guid::bytes), std::string_view>> entries_;
};

// Names of what is in one database and not in the other.
std::vector<std::string> named(const secure_boot::SignatureDatabase& database,
                               const Entries& without, size_t& count) {
  std::vector<std::string> names;
  count = 0;
  for (const secure_boot::SignatureList& list : database.lists()) {
    for (const secure_boot::Signature& signature : list.signatures) {
      if (without.contain(list.type, signature.data)) continue;
      if (++count > kNamedSignatures) continue;
      secure_boot::SignatureWords words = secure_boot::describe(list, signature);
      names.push_back(words.type == "X509" ? fmt::format("{} (SHA-256 {}…)", quoted(words.title),
                                                         words.fingerprint.substr(0, 16))
                                           : fmt::format("{} {}", words.type, words.title));
    }
  }
  if (count > kNamedSignatures) names.push_back(fmt::format("{} more", count - kNamedSignatures));
  return names;
}

}  // namespace

std::string short_hex(ByteSpan digest) {
  return to_hex(digest.first(std::min<size_t>(8, digest.size()))) + "…";
}

std::string quoted(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0')) text.remove_suffix(1);
  return fmt::format("\"{}{}\"", clean_text(text, kQuotedMax), text.size() > kQuotedMax ? "…" : "");
}

std::string joined(const std::vector<std::string>& words, std::string_view separator) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += separator;
    out += word;
  }
  return out;
}

BaselineEntry entry_of(const Measurement& m, const Explanations& explanations) {
  BaselineEntry entry{.pcr = m.pcr,
                      .digest = {m.digest.begin(), m.digest.end()},
                      .kind = m.kind,
                      .what = what_of(m)};
  if (m.text.size() <= kBaselineTextMax) entry.text = m.text;
  if (const FileExplanation* file = explanations.find(m.digest)) explain_program(*file, entry);
  entry.what = clean_text(entry.what, kWordsMax);
  return entry;
}

std::string name_of(const BaselineEntry& entry) {
  if (entry.kind == MeasurementKind::kKernelCommandLine && !entry.text.empty()) {
    return "the kernel command line " + quoted(entry.text);
  }
  if (!entry.what.empty()) return entry.what;
  if (!entry.text.empty()) return "the command " + quoted(entry.text);
  switch (entry.kind) {
    case MeasurementKind::kProgram:
      return "a program";
    case MeasurementKind::kKernelCommandLine:
      return "a kernel command line";
    case MeasurementKind::kFile:
      return "a file that the boot loader read";
    case MeasurementKind::kText:
      return "a command of the boot loader";
    case MeasurementKind::kMok:
      return "a list of shim's (MOK)";
    case MeasurementKind::kKeyVariable:
      return "a Secure Boot variable";
    case MeasurementKind::kAuthority:
      return "a certificate that vouched for a program";
    case MeasurementKind::kBootVariable:
      return "a boot setting";
    default:
      break;
  }
  if (entry.pcr == 0) return "a part of the firmware";
  return entry.pcr == 5 ? "the partition table or a boot attempt" : "a measurement";
}

DatabaseChange database_change(ByteSpan was, ByteSpan is) {
  DatabaseChange change;
  auto before = secure_boot::SignatureDatabase::parse(was);
  auto after = secure_boot::SignatureDatabase::parse(is);
  if (!before.ok() || !after.ok()) return change;
  change.readable = true;
  change.added = named(*after, Entries(*before), change.added_count);
  change.removed = named(*before, Entries(*after), change.removed_count);
  return change;
}

}  // namespace hf::attestation
