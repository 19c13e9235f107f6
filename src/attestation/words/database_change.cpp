#include "attestation/words/database_change.h"

#include <fmt/format.h>

#include <set>

#include "attestation/words/quoted.h"
#include "base/text.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::attestation {
namespace {

constexpr size_t kNamedSignatures = 4;  // of a database's change; the rest is counted

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
