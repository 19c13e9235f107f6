#include "secure_boot/change/variables_json.h"

#include "base/base64.h"
#include "secure_boot/change/profiles.h"

namespace hf::secure_boot {
namespace {

using sys::JsonArray;
using sys::JsonObject;
using sys::JsonValue;

struct Member {
  std::string_view name;
  std::optional<Bytes> SecureBootVariables::* held;
};
constexpr std::array<Member, 6> kDatabases = {{
    {"PK", &SecureBootVariables::pk},
    {"KEK", &SecureBootVariables::kek},
    {"db", &SecureBootVariables::db},
    {"dbx", &SecureBootVariables::dbx},
    {"MokList", &SecureBootVariables::mok},
    {"MokListX", &SecureBootVariables::mokx},
}};

// The guest's text for an operator's terminal: lines joined, everything odd as '?'.
std::string printable(std::string_view text) {
  constexpr size_t kShownMax = 1024;
  std::string out;
  while (text.ends_with('\n')) text.remove_suffix(1);
  for (char letter : text.substr(0, kShownMax)) {
    out += letter == '\n' ? "; " : letter >= 0x20 && letter < 0x7f ? std::string(1, letter) : "?";
  }
  return out;
}

JsonArray signatures_of(const SignatureDatabase& database) {
  JsonArray out;
  for (const SignatureList& list : database.lists()) {
    for (const Signature& signature : list.signatures) {
      const SignatureWords words = describe(list, signature);
      out.push_back(JsonObject{{"type", words.type},
                               {"owner", words.owner},
                               {"owner_guid", words.owner_guid},
                               {"title", words.title},
                               {"detail", words.detail},
                               {"fingerprint", words.fingerprint}});
    }
  }
  return out;
}

JsonObject database_view(std::string_view name, const std::optional<Bytes>& held) {
  JsonObject out{{"name", name}, {"present", held.has_value()}, {"bytes", held ? held->size() : 0}};
  auto database = SignatureDatabase::parse(held ? *held : Bytes());
  if (database.ok()) {
    out["signatures"] = signatures_of(*database);
  } else {
    out["error"] = database.error().cause;
    out["signatures"] = JsonArray();
  }
  return out;
}

JsonValue base64_or_null(const std::optional<Bytes>& held) {
  if (!held) return nullptr;
  return JsonValue(base64_encode(*held));
}

Result<std::optional<Bytes>> bytes_or_nothing(const JsonObject& object, std::string_view name) {
  if (!sys::has_member(object, name)) return std::optional<Bytes>();
  return std::optional<Bytes>(TRY_CONTEXT(base64_decode(TRY(sys::get_string(object, name))), name));
}

}  // namespace

JsonObject secure_boot_view(const SecureBootVariables& variables) {
  const std::string_view profile = recognise_profile(variables);
  JsonObject out{{"secure_boot", variables.enabled},
                 {"setup_mode", !variables.pk.has_value()},
                 {"profile", profile.empty() ? JsonValue(nullptr) : JsonValue(profile)},
                 {"shim_validation", variables.shim_validation},
                 {"sbat_level", nullptr}};
  if (variables.sbat_level) out["sbat_level"] = printable(as_text(*variables.sbat_level));
  if (variables.mok_ignores_db) out["mok_ignores_db"] = true;
  JsonArray databases;
  for (const Member& member : kDatabases) {
    databases.push_back(database_view(member.name, variables.*member.held));
  }
  out["variables"] = std::move(databases);
  if (!variables.ignored.empty()) {
    JsonArray ignored;  // shim will delete them
    for (const std::string& name : variables.ignored) ignored.emplace_back(name);
    out["ignored"] = std::move(ignored);
  }
  return out;
}

JsonObject to_json(const ChangeResult& result) {
  return {{"variable", result.variable},
          {"added", result.added},
          {"removed", result.removed},
          {"changed", result.changed},
          {"words", result.words}};
}

JsonObject to_json(const SecureBootVariables& variables) {
  JsonObject out;
  for (const Member& member : kDatabases) {
    out[member.name] = base64_or_null(variables.*member.held);
  }
  out["SbatLevel"] = base64_or_null(variables.sbat_level);
  out["enabled"] = variables.enabled;
  out["shim_validation"] = variables.shim_validation;
  out["mok_ignores_db"] = variables.mok_ignores_db;
  JsonArray ignored;
  for (const std::string& name : variables.ignored) ignored.emplace_back(name);
  out["ignored"] = std::move(ignored);
  return out;
}

Result<SecureBootVariables> secure_boot_variables_from_json(const JsonObject& object) {
  SecureBootVariables out;
  for (const Member& member : kDatabases) {
    out.*member.held = TRY(bytes_or_nothing(object, member.name));
  }
  out.sbat_level = TRY(bytes_or_nothing(object, "SbatLevel"));
  out.enabled = TRY(sys::get_bool_or(object, "enabled", out.pk.has_value()));
  out.shim_validation = TRY(sys::get_bool_or(object, "shim_validation", true));
  out.mok_ignores_db = TRY(sys::get_bool_or(object, "mok_ignores_db", false));
  out.ignored = TRY(sys::get_strings_or_empty(object, "ignored"));
  return out;
}

JsonObject to_json(const Change& change) {
  return {{"variable", change.variable},
          {"action", name_of(change.action)},
          {"data", base64_encode(change.data)}};
}

Result<Change> change_from_json(const JsonObject& object) {
  Change change{.variable = TRY(sys::get_string_or(object, "variable", ""))};
  change.action = TRY(parse_change_action(TRY(sys::get_string(object, "action"))));
  change.data = TRY(base64_decode(TRY(sys::get_string_or(object, "data", ""))));
  return change;
}

sys::JsonArray to_json(const std::vector<Change>& changes) {
  sys::JsonArray list;
  for (const Change& change : changes) list.push_back(to_json(change));
  return list;
}

Result<std::vector<Change>> changes_from_json(const sys::JsonArray& list) {
  if (list.empty() || list.size() > kChangesMax) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = std::to_string(list.size()) + " changes at once",
                 .effect = "nothing was changed",
                 .mend = "give 1 to 64"};
  }
  std::vector<Change> changes;
  for (const sys::JsonValue& item : list) {
    if (!item.is_object()) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "\"changes\" holds no objects"};
    }
    changes.push_back(TRY(change_from_json(item.get_object())));
    TRY(check(changes.back()));
  }
  return changes;
}

}  // namespace hf::secure_boot
