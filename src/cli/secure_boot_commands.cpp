// holdfast secure-boot …
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "cli/core/grammar.h"
#include "cli/secure_boot_profile.h"
#include "cli/secure_boot_target.h"
#include "secure_boot/change/content.h"
#include "secure_boot/change/variables_json.h"
#include "secure_boot/keys/authenticated_update.h"
#include "secure_boot/keys/certificate.h"
#include "secure_boot/keys/signed_data.h"

namespace hf::cli {
namespace {

namespace sb = secure_boot;

constexpr size_t kDigestsShownMax = 8;  // of a variable, in a table

struct EditOptions {
  std::string target;
  std::string variable;
  std::vector<std::string> files;
  std::string owner;
};

// The signature lists in the files, in their order.
Result<sb::SignatureDatabase> content_of(const Context& context,
                                         const std::vector<std::string>& files,
                                         const std::string& owner) {
  const sb::Guid owner_guid = owner.empty() ? sb::guids::kHoldfast : TRY(sb::Guid::parse(owner));
  sb::SignatureDatabase all;
  for (const std::string& path : files) {
    const Bytes bytes = TRY(read_file(path, sb::kContentBytesMax));
    const sb::Content content = TRY_CONTEXT(sb::signatures_in(bytes, owner_guid), path);
    if (!context.quiet) std::fprintf(stderr, "%s: %s\n", path.c_str(), content.form.c_str());
    all.append(content.signatures);
  }
  return all;
}

void print_results(const Context& context, const std::vector<sb::ChangeResult>& results) {
  if (context.format == Format::kJson) {
    sys::JsonArray rows;
    for (const sb::ChangeResult& result : results) rows.push_back(sb::to_json(result));
    std::puts(sys::to_text(sys::JsonValue(std::move(rows))).c_str());
    return;
  }
  for (const sb::ChangeResult& result : results) std::puts(result.words.c_str());
}

Status apply(const Context& context, const std::string& target,
             const std::vector<sb::Change>& changes) {
  auto opened = TRY(open_secure_boot_target(context, target));
  print_results(context, TRY(opened->apply(changes)));
  return {};
}

Status show(const Context& context, const std::string& target) {
  auto opened = TRY(open_secure_boot_target(context, target));
  sys::JsonObject view = sb::secure_boot_view(TRY(opened->read()));
  if (context.format == Format::kJson) {
    std::puts(sys::to_text(view).c_str());
    return {};
  }
  sys::JsonArray rows;
  for (const sys::JsonValue& variable : view["variables"].as_array()) {
    const sys::JsonObject& held = variable.as_object();
    const sys::JsonValue& name = held.at("name");
    if (held.contains("error")) {
      rows.push_back(sys::JsonObject{{"name", name}, {"title", held.at("error")}});
      continue;
    }
    size_t digests = 0;
    for (const sys::JsonValue& signature : held.at("signatures").as_array()) {
      sys::JsonObject row = signature.as_object();
      const std::string_view type = row["type"].as_string();
      const bool digest = type != "X509" && type != sb::kSecurityVersionType;
      if (digest && ++digests > kDigestsShownMax) continue;
      row["name"] = name;
      rows.push_back(std::move(row));
    }
    if (digests > kDigestsShownMax) {
      rows.push_back(sys::JsonObject{
          {"name", name},
          {"title", fmt::format("and {} more digests (-o json)", digests - kDigestsShownMax)}});
    }
  }
  view.erase("variables");
  print_object(context, view);
  std::puts("");
  print_rows(context, rows,
             {{"VARIABLE", "name"}, {"TYPE", "type"}, {"WHAT", "title"}, {"", "detail"}});
  return {};
}

struct SwitchWord {
  std::string_view word;
  std::byte value;
};
constexpr std::array<SwitchWord, 2> kSwitchWords = {{{"off", std::byte{0}}, {"on", std::byte{1}}}};

// "set TARGET SecureBootEnable on": a word where other variables have files.
Result<sb::Change> switch_change(const EditOptions& options) {
  const auto* found = options.files.size() == 1
                          ? std::ranges::find(kSwitchWords, options.files[0], &SwitchWord::word)
                          : kSwitchWords.end();
  if (found == kSwitchWords.end()) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = options.variable + " is set to on or off"};
  }
  return sb::Change{options.variable, sb::ChangeAction::kSet, Bytes{found->value}};
}

Status edit(const Context& context, const EditOptions& options, sb::ChangeAction action) {
  const bool is_switch = options.variable == "SecureBootEnable" || options.variable == "MokSBState";
  if (is_switch && action == sb::ChangeAction::kSet) {
    return apply(context, options.target, {TRY(switch_change(options))});
  }
  sb::Change change{.variable = options.variable, .action = action};
  if (action != sb::ChangeAction::kDelete) {
    change.data = TRY(content_of(context, options.files, options.owner)).to_bytes();
  }
  return apply(context, options.target, {change});
}

Status apply_update(const Context& context, const EditOptions& options) {
  std::vector<sb::Change> changes;
  for (const std::string& path : options.files) {
    changes.push_back({.variable = options.variable,
                       .action = sb::ChangeAction::kUpdate,
                       .data = TRY(read_file(path, sb::kUpdateBytesMax))});
  }
  return apply(context, options.target, changes);
}

Status set_profile(const Context& context, const ProfileWords& words) {
  auto target = TRY(open_secure_boot_target(context, words.target));
  const sb::ProfilePlan plan = TRY(plan_profile_words(words, TRY(target->read())));
  for (const std::string& note : plan.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  if (words.dry_run || plan.changes.empty()) {
    sys::JsonArray rows;
    for (const sb::Change& change : plan.changes) {
      rows.push_back(
          sys::JsonObject{{"variable", change.variable}, {"change", sb::describe(change)}});
    }
    if (rows.empty() && context.format == Format::kTable) std::puts("nothing to change");
    if (!rows.empty() || context.format == Format::kJson) {
      print_rows(context, rows, {{"VARIABLE", "variable"}, {"CHANGE", "change"}});
    }
    return {};
  }
  print_results(context, TRY(target->apply(plan.changes)));
  return {};
}

struct SignOptions {
  std::string variable;
  std::vector<std::string> files;
  std::string key, certificate, out, time;
  bool append = false;
};

// "2026-11-22T19:40:00Z"; empty: now.
Result<sb::EfiTime> time_of(const std::string& text) {
  if (text.empty())
    return sb::EfiTime::from(Micros(static_cast<uint64_t>(::time(nullptr)) * 1'000'000));
  unsigned year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  char zone = 0, rest = 0;
  const int read = std::sscanf(text.c_str(), "%4u-%2u-%2uT%2u:%2u:%2u%c%c", &year, &month, &day,
                               &hour, &minute, &second, &zone, &rest);
  if (read != 7 || zone != 'Z' || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 ||
      minute > 59 || second > 59) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "\"" + text + "\" is no time such as 2026-11-22T19:40:00Z"};
  }
  return sb::EfiTime{.year = static_cast<uint16_t>(year),
                     .month = static_cast<uint8_t>(month),
                     .day = static_cast<uint8_t>(day),
                     .hour = static_cast<uint8_t>(hour),
                     .minute = static_cast<uint8_t>(minute),
                     .second = static_cast<uint8_t>(second)};
}

Status sign_update(const Context& context, const SignOptions& options) {
  const auto variable = sb::key_variable(options.variable);
  if (!variable) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "\"" + options.variable + "\" takes no signed update",
                 .mend = "one of PK, KEK, db, dbx"};
  }
  const crypto::KeyPair key = TRY_CONTEXT(
      sb::private_key_in(TRY(read_file(options.key, sb::kCertificateFileBytesMax))), options.key);
  const std::vector<Bytes> certificate = TRY(certificates_of({options.certificate}));
  const Bytes value = TRY(content_of(context, options.files, "")).to_bytes();
  const sb::AuthenticatedUpdate update = TRY(sb::sign_update(
      *variable, options.append ? sb::UpdateKind::kAppend : sb::UpdateKind::kReplace,
      TRY(time_of(options.time)), value, {.key = key, .certificate = certificate.front()}));
  return replace_file(options.out, sb::to_bytes(update));
}

void add_target(CLI::App* sub, std::string& target) {
  sub->add_option("target", target, "file of a variable store, or a VM")
      ->type_name(kTargetWord)
      ->required();
}

void add_edit(CLI::App* noun, Line& line, const std::string& name, const std::string& what,
              sb::ChangeAction action) {
  CLI::App* sub = noun->add_subcommand(name, what);
  auto options = std::make_shared<EditOptions>();
  add_target(sub, options->target);
  sub->add_option("variable", options->variable,
                  "PK, KEK, db, dbx, MokList, MokListX, SecureBootEnable or MokSBState")
      ->required();
  if (action != sb::ChangeAction::kDelete) {
    sub->add_option("files", options->files,
                    "certificates, signature lists, signed updates, images, digests; for the "
                    "switches on or off")
        ->type_name(kFileWord)
        ->required();
    sub->add_option("--owner", options->owner, "GUID that owns the new signatures");
  }
  verb(sub, line,
       [options, action](const Context& context) { return edit(context, *options, action); });
}

void add_updates(CLI::App* noun, Line& line) {
  CLI::App* revoke = noun->add_subcommand("revoke", "add certificates or images to dbx");
  auto revoked = std::make_shared<EditOptions>();
  revoked->variable = "dbx";
  add_target(revoke, revoked->target);
  revoke->add_option("files", revoked->files, "certificates, images, digests, lists")
      ->type_name(kFileWord)
      ->required();
  verb(revoke, line, [revoked](const Context& context) {
    return edit(context, *revoked, sb::ChangeAction::kAppend);
  });

  CLI::App* update = noun->add_subcommand(
      "apply-update", "apply a signed update, such as a dbx file, checked as the firmware would");
  auto updates = std::make_shared<EditOptions>();
  add_target(update, updates->target);
  update->add_option("files", updates->files, "authenticated updates")
      ->type_name(kFileWord)
      ->required();
  update->add_option("--variable", updates->variable, "PK, KEK, db or dbx (default: as signed)");
  verb(update, line, [updates](const Context& context) { return apply_update(context, *updates); });

  CLI::App* sign = noun->add_subcommand("sign-update", "make a signed update for a running guest");
  auto signing = std::make_shared<SignOptions>();
  sign->add_option("variable", signing->variable, "PK, KEK, db or dbx")->required();
  sign->add_option("files", signing->files, "what it shall hold")->type_name(kFileWord)->required();
  sign->add_option("--key", signing->key, "private key: of the PK for PK and KEK, else of a KEK")
      ->type_name(kFileWord)
      ->required();
  sign->add_option("--certificate", signing->certificate, "of that key")
      ->type_name(kFileWord)
      ->required();
  sign->add_option("--out", signing->out, "file to write")->type_name(kFileWord)->required();
  sign->add_option("--time", signing->time, "such as 2026-11-22T19:40:00Z (default: now)");
  sign->add_flag("--append", signing->append, "add to the variable instead of replacing it");
  verb(sign, line, [signing](const Context& context) { return sign_update(context, *signing); });
}

void add_profile(CLI::App* noun, Line& line) {
  CLI::App* sub = noun->add_subcommand("profile", "set PK, KEK and db to a known state");
  auto words = std::make_shared<ProfileWords>();
  add_target(sub, words->target);
  sub->add_option("profile", words->profile, std::string(kProfileNames))->required();
  add_profile_options(sub, *words);
  sub->add_flag("--dry-run", words->dry_run, "say what would change");
  verb(sub, line, [words](const Context& context) { return set_profile(context, *words); });
}

}  // namespace

void add_secure_boot(CLI::App& app, Line& line) {
  CLI::App* secure_boot =
      noun(app, "secure-boot", "Secure Boot keys of a VM or of a variable store in a file");
  CLI::App* sub = secure_boot->add_subcommand("show", "keys, databases, MOK, mode and profile");
  auto target = std::make_shared<std::string>();
  add_target(sub, *target);
  verb(sub, line, [target](const Context& context) { return show(context, *target); });
  add_edit(secure_boot, line, "set", "replace a variable's content", sb::ChangeAction::kSet);
  add_edit(secure_boot, line, "append", "add to a variable", sb::ChangeAction::kAppend);
  add_edit(secure_boot, line, "remove", "take out of a variable", sb::ChangeAction::kRemove);
  add_edit(secure_boot, line, "delete", "delete a variable", sb::ChangeAction::kDelete);
  add_updates(secure_boot, line);
  add_profile(secure_boot, line);
}

}  // namespace hf::cli
