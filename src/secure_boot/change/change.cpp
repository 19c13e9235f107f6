#include "secure_boot/change/change.h"

#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/keys/authenticated_update.h"

namespace hf::secure_boot {
namespace {

enum class Content { kSignatures, kSwitch };

struct Target {
  std::string_view name;
  Guid vendor;
  uint32_t attributes;
  Content content;
};
constexpr std::array<Target, 8> kTargets = {{
    {"PK", guids::kGlobalVariable, attribute::kSecureBoot, Content::kSignatures},
    {"KEK", guids::kGlobalVariable, attribute::kSecureBoot, Content::kSignatures},
    {"db", guids::kImageSecurity, attribute::kSecureBoot, Content::kSignatures},
    {"dbx", guids::kImageSecurity, attribute::kSecureBoot, Content::kSignatures},
    {"MokList", guids::kShimLock, attribute::kBootOnly, Content::kSignatures},
    {"MokListX", guids::kShimLock, attribute::kBootOnly, Content::kSignatures},
    {"SecureBootEnable", guids::kSecureBootEnable, attribute::kBootOnly, Content::kSwitch},
    {"MokSBState", guids::kShimLock, attribute::kBootOnly, Content::kSwitch},
}};

constexpr std::array<std::pair<ChangeAction, std::string_view>, 5> kActions = {{
    {ChangeAction::kSet, "set"},
    {ChangeAction::kAppend, "append"},
    {ChangeAction::kRemove, "remove"},
    {ChangeAction::kDelete, "delete"},
    {ChangeAction::kUpdate, "update"},
}};

Error invalid(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = std::move(cause),
               .effect = "Nothing was changed"};
}

Result<const Target*> target_of(std::string_view name) {
  const auto* found = std::ranges::find(kTargets, name, &Target::name);
  if (found == kTargets.end()) {
    return invalid(
        fmt::format("\"{}\" is no variable that can be changed (PK, KEK, db, dbx, "
                    "MokList, MokListX, SecureBootEnable, MokSBState)",
                    name.substr(0, 64)));
  }
  return found;
}

bool is_platform_key(const Target& target) { return target.name == "PK"; }

std::string count(size_t number) {
  return number == 1 ? "1 signature" : fmt::format("{} signatures", number);
}

// What the firmware does besides when a platform key comes or goes (edk2, AuthVariableLib,
// UpdatePlatformMode), and its note that the vendor's keys were modified.
Status follow_up(VariableStore& store, bool had_pk) {
  const bool has_pk = store.find(guids::kGlobalVariable, "PK") != nullptr;
  if (had_pk && !has_pk) store.remove(guids::kSecureBootEnable, "SecureBootEnable");
  if (!had_pk && has_pk) {
    TRY(store.set({.vendor = guids::kSecureBootEnable,
                   .name = utf16("SecureBootEnable"),
                   .attributes = attribute::kBootOnly,
                   .data = Bytes{std::byte{1}}}));
  }
  const Variable* vendor = store.find(guids::kVendorKeysNv, "VendorKeysNv");
  if (vendor != nullptr && vendor->data == Bytes{std::byte{1}}) {
    Variable modified = *vendor;
    modified.data = Bytes{std::byte{0}};
    TRY(store.set(modified));
  }
  return {};
}

Status put(VariableStore& store, const Target& target, Bytes data, const EfiTime& now) {
  Variable next{.vendor = target.vendor,
                .name = utf16(target.name),
                .attributes = target.attributes,
                .data = std::move(data)};
  if ((target.attributes & attribute::kTimeAuthenticated) != 0) {
    const Variable* held = store.find(target.vendor, target.name);
    next.time = held != nullptr && later(held->time, now) ? held->time : now;
  }
  return store.set(next);
}

Result<SignatureDatabase> held_by(const VariableStore& store, const Target& target) {
  const Variable* held = store.find(target.vendor, target.name);
  // An addition must not make shim trust what it would have deleted.
  if (held == nullptr ||
      (target.vendor == guids::kShimLock && !shim_keeps(target.name, held->attributes))) {
    return SignatureDatabase();
  }
  return TRY_CONTEXT(SignatureDatabase::parse(held->data), std::string(target.name));
}

bool holds(const VariableStore& store, const Target& target, ByteSpan data) {
  const Variable* held = store.find(target.vendor, target.name);
  return held != nullptr && std::ranges::equal(held->data, data) &&
         held->attributes == target.attributes;
}

size_t how_many_not_in(const SignatureDatabase& known, SignatureDatabase these) {
  these.remove(known);
  return these.size();
}

// Bytes as they are given: firmware measures the variable as it stands, so that going back to what
// was there before means to the same bytes. What was there may hold what firmware would not take
// from a guest, or be broken; that new content is in order is for check() to say.
Result<ChangeResult> set_signatures(VariableStore& store, const Target& target,
                                    const Change& change, const EfiTime& now) {
  const auto given = SignatureDatabase::parse(change.data);
  if (is_platform_key(target) && given.ok() && given->size() > 1) {
    TRY(check_firmware_takes(*given, true));
  }
  const auto before = held_by(store, target);
  ChangeResult out{.variable = change.variable, .changed = !holds(store, target, change.data)};
  const SignatureDatabase next = given.ok() ? *given : SignatureDatabase();
  out.added = before.ok() ? how_many_not_in(*before, next) : next.size();
  out.removed = before.ok() ? how_many_not_in(next, *before) : 0;
  if (out.changed) TRY(put(store, target, change.data, now));
  out.words = out.changed ? fmt::format("{}: {} added, {} removed, {} in all", target.name,
                                        out.added, out.removed, next.size())
                          : fmt::format("{}: as it was, {}", target.name, count(next.size()));
  return out;
}

Result<ChangeResult> change_signatures(VariableStore& store, const Target& target,
                                       const Change& change, const EfiTime& now) {
  if (change.action == ChangeAction::kSet) return set_signatures(store, target, change, now);
  const SignatureDatabase given = TRY(SignatureDatabase::parse(change.data));
  ChangeResult out{.variable = change.variable};
  SignatureDatabase next = TRY(held_by(store, target));
  if (change.action == ChangeAction::kAppend) out.added = next.append(given);
  if (change.action == ChangeAction::kRemove) out.removed = next.remove(given);
  out.changed = out.added + out.removed != 0;
  // What was given is checked already; what was there before may stay, whatever it is.
  if (is_platform_key(target)) TRY(check_firmware_takes(next, true));
  if (!out.changed) {
    out.words = fmt::format("{}: as it was, {}", target.name, count(next.size()));
  } else if (next.empty()) {
    store.remove(target.vendor, target.name);
    out.words = fmt::format("{}: {} removed, none left", target.name, count(out.removed));
  } else {
    TRY(put(store, target, next.to_bytes(), now));
    out.words = fmt::format("{}: {} added, {} removed, {} in all", target.name, out.added,
                            out.removed, next.size());
  }
  return out;
}

Result<ChangeResult> change_by_update(VariableStore& store, const Change& change) {
  std::optional<KeyVariable> variable;
  if (!change.variable.empty()) variable = key_variable(change.variable);
  const AppliedUpdate applied = TRY(apply_update(store, variable, change.data));
  const std::string_view name = name_of(applied.variable).name;
  const std::string_view authority =
      applied.variable == KeyVariable::kDb || applied.variable == KeyVariable::kDbx ? "KEK" : "PK";
  const std::string vouched =
      applied.authority.certificate.empty()
          ? "in setup mode, as firmware does, whoever signed it"
          : fmt::format("by \"{}\" of {}", applied.authority.certificate, authority);
  return ChangeResult{
      .variable = std::string(name),
      .added = applied.added,
      .changed = applied.added != 0 || applied.kind == UpdateKind::kReplace,
      .words = fmt::format("{}: {} by \"{}\" ({}): {} new, {} in all", name,
                           applied.kind == UpdateKind::kAppend ? "appended to" : "replaced",
                           applied.authority.signer, vouched, applied.added, applied.total)};
}

Result<ChangeResult> apply_to(VariableStore& store, const Change& change, const EfiTime& now) {
  if (change.action == ChangeAction::kUpdate) {
    TRY(check(change));
    return change_by_update(store, change);
  }
  const Target& target = *TRY(target_of(change.variable));
  const bool verbatim =
      change.action == ChangeAction::kSet && target.content == Content::kSignatures;
  if (!verbatim) TRY(check(change));
  if (change.action == ChangeAction::kDelete) {
    ChangeResult out{.variable = change.variable};
    if (auto before = held_by(store, target);
        target.content == Content::kSignatures && before.ok()) {
      out.removed = before->size();
    }
    out.changed = store.remove(target.vendor, target.name);
    out.words = fmt::format("{}: {}", target.name, out.changed ? "deleted" : "there was none");
    return out;
  }
  if (target.content == Content::kSignatures) {
    return change_signatures(store, target, change, now);
  }
  ChangeResult out{.variable = change.variable, .changed = !holds(store, target, change.data)};
  if (out.changed) TRY(put(store, target, change.data, now));
  out.words = fmt::format("{}: {}{}", target.name, static_cast<int>(change.data[0]),
                          out.changed ? "" : ", as it was");
  return out;
}

}  // namespace

std::string_view name_of(ChangeAction action) {
  return std::ranges::find(kActions, action, &decltype(kActions)::value_type::first)->second;
}

Result<ChangeAction> parse_change_action(std::string_view name) {
  const auto* found = std::ranges::find(kActions, name, &decltype(kActions)::value_type::second);
  if (found == kActions.end()) {
    return invalid(fmt::format("\"{}\" is no action (set, append, remove, delete, update)",
                               name.substr(0, 64)));
  }
  return found->first;
}

Status check(const Change& change) {
  if (change.action == ChangeAction::kUpdate) {
    if (!change.variable.empty() && !key_variable(change.variable)) {
      return invalid(fmt::format("\"{}\" takes no authenticated update (PK, KEK, db, dbx do)",
                                 change.variable.substr(0, 64)));
    }
    TRY(parse_update(change.data));
    return {};
  }
  const Target& target = *TRY(target_of(change.variable));
  if (change.action == ChangeAction::kDelete) {
    return change.data.empty() ? Status{} : invalid("a deletion with data");
  }
  if (target.content == Content::kSwitch) {
    const bool bit = change.data == Bytes{std::byte{0}} || change.data == Bytes{std::byte{1}};
    if (change.action != ChangeAction::kSet || !bit) {
      return invalid(fmt::format("{} can be set to 0 or 1, or deleted", target.name));
    }
    return {};
  }
  const SignatureDatabase given = TRY(SignatureDatabase::parse(change.data));
  if (given.empty()) {
    return invalid(fmt::format("nothing to {} {}", name_of(change.action), target.name));
  }
  // What is removed need not be what firmware takes.
  if (change.action == ChangeAction::kRemove) return {};
  return check_firmware_takes(given, is_platform_key(target));
}

std::string describe(const Change& change) {
  if (change.action == ChangeAction::kDelete) return "delete " + change.variable;
  if (change.action == ChangeAction::kUpdate) {
    const std::string to = change.variable.empty() ? "" : " to " + change.variable;
    return fmt::format("apply a signed update of {} bytes{}", change.data.size(), to);
  }
  auto target = target_of(change.variable);
  if (target.ok() && (*target)->content == Content::kSwitch) {
    return fmt::format("set {} to {}", change.variable,
                       change.data.empty() ? "nothing" : to_hex(change.data));
  }
  std::string text(name_of(change.action));
  text += change.action == ChangeAction::kAppend   ? " to "
          : change.action == ChangeAction::kRemove ? " from "
                                                   : " ";
  text += change.variable + ":";
  auto given = SignatureDatabase::parse(change.data);
  if (!given.ok()) return text + " (unreadable)";
  constexpr size_t kNamedMax = 4;
  size_t named = 0;
  for (const SignatureList& list : given->lists()) {
    for (const Signature& signature : list.signatures) {
      if (named++ >= kNamedMax) continue;
      const SignatureWords words = hf::secure_boot::describe(list, signature);
      text += fmt::format("{} {} \"{}\"", named == 1 ? "" : ",", words.type, words.title);
      if (words.title != words.fingerprint) text += " (sha256 " + words.fingerprint + ")";
    }
  }
  if (named > kNamedMax) text += fmt::format(" and {} more", named - kNamedMax);
  return text;
}

Result<ChangeResult> apply_change(VariableStore& store, const Change& change, const EfiTime& now) {
  std::vector<ChangeResult> results = TRY(apply_changes(store, std::span(&change, 1), now));
  return std::move(results.front());
}

Result<std::vector<ChangeResult>> apply_changes(VariableStore& store,
                                                std::span<const Change> changes,
                                                const EfiTime& now) {
  if (changes.size() > kChangesMax) {
    return Error{
        .code = ErrorCode::kLimit,
        .cause = fmt::format("{} changes at once; {} can be", changes.size(), kChangesMax)};
  }
  VariableStore next = store;
  std::vector<ChangeResult> results;
  for (const Change& change : changes) {
    const bool had_pk = next.find(guids::kGlobalVariable, "PK") != nullptr;
    results.push_back(TRY_CONTEXT(apply_to(next, change, now), describe(change)));
    const bool key = key_variable(results.back().variable).has_value();
    // Now, not at the end: what is set after a PK stands as it was set.
    if (key && results.back().changed) TRY(follow_up(next, had_pk));
  }
  store = std::move(next);
  return results;
}

std::string describe(const std::vector<Change>& changes) {
  constexpr size_t kWordsMax = 500;
  std::string words;
  for (const Change& change : changes) words += (words.empty() ? "" : "; ") + describe(change);
  return words.substr(0, kWordsMax);
}

std::vector<Change> changes_between(const SecureBootVariables& from,
                                    const SecureBootVariables& to) {
  struct Named {
    std::string_view name;
    std::optional<Bytes> SecureBootVariables::* content;
  };
  static constexpr Named kNamed[] = {
      {"PK", &SecureBootVariables::pk},       {"KEK", &SecureBootVariables::kek},
      {"db", &SecureBootVariables::db},       {"dbx", &SecureBootVariables::dbx},
      {"MokList", &SecureBootVariables::mok}, {"MokListX", &SecureBootVariables::mokx}};
  std::vector<Change> changes;
  for (const Named& named : kNamed) {
    const std::optional<Bytes>& wanted = to.*named.content;
    if (from.*named.content == wanted) continue;
    changes.push_back({.variable = std::string(named.name),
                       .action = wanted ? ChangeAction::kSet : ChangeAction::kDelete,
                       .data = wanted.value_or(Bytes())});
  }
  return changes;
}

Result<SecureBootVariables> variables_after(VariableStore store, const SecureBootVariables& before,
                                            const std::vector<Change>& changes,
                                            const EfiTime& now) {
  TRY(apply_changes(store, changes_between(secure_boot_variables(store), before), now));
  TRY(apply_changes(store, changes, now));
  return secure_boot_variables(store);
}

}  // namespace hf::secure_boot
