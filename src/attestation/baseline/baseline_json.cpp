#include <fmt/format.h>

#include <algorithm>

#include "attestation/baseline/baseline.h"
#include "attestation/policy/strict_json.h"
#include "base/base64.h"

namespace hf::attestation {
namespace {

using sys::JsonArray;
using sys::JsonObject;
using sys::JsonValue;

constexpr uint64_t kBaselineVersion = 1;
constexpr size_t kSignersMax = 16;
constexpr size_t kVariablesMax = 16;
constexpr size_t kVariableSizeMax = size_t{128} << 10;
constexpr size_t kChangeListMax = 1024;

Result<std::string> bounded_string(const JsonObject& object, std::string_view name,
                                   size_t max = kBaselineTextMax) {
  if (!sys::has_member(object, name)) return std::string();
  const std::string_view text = TRY(sys::get_text(object, name));
  if (text.size() > max) return invalid(fmt::format("member \"{}\" is too long", name));
  return std::string(text);
}

Result<uint8_t> pcr_from(uint64_t number) {
  if (number >= kPcrCount) return invalid(fmt::format("PCR {} does not exist", number));
  return static_cast<uint8_t>(number);
}

// Of a bank's size; the bank is checked where it is known.
Result<Bytes> digest_from(const JsonObject& object, std::string_view name) {
  Bytes digest = TRY(from_hex(TRY(sys::get_text(object, name))));
  bool right =
      std::ranges::any_of(kHashAlgs, [&](HashAlg alg) { return digest.size() == size_of(alg); });
  if (!right) return invalid(fmt::format("member \"{}\" is not a digest", name));
  return digest;
}

Result<BaselineEntry> entry_from(const JsonValue& value) {
  if (!value.is_object()) return invalid("it is not an object");
  const JsonObject& object = value.get_object();
  TRY(only_members(object, {"pcr", "digest", "kind", "what", "signers", "text"}));
  BaselineEntry entry;
  entry.pcr = TRY(pcr_from(TRY(sys::get_u64(object, "pcr"))));
  entry.digest = TRY(digest_from(object, "digest"));
  if (sys::has_member(object, "kind")) {
    const std::string_view kind = TRY(sys::get_text(object, "kind"));
    std::optional<MeasurementKind> known = parse_measurement_kind(kind);
    if (!known) return invalid(fmt::format("\"{}\" is not a kind", kind.substr(0, 32)));
    entry.kind = *known;
  }
  entry.what = TRY(bounded_string(object, "what"));
  entry.text = TRY(bounded_string(object, "text"));
  entry.signers = TRY(sys::get_strings_or_empty(object, "signers"));
  if (entry.signers.size() > kSignersMax) return too_many("signers", kSignersMax);
  return entry;
}

Result<std::vector<BaselineEntry>> entries_from(const JsonArray& array) {
  if (array.size() > kBaselineEntriesMax) return too_many("entries", kBaselineEntriesMax);
  std::vector<BaselineEntry> entries;
  entries.reserve(array.size());
  for (const JsonValue& value : array) {
    entries.push_back(TRY_CONTEXT(entry_from(value), fmt::format("entry {}", entries.size())));
  }
  return entries;
}

Result<KeyVariables> variables_from(const JsonObject& object) {
  KeyVariables variables;
  if (!sys::has_member(object, "variables")) return variables;
  const JsonObject& members = *TRY(sys::get_object(object, "variables"));
  if (members.size() > kVariablesMax) return too_many("variables", kVariablesMax);
  for (const auto& [key, value] : members) {
    std::string name(key.data(), key.size());
    Bytes content = TRY_CONTEXT(base64_decode(TRY(sys::get_text(members, name))), name);
    if (name.empty() || name.size() > 64 || content.size() > kVariableSizeMax) {
      return invalid("a variable's name or content is too long");
    }
    variables[name] = std::move(content);
  }
  return variables;
}

Result<BaselineBoot> boot_from(const JsonValue& value) {
  if (!value.is_object()) return invalid("it is not an object");
  const JsonObject& object = value.get_object();
  TRY(only_members(object, {"boot_id", "learned_us", "bank", "entries", "variables"}));
  BaselineBoot boot;
  boot.boot_id = TRY(bounded_string(object, "boot_id", 64));
  boot.learned = Micros(TRY(sys::get_u64(object, "learned_us")));
  std::optional<HashAlg> bank = parse_hash_alg(TRY(sys::get_string(object, "bank")));
  if (!bank) return invalid("\"bank\" is not a bank");
  boot.bank = *bank;
  boot.entries = TRY(entries_from(*TRY(sys::get_array(object, "entries"))));
  for (const BaselineEntry& entry : boot.entries) {
    if (entry.digest.size() != size_of(boot.bank)) return invalid("a digest of another bank");
  }
  boot.variables = TRY(variables_from(object));
  return boot;
}

template <typename T, typename Read>
Status read_list(const JsonObject& object, std::string_view name, std::vector<T>& into,
                 Read&& read) {
  if (!sys::has_member(object, name)) return {};
  const JsonArray& array = *TRY(sys::get_array(object, name));
  if (array.size() > kChangeListMax) return too_many(name, kChangeListMax);
  for (const JsonValue& value : array) {
    if (!value.is_object()) return invalid(fmt::format("\"{}\" has what is not an object", name));
    into.push_back(TRY_CONTEXT(read(value.get_object()), fmt::format("\"{}\"", name)));
  }
  return {};
}

Result<PlannedChange::Digests> digests_from(const JsonObject& object) {
  TRY(only_members(object, {"pcr", "was", "is", "what"}));
  PlannedChange::Digests digests;
  digests.pcr = TRY(pcr_from(TRY(sys::get_u64(object, "pcr"))));
  digests.was = TRY(digest_from(object, "was"));
  digests.is = TRY(digest_from(object, "is"));
  digests.what = TRY(bounded_string(object, "what"));
  if (digests.was.size() != digests.is.size()) return invalid("digests of different banks");
  return digests;
}

Result<PlannedChange::Text> text_from(const JsonObject& object) {
  TRY(only_members(object, {"was", "is"}));
  return PlannedChange::Text{.was = TRY(bounded_string(object, "was")),
                             .is = TRY(bounded_string(object, "is"))};
}

Result<PlannedChange::Sequence> sequence_from(const JsonObject& object) {
  TRY(only_members(object, {"pcr", "entries"}));
  PlannedChange::Sequence sequence;
  sequence.pcr = TRY(pcr_from(TRY(sys::get_u64(object, "pcr"))));
  sequence.entries = TRY(entries_from(*TRY(sys::get_array(object, "entries"))));
  for (const BaselineEntry& entry : sequence.entries) {
    if (entry.pcr != sequence.pcr) return invalid("an entry of another PCR");
  }
  return sequence;
}

JsonArray entries_to_json(const std::vector<BaselineEntry>& entries) {
  JsonArray array;
  array.reserve(entries.size());
  for (const BaselineEntry& entry : entries) {
    JsonObject object;
    object["pcr"] = entry.pcr;
    object["digest"] = to_hex(entry.digest);
    if (entry.kind != MeasurementKind::kOther) object["kind"] = name_of(entry.kind);
    if (!entry.what.empty()) object["what"] = entry.what;
    if (!entry.text.empty()) object["text"] = entry.text;
    if (!entry.signers.empty()) {
      object["signers"] = JsonArray(entry.signers.begin(), entry.signers.end());
    }
    array.emplace_back(std::move(object));
  }
  return array;
}

JsonObject variables_to_json(const KeyVariables& variables) {
  JsonObject object;
  for (const auto& [name, content] : variables) object[name] = base64_encode(content);
  return object;
}

}  // namespace

Result<PlannedChange> planned_change_from(const JsonObject& object) {
  TRY(only_members(object, {"id", "why", "announced_us", "expires_us", "digests", "texts",
                            "sequences", "variables", "open_pcrs", "grub_config"}));
  PlannedChange change;
  change.id = TRY(bounded_string(object, "id", 64));
  change.why = TRY(bounded_string(object, "why"));
  change.announced = Micros(TRY(sys::get_u64_or(object, "announced_us", 0)));
  change.expires = Micros(TRY(sys::get_u64(object, "expires_us")));
  TRY(read_list(object, "digests", change.digests, digests_from));
  TRY(read_list(object, "texts", change.texts, text_from));
  TRY(read_list(object, "sequences", change.sequences, sequence_from));
  change.variables = TRY(variables_from(object));
  change.grub_config = TRY(sys::get_bool_or(object, "grub_config", false));
  if (!sys::has_member(object, "open_pcrs")) return change;
  const JsonArray& open = *TRY(sys::get_array(object, "open_pcrs"));
  if (open.size() > kPcrCount) return too_many("open_pcrs", kPcrCount);
  for (const JsonValue& value : open) {
    if (!value.is_int64() || value.get_int64() < 0) return invalid("\"open_pcrs\": not a number");
    change.open_pcrs.push_back(TRY(pcr_from(static_cast<uint64_t>(value.get_int64()))));
  }
  return change;
}

JsonObject to_json(const PlannedChange& change) {
  JsonObject object;
  object["id"] = change.id;
  object["why"] = change.why;
  object["announced_us"] = change.announced.value;
  object["expires_us"] = change.expires.value;
  JsonArray digests;
  for (const PlannedChange::Digests& d : change.digests) {
    digests.emplace_back(
        JsonObject{{"pcr", d.pcr}, {"was", to_hex(d.was)}, {"is", to_hex(d.is)}, {"what", d.what}});
  }
  object["digests"] = std::move(digests);
  JsonArray texts;
  for (const PlannedChange::Text& text : change.texts) {
    texts.emplace_back(JsonObject{{"was", text.was}, {"is", text.is}});
  }
  object["texts"] = std::move(texts);
  JsonArray sequences;
  for (const PlannedChange::Sequence& sequence : change.sequences) {
    sequences.emplace_back(
        JsonObject{{"pcr", sequence.pcr}, {"entries", entries_to_json(sequence.entries)}});
  }
  object["sequences"] = std::move(sequences);
  object["variables"] = variables_to_json(change.variables);
  object["open_pcrs"] = JsonArray(change.open_pcrs.begin(), change.open_pcrs.end());
  if (change.grub_config) object["grub_config"] = true;
  return object;
}

Result<Baseline> baseline_from(const JsonObject& object) {
  TRY(only_members(object, {"version", "boots", "planned"}));
  if (uint64_t version = TRY(sys::get_u64(object, "version")); version != kBaselineVersion) {
    return invalid(fmt::format("a baseline of version {}; this program reads version {}", version,
                               kBaselineVersion));
  }
  Baseline baseline;
  const JsonArray& boots = *TRY(sys::get_array(object, "boots"));
  if (boots.size() > kBaselineBootsMax) return too_many("boots", kBaselineBootsMax);
  for (const JsonValue& value : boots) {
    baseline.boots.push_back(
        TRY_CONTEXT(boot_from(value), fmt::format("boot {}", baseline.boots.size())));
  }
  const JsonArray& planned = *TRY(sys::get_array(object, "planned"));
  if (planned.size() > kPlannedChangesMax) return too_many("planned", kPlannedChangesMax);
  for (const JsonValue& value : planned) {
    if (!value.is_object()) return invalid("a planned change is not an object");
    baseline.planned.push_back(
        TRY_CONTEXT(planned_change_from(value.get_object()),
                    fmt::format("planned change {}", baseline.planned.size())));
  }
  return baseline;
}

Result<Baseline> parse_baseline(std::string_view json) {
  // Thousands of small values that are read and dropped: one piece of memory for all of them.
  boost::json::monotonic_resource memory(2 * std::min(json.size(), kBaselineJsonMax));
  auto object = sys::parse_json_object(
      json, {.bytes_max = kBaselineJsonMax, .depth_max = 8, .storage = &memory});
  if (!object.ok()) return std::move(object).error().context("baseline");
  return TRY_CONTEXT(baseline_from(*object), "baseline");
}

JsonObject to_json(const Baseline& baseline) {
  JsonArray boots;
  for (const BaselineBoot& boot : baseline.boots) {
    JsonObject object;
    object["boot_id"] = boot.boot_id;
    object["learned_us"] = boot.learned.value;
    object["bank"] = name_of(boot.bank);
    object["entries"] = entries_to_json(boot.entries);
    object["variables"] = variables_to_json(boot.variables);
    boots.emplace_back(std::move(object));
  }
  JsonArray planned;
  for (const PlannedChange& change : baseline.planned) planned.emplace_back(to_json(change));
  JsonObject object;
  object["version"] = kBaselineVersion;
  object["boots"] = std::move(boots);
  object["planned"] = std::move(planned);
  return object;
}

}  // namespace hf::attestation
