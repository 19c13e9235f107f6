// holdfast attest …: asks of holdfastd. What works on files alone is in attest_files.cpp.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>

#include "cli/core/grammar.h"
#include "cli/core/input.h"
#include "cli/core/parse.h"
#include "cli/secure_boot_target.h"

namespace hf::cli {
namespace {

constexpr size_t kFileMax = size_t{4} << 20;

struct AttestOptions {
  std::string vm;
  std::string nonce;
  std::string file;
  std::string policy;
  std::string why;
  std::string expires = "7d";
  std::string change;
  std::vector<std::string> texts;
  std::vector<uint32_t> open_pcrs;
  bool grub_config = false;
  bool no_guest = false;
  bool history = false;
  bool standard = false;
  bool beside = false;
  bool yes = false;
};
using Options = std::shared_ptr<AttestOptions>;

std::string target(const AttestOptions& options, std::string_view rest = "") {
  return "/v1/vms/" + url_escape(options.vm) + "/attestation" + std::string(rest);
}

Result<sys::JsonObject> object_of(sys::JsonValue value) {
  if (value.is_object()) return std::move(value.as_object());
  return Error{.code = ErrorCode::kInternal, .cause = "holdfastd sent no object"};
}

Result<sys::JsonObject> file_object(const std::string& path) {
  Result<Bytes> bytes = read_input(path, kFileMax);
  if (!bytes.ok()) {
    return std::move(bytes).error().with_effect("nothing was done").with_mend("ls -l " + path);
  }
  Result<sys::JsonObject> object = sys::parse_json_object(as_text(*bytes), {.bytes_max = kFileMax});
  if (object.ok()) return object;
  return std::move(object)
      .error()
      .context(path)
      .with_effect("nothing was done")
      .with_mend("give a file of the form that docs/formats describes");
}

// "name      text", the name once for several lines.
void print_lines(std::string_view name, const std::vector<std::string>& lines) {
  for (size_t i = 0; i < lines.size(); ++i) {
    std::puts(fmt::format("{:<10}{}", i == 0 ? name : "", lines[i]).c_str());
  }
  if (lines.empty()) std::puts(fmt::format("{:<10}-", name).c_str());
}

const sys::JsonObject* object_at(const sys::JsonArray& array, size_t at) {
  return at < array.size() && array[at].is_object() ? &array[at].as_object() : nullptr;
}

std::vector<std::string> reason_lines(const sys::JsonObject& record) {
  std::vector<std::string> lines;
  const sys::JsonValue* reasons = record.if_contains("reasons");
  if (reasons == nullptr || !reasons->is_array()) return lines;
  for (size_t i = 0; i < reasons->as_array().size(); ++i) {
    const sys::JsonObject* at = object_at(reasons->as_array(), i);
    if (at == nullptr) continue;
    const sys::JsonObject& reason = *at;
    std::string mark = cell(reason, "severity") == "failure" ? "! "
                       : cell(reason, "severity") == "note"  ? "- "
                                                             : "? ";
    std::string place;
    if (sys::has_member(reason, "pcr")) place += " PCR " + cell(reason, "pcr");
    if (sys::has_member(reason, "nth")) place += ", extend " + cell(reason, "nth");
    if (sys::has_member(reason, "event")) place += ", event " + cell(reason, "event");
    lines.push_back(mark + cell(reason, "words") + " [" + cell(reason, "code") +
                    (place.empty() ? "" : ":" + place) + "]");
    // Neighbours that one thing mends share its line.
    const sys::JsonObject* next = object_at(reasons->as_array(), i + 1);
    const bool shared = next != nullptr && cell(*next, "mend") == cell(reason, "mend");
    if (cell(reason, "mend") != "-" && !shared) lines.push_back("  mend: " + cell(reason, "mend"));
  }
  return lines;
}

std::vector<std::string> strings_of(const sys::JsonObject& object, std::string_view name) {
  return sys::get_strings_or_empty(object, name).ok() ? *sys::get_strings_or_empty(object, name)
                                                      : std::vector<std::string>{};
}

// For programs: a table's cell shows its beginning only. Empty: there is none.
std::string whole_token(const sys::JsonObject& view, std::string_view within = {}) {
  const sys::JsonObject* place = &view;
  if (!within.empty()) {
    const sys::JsonValue* inner = view.if_contains(within);
    if (inner == nullptr || !inner->is_object()) return {};
    place = &inner->as_object();
  }
  const sys::JsonValue* token = place->if_contains("token");
  return token != nullptr && token->is_string() ? std::string(token->as_string()) : std::string();
}

// What fits on a line tells it from another.
void print_token(const std::string& token, const std::string& vm) {
  const bool none = token == "-";
  print_lines("token",
              {none ? token : token.substr(0, 32) + "… (holdfast attest token " + vm + ")"});
}

void print_record(const sys::JsonObject& record) {
  std::string checked = time_text(record, "time_us") + ", " + cell(record, "trigger");
  if (cell(record, "trigger") == "boot" && sys::has_member(record, "after_hand_over_ms")) {
    checked += ", " + cell(record, "after_hand_over_ms") + " ms after the firmware handed over";
  }
  print_lines("checked", {checked});
  print_lines("reasons", reason_lines(record));
  print_lines("compared", strings_of(record, "compared"));
  print_lines("authority", strings_of(record, "authorities"));
  if (cell(record, "kernel_command_line") != "-") {
    print_lines("kernel", {cell(record, "kernel_command_line")});
  }
  print_lines("where",
              {fmt::format("site {}, epoch {}, {}, incarnation {}…, position {}",
                           cell(record, "site"), cell(record, "epoch"), cell(record, "role"),
                           cell(record, "incarnation").substr(0, 16), cell(record, "sequence"))});
  print_lines("freshness", {cell(record, "freshness")});
}

void print_history(const sys::JsonObject& view) {
  const sys::JsonValue* history = view.if_contains("history");
  if (history == nullptr || !history->is_array()) return;
  sys::JsonArray rows = history->as_array();
  for (sys::JsonValue& row : rows) {
    if (row.is_object()) row.as_object()["when"] = time_text(row.as_object(), "time_us");
  }
  std::puts("");
  print_rows(Context{}, rows,
             {{"WHEN", "when"},
              {"VERDICT", "verdict"},
              {"TRIGGER", "trigger"},
              {"SITE", "site"},
              {"EPOCH", "epoch"},
              {"SUMMARY", "summary"}});
}

Status attest_show(const Context& context, const AttestOptions& options) {
  sys::JsonObject view = TRY(object_of(TRY(context.client().get(target(options)))));
  if (context.format == Format::kJson) {
    print_object(context, view);
    return {};
  }
  print_lines("VM", {cell(view, "vm")});
  std::string verdict = cell(view, "verdict");
  if (sys::has_member(view, "since_us")) verdict += ", since " + time_text(view, "since_us");
  if (!sys::has_member(view, "newest")) verdict += ": no boot was appraised yet";
  if (cell(view, "running") == "no") verdict += " (the VM does not run now)";
  print_lines("verdict", {verdict});
  if (sys::has_member(view, "note")) print_lines("note", {cell(view, "note")});
  const sys::JsonValue* newest = view.if_contains("newest");
  if (newest != nullptr && newest->is_object()) print_record(newest->as_object());
  print_lines("policy", {cell(view, "policy")});
  std::string baseline = "none: the next boot is learned";
  if (cell(view, "baseline.boots") != "0") {
    const sys::JsonValue* part = view.if_contains("baseline");
    baseline = fmt::format("{} accepted boot(s), the newest of {}; {} change(s) announced",
                           cell(view, "baseline.boots"), time_text(part->as_object(), "learned_us"),
                           cell(view, "baseline.planned"));
  }
  print_lines("baseline", {baseline});
  if (sys::has_member(view, "key")) {
    print_lines("key", {cell(view, "key.ak_name") + ", certified by site " +
                        cell(view, "key.certified_by")});
  }
  print_token(cell(view, "newest.token"), cell(view, "vm"));
  if (options.history) print_history(view);
  return {};
}

Status attest_check(const Context& context, const AttestOptions& options) {
  sys::JsonObject body{{"ask_guest", !options.no_guest}};
  if (!options.nonce.empty()) body["nonce"] = options.nonce;
  sys::JsonObject record =
      TRY(object_of(TRY(context.client().post(target(options, "/check"), body))));
  if (context.format == Format::kJson) {
    print_object(context, record);
    return {};
  }
  print_lines("verdict", {cell(record, "verdict")});
  print_record(record);
  print_token(cell(record, "token"), options.vm);
  return {};
}

Status attest_token(const Context& context, const AttestOptions& options) {
  sys::JsonObject view = TRY(object_of(TRY(context.client().get(target(options)))));
  const std::string token = whole_token(view, "newest");
  if (token.empty()) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "there is no token of VM \"" + options.vm + "\"",
                 .effect = "nothing is shown",
                 .mend = "holdfast attest check " + options.vm};
  }
  std::puts(token.c_str());
  return {};
}

Status attest_forget(const Context& context, const AttestOptions& options) {
  if (!options.yes) {
    TRY(confirm("Forget which TPM VM \"" + options.vm +
                "\" has? Whichever it runs on next is taken for its own."));
  }
  print_object(context, TRY(object_of(TRY(context.client().remove(target(options, "/key"))))));
  return {};
}

Status attest_evidence(const Context& context, const AttestOptions& options) {
  sys::JsonObject evidence = TRY(object_of(
      TRY(context.client().get(target(options, "/evidence?nonce=" + url_escape(options.nonce))))));
  if (options.file.empty()) {
    std::puts(sys::to_text(evidence).c_str());
    return {};
  }
  return replace_file(options.file, as_bytes(sys::to_text(evidence) + "\n"));
}

Status attest_keys(const Context& context, const AttestOptions&) {
  std::puts(sys::to_text(TRY(context.client().get("/v1/attestation/keys"))).c_str());
  return {};
}

// A file's JSON object, or the name of a built-in policy.
Result<sys::JsonValue> policy_argument(const std::string& text) {
  if (text == "linux" || text == "windows") return sys::JsonValue(text);
  return sys::JsonValue(TRY(file_object(text)));
}

Status attest_submit(const Context& context, const AttestOptions& options) {
  sys::JsonObject body{{"evidence", TRY(file_object(options.file))}, {"nonce", options.nonce}};
  if (!options.policy.empty()) body["policy"] = TRY(policy_argument(options.policy));
  sys::JsonObject answer =
      TRY(object_of(TRY(context.client().post("/v1/attestation/appraise", body))));
  if (context.format == Format::kJson) {
    print_object(context, answer);
    return {};
  }
  print_lines("verdict", {cell(answer, "verdict")});
  print_lines("reasons", reason_lines(answer));
  print_lines("key", {cell(answer, "attestation_key")});
  print_lines("token", {whole_token(answer)});
  return {};
}

// ---- policy ----

Status policy_show(const Context& context, const AttestOptions& options) {
  sys::JsonObject view = TRY(object_of(TRY(context.client().get(target(options, "/policy")))));
  if (context.format == Format::kJson) {
    print_object(context, view);
    return {};
  }
  // As a file that `policy set` takes back.
  std::puts(sys::to_text(view["policy"]).c_str());
  return {};
}

Status policy_set(const Context& context, const AttestOptions& options) {
  if (options.file.empty() != options.standard) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "either a policy or --default is needed",
                 .effect = "the policy is as it was",
                 .mend = "holdfast attest policy set VM linux, windows or FILE"};
  }
  sys::JsonObject body;
  if (!options.standard) {
    sys::JsonValue policy = TRY(policy_argument(options.file));
    if (policy.is_object()) {
      body = std::move(policy).as_object();
    } else {
      body["built_in"] = std::move(policy);
    }
  }
  sys::JsonObject view =
      TRY(object_of(TRY(context.client().put(target(options, "/policy"), body))));
  if (context.format == Format::kJson) {
    print_object(context, view);
  } else {
    print_lines("policy", {cell(view, "id")});
  }
  return {};
}

// ---- baseline ----

Status baseline_show(const Context& context, const AttestOptions& options) {
  sys::JsonObject view = TRY(object_of(TRY(context.client().get(target(options, "/baseline")))));
  if (context.format == Format::kJson) {
    print_object(context, view);
    return {};
  }
  if (sys::has_member(view, "note")) print_lines("note", {cell(view, "note")});
  const sys::JsonObject* baseline = TRY(sys::get_object(view, "baseline"));
  for (const sys::JsonValue& boot : *TRY(sys::get_array(*baseline, "boots"))) {
    if (!boot.is_object()) continue;
    print_lines("boot", {cell(boot.as_object(), "boot_id") + ", learned " +
                         time_text(boot.as_object(), "learned_us")});
    sys::JsonArray entries = *TRY(sys::get_array(boot.as_object(), "entries"));
    print_rows(context, entries,
               {{"PCR", "pcr"}, {"KIND", "kind"}, {"WHAT", "what"}, {"DIGEST", "digest"}});
  }
  for (const sys::JsonValue& change : *TRY(sys::get_array(*baseline, "planned"))) {
    if (!change.is_object()) continue;
    print_lines("announced",
                {cell(change.as_object(), "id") + ": " + cell(change.as_object(), "why") +
                 ", until " + time_text(change.as_object(), "expires_us")});
  }
  return {};
}

Status baseline_diff(const Context& context, const AttestOptions& options) {
  sys::JsonObject view =
      TRY(object_of(TRY(context.client().get(target(options, "/baseline?diff=1")))));
  if (context.format == Format::kJson) {
    print_object(context, view);
    return {};
  }
  const sys::JsonArray* differences = TRY(sys::get_array(view, "differences"));
  print_lines("agrees", {cell(view, "agrees")});
  std::vector<std::string> lines;
  for (const sys::JsonValue& item : *differences) {
    if (!item.is_object()) continue;
    const sys::JsonObject& difference = item.as_object();
    lines.push_back(fmt::format("PCR {}, extend {}: {}", cell(difference, "pcr"),
                                cell(difference, "nth"), cell(difference, "words")));
    if (cell(difference, "was") != "-") lines.push_back("  - " + cell(difference, "was"));
    if (cell(difference, "is") != "-") lines.push_back("  + " + cell(difference, "is"));
  }
  print_lines("diff", lines);
  return {};
}

Status baseline_act(const Context& context, const AttestOptions& options,
                    const sys::JsonObject& body) {
  sys::JsonObject view =
      TRY(object_of(TRY(context.client().post(target(options, "/baseline"), body))));
  if (context.format == Format::kJson) {
    print_object(context, view);
    return {};
  }
  if (sys::has_member(view, "note")) print_lines("note", {cell(view, "note")});
  if (sys::has_member(view, "change")) print_lines("announced", {cell(view, "change")});
  if (sys::has_member(view, "baseline")) {
    const sys::JsonObject* baseline = TRY(sys::get_object(view, "baseline"));
    print_lines("baseline", {fmt::format("{} accepted boot(s)",
                                         TRY(sys::get_array(*baseline, "boots"))->size())});
  }
  return {};
}

Status baseline_announce(const Context& context, const AttestOptions& options) {
  sys::JsonObject change;
  if (!options.file.empty()) {
    change = TRY(file_object(options.file));
  }
  if (!options.why.empty()) change["why"] = options.why;
  if (!sys::has_member(change, "expires_us")) {
    auto now = std::chrono::system_clock::now().time_since_epoch();
    uint64_t micros =
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
    change["expires_us"] = micros + TRY(parse_duration(options.expires)) * 1'000'000;
  }
  sys::JsonArray texts;
  for (const std::string& text : options.texts) {
    size_t equals = text.find('=');
    if (equals == std::string::npos) {
      return Error{.code = ErrorCode::kInvalidArgument,
                   .cause = "\"" + text + "\" has no '='",
                   .effect = "nothing was announced",
                   .mend = "give OLD=NEW, such as 6.1.0-43-amd64=6.1.0-44-amd64"};
    }
    texts.push_back(
        sys::JsonObject{{"was", text.substr(0, equals)}, {"is", text.substr(equals + 1)}});
  }
  if (!texts.empty()) change["texts"] = std::move(texts);
  sys::JsonArray open;
  for (uint32_t pcr : options.open_pcrs) open.emplace_back(pcr);
  if (!open.empty()) change["open_pcrs"] = std::move(open);
  if (options.grub_config) change["grub_config"] = true;
  return baseline_act(context, options, {{"action", "announce"}, {"change", std::move(change)}});
}

// ---- grammar ----

CLI::App* vm_verb(CLI::App* parent, const std::string& name, const std::string& what,
                  const Options& options) {
  CLI::App* sub = parent->add_subcommand(name, what);
  sub->add_option("vm", options->vm, "name or id")->required();
  return sub;
}

void add_policy(CLI::App* attest, Line& line, const Options& options) {
  CLI::App* policy = attest->add_subcommand("policy", "what a boot must be like");
  policy->require_subcommand(1);
  verb(vm_verb(policy, "show", "the VM's policy, as a file", options), line,
       [options](const Context& context) { return policy_show(context, *options); });
  CLI::App* set = vm_verb(policy, "set", "give the VM another policy", options);
  set->add_option("policy", options->file,
                  "linux, windows or a file (docs/formats/appraisal-policy.md)")
      ->type_name(kFileWord);
  set->add_flag("--default", options->standard, "the default again");
  verb(set, line, [options](const Context& context) { return policy_set(context, *options); });
}

void add_baseline(CLI::App* attest, Line& line, const Options& options) {
  CLI::App* baseline = attest->add_subcommand("baseline", "what the VM's boots are to measure");
  baseline->require_subcommand(1);
  verb(vm_verb(baseline, "show", "accepted boots and announced changes", options), line,
       [options](const Context& context) { return baseline_show(context, *options); });
  verb(vm_verb(baseline, "diff", "the present boot against the baseline, in words", options), line,
       [options](const Context& context) { return baseline_diff(context, *options); });
  verb(vm_verb(baseline, "learn",
               "forget what there is; the present boot (of a stopped VM: the next) is the baseline",
               options),
       line, [options](const Context& context) {
         return baseline_act(context, *options, {{"action", "learn"}});
       });
  CLI::App* accept =
      vm_verb(baseline, "accept", "the present boot is right: it becomes the baseline", options);
  accept->add_flag("--beside", options->beside, "beside what was accepted before");
  verb(accept, line, [options](const Context& context) {
    return baseline_act(context, *options, {{"action", "accept"}, {"beside", options->beside}});
  });
  CLI::App* announce =
      vm_verb(baseline, "announce", "a change that the next boot will show", options);
  announce->add_option("--why", options->why, "what for: it is shown when the change comes");
  announce->add_option("--text", options->texts,
                       "OLD=NEW in measured texts, such as a kernel's version; may be repeated");
  announce->add_option("--open-pcr", options->open_pcrs,
                       "take whatever this PCR shows, once, while PCR 7 stays; may be repeated");
  announce->add_flag("--grub-config", options->grub_config,
                     "GRUB's configuration will be another (update-grub): its commands and what it "
                     "reads before the kernel, once; the kernel, its command line and initrd stay, "
                     "but for --text");
  announce->add_option("--expires", options->expires, "such as 2h or 7d")->capture_default_str();
  announce->add_option("--file", options->file, "the change as JSON, docs/formats/baseline.md")
      ->type_name(kFileWord);
  verb(announce, line,
       [options](const Context& context) { return baseline_announce(context, *options); });
  CLI::App* withdraw = vm_verb(baseline, "withdraw", "an announced change will not come", options);
  withdraw->add_option("change", options->change, "its id")->required();
  verb(withdraw, line, [options](const Context& context) {
    return baseline_act(context, *options, {{"action", "withdraw"}, {"change", options->change}});
  });
}

}  // namespace

void add_attest(CLI::App& app, Line& line) {
  auto options = std::make_shared<AttestOptions>();
  CLI::App* attest = noun(app, "attest", "did the VM start as it should?");
  CLI::App* show = vm_verb(attest, "show", "verdict, reasons, what was compared", options);
  show->add_flag("--history", options->history, "earlier verdicts too");
  verb(show, line, [options](const Context& context) { return attest_show(context, *options); });
  CLI::App* check = vm_verb(attest, "check", "a verdict now, with a fresh quote", options);
  check->add_option("--nonce", options->nonce, "of who relies on the token: base64url, 8-64 bytes");
  check->add_flag("--no-guest", options->no_guest, "do not ask the guest for its event log");
  verb(check, line, [options](const Context& context) { return attest_check(context, *options); });
  verb(vm_verb(attest, "token", "the newest verdict as a token (EAR, a JWT)", options), line,
       [options](const Context& context) { return attest_token(context, *options); });
  CLI::App* evidence =
      vm_verb(attest, "evidence", "quote, key, log: for a verifier elsewhere", options);
  evidence->add_option("--nonce", options->nonce, "the verifier's: base64url, 8-64 bytes")
      ->required();
  evidence->add_option("--out", options->file, "write to this file")->type_name(kFileWord);
  verb(evidence, line,
       [options](const Context& context) { return attest_evidence(context, *options); });
  CLI::App* forget =
      vm_verb(attest, "forget", "the enrolled key, of a vTPM exchanged on purpose", options);
  forget->add_flag("--yes", options->yes, "do not ask");
  verb(forget, line,
       [options](const Context& context) { return attest_forget(context, *options); });
  CLI::App* submit = attest->add_subcommand(
      "submit", "have this site appraise evidence from anywhere and sign the result");
  submit->add_option("evidence", options->file, "JSON, docs/formats/evidence.md")
      ->type_name(kFileWord)
      ->required();
  submit->add_option("--nonce", options->nonce, "that the quote must carry: base64url")->required();
  submit->add_option("--policy", options->policy, "linux, windows or a file")->type_name(kFileWord);
  verb(submit, line,
       [options](const Context& context) { return attest_submit(context, *options); });
  verb(attest->add_subcommand("keys", "the keys that check this site's tokens (JWKS)"), line,
       [options](const Context& context) { return attest_keys(context, *options); });
  add_policy(attest, line, options);
  add_baseline(attest, line, options);
}

}  // namespace hf::cli
