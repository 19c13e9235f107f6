#include "attestation/baseline/pcr7.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "attestation/baseline/entry_words.h"
#include "attestation/boot/known_measurements.h"
#include "attestation/log/variable_data.h"
#include "attestation/words/database_change.h"
#include "attestation/words/quoted.h"
#include "base/text.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::attestation {
namespace {

using secure_boot::SignatureDatabase;

constexpr std::array<std::string_view, 4> kKeyNames = {"PK", "KEK", "db", "dbx"};

Bytes digest_of(HashAlg bank, const secure_boot::Guid& vendor, std::string_view name,
                ByteSpan content) {
  HashValue value = hash(bank, variable_data(vendor, name, content));
  return {value.bytes().begin(), value.bytes().end()};
}

ByteSpan content_of(const KeyVariables& variables, std::string_view name) {
  auto found = variables.find(name);
  return found == variables.end() ? ByteSpan() : ByteSpan(found->second);
}

bool has_entry(ByteSpan database, ByteSpan entry) {
  auto parsed = SignatureDatabase::parse(database);
  if (!parsed.ok()) return false;
  for (const secure_boot::SignatureList& list : parsed->lists()) {
    for (const secure_boot::Signature& signature : list.signatures) {
      Bytes data(signature.owner.bytes.begin(), signature.owner.bytes.end());
      data.insert(data.end(), signature.data.begin(), signature.data.end());
      if (equal(data, entry)) return true;
    }
  }
  return false;
}

class Prediction {
 public:
  explicit Prediction(const Pcr7Input& input) : input_(input) {
    prediction_.bank = input.previous->bank();
  }

  Result<Pcr7Prediction> run() {
    if (input_.authorities_before.size() != input_.authorities_after.size()) {
      return Error{
          .code = ErrorCode::kConflict,
          .cause = fmt::format("with the keys as they are {} boot programs are vouched "
                               "for, with the new keys {}",
                               input_.authorities_before.size(), input_.authorities_after.size()),
          .effect = "the VM would not start",
          .mend =
              "keep the certificate that signed the missing one in db (holdfast vm "
              "check says which), or replace the program first"};
    }
    bool any = false;
    for (const Measurement& m : input_.previous->measurements()) {
      if (m.pcr != 7) continue;
      any = true;
      TRY(next(m));
    }
    if (!any) {
      return Error{.code = ErrorCode::kNotFound, .cause = "the boot measured nothing into PCR 7"};
    }
    PcrBank bank(prediction_.bank);
    for (const BaselineEntry& entry : prediction_.entries) bank.extend(7, entry.digest);
    prediction_.value.assign(bank.value(7).begin(), bank.value(7).end());
    return std::move(prediction_);
  }

 private:
  Status next(const Measurement& m) {
    if (m.kind == MeasurementKind::kKeyVariable) return next_variable(m);
    if (m.kind == MeasurementKind::kAuthority) return next_authority(m);
    keep(m);
    return {};
  }

  void keep(const Measurement& m) { prediction_.entries.push_back(entry_of(m, {})); }

  // Of the five, by name; by digest where the name could not be read.
  std::string_view key_name(const Measurement& m) const {
    for (std::string_view name : kKeyNames) {
      if (m.name == name) return name;
      Bytes digest =
          digest_of(prediction_.bank, vendor_of(name), name, content_of(input_.before, name));
      if (m.name.empty() && equal(m.digest, digest)) return name;
    }
    return m.name;
  }

  Status next_variable(const Measurement& m) {
    std::string_view name = key_name(m);
    if (name == "SecureBoot") {
      auto pk = input_.after.find("PK");
      // Without a platform key the firmware is in setup mode, and Secure Boot is off.
      bool off = pk != input_.after.end() && pk->second.empty();
      put_variable(m, name, off ? Bytes(1) : Bytes(m.content.begin(), m.content.end()));
      return {};
    }
    auto after = input_.after.find(name);
    if (after == input_.after.end()) {
      if (name.empty() && changes_anything()) {
        return Error{.code = ErrorCode::kNotFound,
                     .cause = fmt::format("extend {} of PCR 7 is of a variable that is not known "
                                          "as it was at the last boot",
                                          m.nth),
                     .mend =
                         "start the VM once, so that its keys and its last boot are of one "
                         "time, then change them"};
      }
      keep(m);
      return {};
    }
    note_change(name, after->second);
    put_variable(m, name, after->second);
    return {};
  }

  bool changes_anything() const {
    return std::ranges::any_of(input_.after, [&](const auto& variable) {
      return !equal(variable.second, content_of(input_.before, variable.first));
    });
  }

  void put_variable(const Measurement& m, std::string_view name, const Bytes& content) {
    BaselineEntry entry = entry_of(m, {});
    if (!m.content.empty() || name != "SecureBoot") {
      entry.digest = digest_of(prediction_.bank, vendor_of(name), name, content);
    }
    if (name == "SecureBoot" && !content.empty()) {
      entry.what = content[0] == std::byte{1} ? "Secure Boot on" : "Secure Boot off";
    } else {
      entry.what = name;
    }
    prediction_.entries.push_back(std::move(entry));
  }

  void note_change(std::string_view name, ByteSpan after) {
    ByteSpan before = content_of(input_.before, name);
    if (equal(before, after)) return;
    DatabaseChange change = database_change(before, after);
    std::string words = fmt::format("{} changes", name);
    if (!change.added.empty()) words += ", added: " + joined(change.added, ", ");
    if (!change.removed.empty()) words += ", removed: " + joined(change.removed, ", ");
    prediction_.changes.push_back(std::move(words));
    if (name == "db" && change.added_count > 0 && input_.authorities_after.empty()) {
      prediction_.certain = false;
    }
  }

  Status next_authority(const Measurement& m) {
    bool found = false;
    std::vector<Bytes> put;
    for (size_t i = 0; i < input_.authorities_before.size(); ++i) {
      const secure_boot::Authority& before = input_.authorities_before[i];
      const secure_boot::Authority& after = input_.authorities_after[i];
      if (!equal(m.digest, digest(before))) continue;
      found = true;
      Bytes next = digest(after);
      if (std::ranges::find(put, next) != put.end()) continue;
      // Who measures an entry does so once: whether these two were of one who measures is a guess.
      for (const Put& earlier : put_) {
        if (earlier.next == next && !equal(m.digest, earlier.was)) prediction_.certain = false;
      }
      put_.push_back({.was = Bytes(m.digest.begin(), m.digest.end()), .next = next});
      put_authority(m, after, next);
      put.push_back(std::move(next));
    }
    if (put.size() > 1) prediction_.certain = false;
    return found ? Status{} : unexplained_authority(m);
  }

  Bytes digest(const secure_boot::Authority& authority) const {
    return digest_of(prediction_.bank, authority.vendor, authority.variable, authority.data);
  }

  void put_authority(const Measurement& m, const secure_boot::Authority& after, const Bytes& next) {
    BaselineEntry entry = entry_of(m, {});
    if (!equal(m.digest, next)) {
      prediction_.changes.push_back(fmt::format("a program will be vouched for by {} instead of {}",
                                                after.words, name_of(entry)));
      entry.what = clean_text(fmt::format("{}: {}", after.variable, after.words), kBaselineTextMax);
      entry.digest = next;
    }
    prediction_.entries.push_back(std::move(entry));
  }

  // Nobody said which program this vouched for: it stays, if it can.
  Status unexplained_authority(const Measurement& m) {
    auto db = input_.after.find("db");
    bool gone = db != input_.after.end() && m.name == "db" && !m.content.empty() &&
                !has_entry(db->second, m.content);
    if (gone) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = fmt::format("{} vouched for a program at the last boot, and leaves db",
                                        name_of(entry_of(m, {}))),
                   .effect = "which entry vouches for it then, or whether it starts, is not known",
                   .mend = "check the disk with the new keys first: holdfast vm check VM"};
    }
    keep(m);
    return {};
  }

  struct Put {
    Bytes was;
    Bytes next;
  };
  const Pcr7Input& input_;
  Pcr7Prediction prediction_;
  std::vector<Put> put_;  // authorities so far, by digest
};

}  // namespace

Result<Pcr7Prediction> predict_pcr7(const Pcr7Input& input) {
  HF_ASSERT(input.previous != nullptr);
  return Prediction(input).run();
}

PlannedChange key_change(const Pcr7Prediction& prediction, const KeyVariables& after,
                         std::string why, Micros expires) {
  PlannedChange change;
  change.why = std::move(why);
  change.expires = expires;
  change.sequences = {{.pcr = 7, .entries = prediction.entries}};
  change.variables = after;
  return change;
}

}  // namespace hf::attestation
