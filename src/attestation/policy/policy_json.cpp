#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "attestation/policy/policy.h"
#include "attestation/policy/strict_json.h"

namespace hf::attestation {
namespace {

using sys::JsonArray;
using sys::JsonObject;
using sys::JsonValue;

constexpr uint64_t kPolicyVersion = 1;

constexpr std::array<std::pair<std::string_view, PcrRule>, 4> kRules = {{
    {"ignore", PcrRule::kIgnore},
    {"note", PcrRule::kNote},
    {"baseline", PcrRule::kBaseline},
    {"signed", PcrRule::kSigned},
}};
constexpr std::array<std::pair<std::string_view, Need>, 2> kNeeds = {{
    {"required", Need::kRequired},
    {"optional", Need::kOptional},
}};
constexpr std::array<std::pair<std::string_view, Allow>, 2> kAllows = {{
    {"allow", Allow::kAllow},
    {"refuse", Allow::kRefuse},
}};
constexpr std::array<std::pair<std::string_view, KeyNeed>, 3> kKeyNeeds = {{
    {"pinned", KeyNeed::kPinned},
    {"certified", KeyNeed::kCertified},
    {"any", KeyNeed::kAny},
}};

template <typename T, size_t N>
Status read_choice(const JsonObject& object, std::string_view name,
                   const std::array<std::pair<std::string_view, T>, N>& choices, T& into) {
  if (!sys::has_member(object, name)) return {};
  std::string text = TRY(sys::get_string(object, name));
  std::string known;
  for (const auto& [word, value] : choices) {
    if (word == text) {
      into = value;
      return {};
    }
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", word);
  }
  return invalid(fmt::format("member \"{}\" is not one of {}", name, known));
}

template <typename T, size_t N>
std::string choice_text(T value, const std::array<std::pair<std::string_view, T>, N>& choices) {
  auto found = std::ranges::find(choices, value, &std::pair<std::string_view, T>::second);
  HF_ASSERT(found != choices.end());
  return std::string(found->first);
}

Status read_texts(const JsonObject& object, std::string_view name, std::vector<std::string>& into) {
  if (!sys::has_member(object, name)) return {};
  std::vector<std::string> texts = TRY(sys::get_strings(object, name));
  if (texts.size() > kPolicyListMax) return too_many(name, kPolicyListMax);
  for (const std::string& text : texts) {
    if (text.empty() || text.size() > kPolicyTextMax) {
      return invalid(fmt::format("an entry of \"{}\" is empty or too long", name));
    }
  }
  into = std::move(texts);
  return {};
}

Result<SignerPattern> pattern_from(const JsonValue& value) {
  if (!value.is_object()) return invalid("a signer is not an object");
  const JsonObject& object = value.get_object();
  TRY(only_members(object, {"sha256", "subject"}));
  SignerPattern pattern;
  if (sys::has_member(object, "sha256")) {
    pattern.sha256 = TRY(Digest::parse_hex(TRY(sys::get_string(object, "sha256"))));
  }
  pattern.subject = TRY(sys::get_string_or(object, "subject", ""));
  if (!pattern.sha256 && pattern.subject.empty()) {
    return invalid("a signer has neither \"sha256\" nor \"subject\"");
  }
  if (pattern.subject.size() > kPolicyTextMax) return invalid("a signer's subject is too long");
  return pattern;
}

Result<std::vector<SignerPattern>> patterns_from(const JsonObject& object, std::string_view name) {
  const JsonArray& array = *TRY(sys::get_array(object, name));
  if (array.size() > kPolicyListMax) return too_many(name, kPolicyListMax);
  std::vector<SignerPattern> patterns;
  for (const JsonValue& value : array) {
    patterns.push_back(TRY_CONTEXT(pattern_from(value), fmt::format("\"{}\"", name)));
  }
  return patterns;
}

Status read_patterns(const JsonObject& object, std::string_view name,
                     std::vector<SignerPattern>& into) {
  if (sys::has_member(object, name)) into = TRY(patterns_from(object, name));
  return {};
}

// "sha256:HEX"
Result<PcrDigest> pcr_value_from(std::string_view text) {
  size_t colon = text.find(':');
  std::optional<HashAlg> alg = parse_hash_alg(text.substr(0, colon));
  if (colon == std::string_view::npos || !alg) {
    return invalid(fmt::format("\"{}\" is not BANK:HEX", text.substr(0, 80)));
  }
  Bytes bytes = TRY(from_hex(text.substr(colon + 1)));
  if (bytes.size() != size_of(*alg)) {
    return invalid(
        fmt::format("\"{}\" has not the length of a {} digest", text.substr(0, 80), name_of(*alg)));
  }
  return PcrDigest{.alg = *alg, .bytes = std::move(bytes)};
}

Result<PcrPolicy> pcr_policy_from(const JsonValue& value) {
  PcrPolicy pcr;
  if (value.is_string()) {
    std::string_view text(value.get_string().data(), value.get_string().size());
    auto found = std::ranges::find(kRules, text, &std::pair<std::string_view, PcrRule>::first);
    if (found == kRules.end()) {
      return invalid(R"(it is not "baseline", "signed", "note", "ignore" or {"values": […]})");
    }
    pcr.rule = found->second;
    return pcr;
  }
  if (!value.is_object()) return invalid("it is neither a rule nor a set of values");
  const JsonObject& object = value.get_object();
  TRY(only_members(object, {"values"}));
  std::vector<std::string> texts = TRY(sys::get_strings(object, "values"));
  if (texts.empty()) return invalid("\"values\" is empty");
  if (texts.size() > kPolicyListMax) return too_many("values", kPolicyListMax);
  pcr.rule = PcrRule::kValues;
  for (const std::string& text : texts) pcr.values.push_back(TRY(pcr_value_from(text)));
  return pcr;
}

Status read_pcrs(const JsonObject& object, Policy& policy) {
  if (!sys::has_member(object, "pcrs")) return {};
  for (const auto& [key, value] : *TRY(sys::get_object(object, "pcrs"))) {
    std::string_view name(key.data(), key.size());
    std::optional<uint64_t> pcr = small_decimal(name);
    if (!pcr || *pcr >= kPcrCount) {
      return invalid(fmt::format("\"pcrs\": \"{}\" is not a register from 0 to {}",
                                 name.substr(0, 32), kPcrCount - 1));
    }
    policy.pcrs[*pcr] = TRY_CONTEXT(pcr_policy_from(value), fmt::format("\"pcrs\": {}", name));
  }
  return {};
}

Status read_banks(const JsonObject& object, Policy& policy) {
  std::vector<std::string> names;
  TRY(read_texts(object, "banks", names));
  if (!sys::has_member(object, "banks")) return {};
  policy.banks.clear();
  for (const std::string& name : names) {
    std::optional<HashAlg> alg = parse_hash_alg(name);
    if (!alg || std::ranges::find(policy.banks, *alg) != policy.banks.end()) {
      return invalid(fmt::format("\"banks\": \"{}\" is not a bank, or is there twice", name));
    }
    policy.banks.push_back(*alg);
  }
  if (policy.banks.empty()) return invalid("\"banks\" is empty");
  return {};
}

Status read_evidence(const JsonObject& object, Policy& policy) {
  if (!sys::has_member(object, "evidence")) return {};
  const JsonObject& evidence = *TRY(sys::get_object(object, "evidence"));
  TRY(only_members(evidence, {"quote", "event_log", "attestation_key"}));
  TRY(read_choice(evidence, "quote", kNeeds, policy.quote));
  TRY(read_choice(evidence, "event_log", kNeeds, policy.event_log));
  return read_choice(evidence, "attestation_key", kKeyNeeds, policy.attestation_key);
}

Status read_mok(const JsonObject& object, Policy& policy) {
  if (!sys::has_member(object, "mok")) return {};
  policy.mok_allowed.clear();
  if (object.at("mok").is_array()) {
    policy.mok = MokRule::kListed;
    return read_patterns(object, "mok", policy.mok_allowed);
  }
  std::string text = TRY(sys::get_string(object, "mok"));
  if (text != "any" && text != "none") {
    return invalid(R"(member "mok" is not "any", "none" or a list of signers)");
  }
  policy.mok = text == "any" ? MokRule::kAny : MokRule::kNone;
  return {};
}

Status read_dbx(const JsonObject& object, Policy& policy) {
  if (!sys::has_member(object, "dbx")) return {};
  const JsonObject& dbx = *TRY(sys::get_object(object, "dbx"));
  TRY(only_members(dbx, {"growth", "entries_min", "contains"}));
  TRY(read_choice(dbx, "growth", kAllows, policy.dbx_growth));
  policy.dbx_entries_min = TRY(sys::get_u64_or(dbx, "entries_min", policy.dbx_entries_min));
  std::vector<std::string> texts;
  TRY(read_texts(dbx, "contains", texts));
  if (!sys::has_member(dbx, "contains")) return {};
  policy.dbx_contains.clear();
  for (const std::string& text : texts) {
    policy.dbx_contains.push_back(TRY_CONTEXT(from_hex(text), "\"dbx\": \"contains\""));
  }
  return {};
}

Status read_keys(const JsonObject& object, Policy& policy) {
  if (!sys::has_member(object, "keys")) return {};
  const JsonObject& keys = *TRY(sys::get_object(object, "keys"));
  TRY(only_members(keys, {"PK", "KEK", "db"}));
  policy.keys.clear();
  for (const auto& [key, value] : keys) {
    std::string name(key.data(), key.size());
    policy.keys[name] = TRY(patterns_from(keys, name));
  }
  return {};
}

Status read_sbat(const JsonObject& object, Policy& policy) {
  if (!sys::has_member(object, "sbat_level")) return {};
  const JsonObject& levels = *TRY(sys::get_object(object, "sbat_level"));
  if (levels.size() > kPolicyListMax) return too_many("sbat_level", kPolicyListMax);
  policy.sbat_level.clear();
  for (const auto& [key, value] : levels) {
    std::string component(key.data(), key.size());
    policy.sbat_level[component] = TRY(sys::get_u64(levels, component));
  }
  return {};
}

Status read_secure_boot(const JsonObject& object, Policy& policy) {
  if (!sys::has_member(object, "secure_boot")) return {};
  const JsonObject& secure_boot = *TRY(sys::get_object(object, "secure_boot"));
  TRY(only_members(secure_boot, {"state", "keys", "signers", "refused_signers", "test_signers",
                                 "mok", "dbx", "sbat_level"}));
  TRY(read_choice(secure_boot, "state", kNeeds, policy.secure_boot));
  TRY(read_choice(secure_boot, "test_signers", kAllows, policy.test_signers));
  TRY(read_patterns(secure_boot, "signers", policy.signers));
  TRY(read_patterns(secure_boot, "refused_signers", policy.refused_signers));
  TRY(read_keys(secure_boot, policy));
  TRY(read_mok(secure_boot, policy));
  TRY(read_dbx(secure_boot, policy));
  return read_sbat(secure_boot, policy);
}

Status read_command_line(const JsonObject& object, Policy& policy) {
  if (!sys::has_member(object, "kernel_command_line")) return {};
  const JsonObject& rules = *TRY(sys::get_object(object, "kernel_command_line"));
  TRY(only_members(rules, {"contains", "excludes", "equals", "starts_with", "like"}));
  policy.kernel_command_line = {};
  TRY(read_texts(rules, "contains", policy.kernel_command_line.contains));
  TRY(read_texts(rules, "excludes", policy.kernel_command_line.excludes));
  TRY(read_texts(rules, "equals", policy.kernel_command_line.equals));
  TRY(read_texts(rules, "starts_with", policy.kernel_command_line.starts_with));
  return read_texts(rules, "like", policy.kernel_command_line.like);
}

JsonArray to_json(const std::vector<std::string>& texts) {
  JsonArray array;
  for (const std::string& text : texts) array.emplace_back(text);
  return array;
}

JsonArray to_json(const std::vector<SignerPattern>& patterns) {
  JsonArray array;
  for (const SignerPattern& pattern : patterns) {
    JsonObject object;
    if (pattern.sha256) object["sha256"] = pattern.sha256->hex();
    if (!pattern.subject.empty()) object["subject"] = pattern.subject;
    array.emplace_back(std::move(object));
  }
  return array;
}

JsonObject pcrs_to_json(const Policy& policy) {
  JsonObject pcrs;
  for (size_t i = 0; i < kPcrCount; ++i) {
    const PcrPolicy& pcr = policy.pcrs[i];
    if (pcr.rule != PcrRule::kValues) {
      if (pcr.rule != PcrRule::kIgnore) pcrs[std::to_string(i)] = choice_text(pcr.rule, kRules);
      continue;
    }
    JsonArray values;
    for (const PcrDigest& value : pcr.values) {
      values.emplace_back(fmt::format("{}:{}", name_of(value.alg), to_hex(value.bytes)));
    }
    pcrs[std::to_string(i)] = JsonObject{{"values", std::move(values)}};
  }
  return pcrs;
}

JsonObject secure_boot_to_json(const Policy& policy) {
  JsonObject object;
  object["state"] = choice_text(policy.secure_boot, kNeeds);
  JsonObject keys;
  for (const auto& [name, patterns] : policy.keys) keys[name] = to_json(patterns);
  object["keys"] = std::move(keys);
  object["signers"] = to_json(policy.signers);
  object["refused_signers"] = to_json(policy.refused_signers);
  object["test_signers"] = choice_text(policy.test_signers, kAllows);
  if (policy.mok == MokRule::kListed) {
    object["mok"] = to_json(policy.mok_allowed);
  } else {
    object["mok"] = policy.mok == MokRule::kAny ? "any" : "none";
  }
  JsonArray contains;
  for (const Bytes& digest : policy.dbx_contains) contains.emplace_back(to_hex(digest));
  object["dbx"] = JsonObject{{"growth", choice_text(policy.dbx_growth, kAllows)},
                             {"entries_min", policy.dbx_entries_min},
                             {"contains", std::move(contains)}};
  JsonObject levels;
  for (const auto& [component, generation] : policy.sbat_level) levels[component] = generation;
  object["sbat_level"] = std::move(levels);
  return object;
}

}  // namespace

Result<Policy> policy_from(const JsonObject& object) {
  TRY(only_members(
      object, {"version", "name", "description", "extends", "banks", "baseline", "evidence", "pcrs",
               "secure_boot", "kernel_command_line", "debugging"}));
  if (uint64_t version = TRY(sys::get_u64(object, "version")); version != kPolicyVersion) {
    return invalid(fmt::format("a policy of version {}; this program reads version {}", version,
                               kPolicyVersion));
  }
  if (!sys::has_member(object, "extends")) {
    return invalid(R"(member "extends" is missing: "linux", "windows", or "none" for a policy )"
                   "that says everything itself");
  }
  Policy policy = TRY(built_in_policy(TRY(sys::get_string(object, "extends"))));
  policy.name = TRY(sys::get_string(object, "name"));
  if (policy.name.empty() || policy.name.size() > 64) {
    return invalid("member \"name\" has not 1 to 64 characters");
  }
  policy.description = TRY(sys::get_string_or(object, "description", ""));
  if (policy.description.size() > kPolicyTextMax) return invalid("\"description\" is too long");
  TRY(read_banks(object, policy));
  TRY(read_choice(object, "baseline", kNeeds, policy.baseline));
  TRY(read_evidence(object, policy));
  TRY(read_pcrs(object, policy));
  TRY(read_secure_boot(object, policy));
  TRY(read_command_line(object, policy));
  TRY(read_choice(object, "debugging", kAllows, policy.debugging));
  policy.id = policy_id(policy);
  return policy;
}

Result<Policy> parse_policy(std::string_view json) {
  auto object = sys::parse_json_object(json, {.bytes_max = kPolicyJsonMax, .depth_max = 8});
  if (!object.ok()) return std::move(object).error().context("appraisal policy");
  return TRY_CONTEXT(policy_from(*object), "appraisal policy");
}

JsonObject to_json(const Policy& policy) {
  JsonObject object;
  object["version"] = kPolicyVersion;
  object["name"] = policy.name;
  object["description"] = policy.description;
  object["extends"] = "none";
  JsonArray banks;
  for (HashAlg alg : policy.banks) banks.emplace_back(name_of(alg));
  object["banks"] = std::move(banks);
  object["baseline"] = choice_text(policy.baseline, kNeeds);
  object["evidence"] =
      JsonObject{{"quote", choice_text(policy.quote, kNeeds)},
                 {"event_log", choice_text(policy.event_log, kNeeds)},
                 {"attestation_key", choice_text(policy.attestation_key, kKeyNeeds)}};
  object["pcrs"] = pcrs_to_json(policy);
  object["secure_boot"] = secure_boot_to_json(policy);
  object["kernel_command_line"] =
      JsonObject{{"contains", to_json(policy.kernel_command_line.contains)},
                 {"excludes", to_json(policy.kernel_command_line.excludes)},
                 {"equals", to_json(policy.kernel_command_line.equals)},
                 {"starts_with", to_json(policy.kernel_command_line.starts_with)},
                 {"like", to_json(policy.kernel_command_line.like)}};
  object["debugging"] = choice_text(policy.debugging, kAllows);
  return object;
}

}  // namespace hf::attestation
