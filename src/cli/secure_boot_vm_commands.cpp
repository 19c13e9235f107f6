// holdfast secure-boot … of VMs: what the other verbs work on, saved stores, and the roll-over.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/core/grammar.h"
#include "cli/secure_boot_profile.h"
#include "cli/secure_boot_target.h"
#include "secure_boot/change/variables_json.h"
#include "secure_boot/keys/authenticated_update.h"

namespace hf::cli {
namespace {

namespace sb = secure_boot;

std::string path_of(const std::string& vm, std::string_view rest = "") {
  return "/v1/vms/" + url_escape(vm) + "/secure-boot" + std::string(rest);
}

sys::JsonArray changes_json(std::span<const sb::Change> changes) {
  sys::JsonArray list;
  for (const sb::Change& change : changes) list.push_back(sb::to_json(change));
  return list;
}

class VmTarget final : public SecureBootTarget {
 public:
  VmTarget(const Context& context, std::string vm) : context_(context), vm_(std::move(vm)) {}

  Result<sb::SecureBootVariables> read() override {
    sys::JsonValue view = TRY(context_.client().get(path_of(vm_)));
    if (!view.is_object()) return Error{.code = ErrorCode::kInternal, .cause = "no object"};
    return sb::secure_boot_variables_from_json(*TRY(sys::get_object(view.as_object(), "state")));
  }

  Result<std::vector<sb::ChangeResult>> apply(std::span<const sb::Change> changes) override {
    Client client = context_.client();
    sys::JsonValue job = TRY(client.post(path_of(vm_), {{"changes", changes_json(changes)}}));
    sys::JsonObject result = TRY(follow_job(context_, client, job));
    std::vector<sb::ChangeResult> done;
    for (const sys::JsonValue& item : *TRY(sys::get_array(result, "results"))) {
      if (!item.is_object()) continue;
      const sys::JsonObject& one = item.as_object();
      done.push_back({.variable = TRY(sys::get_string(one, "variable")),
                      .added = TRY(sys::get_u64(one, "added")),
                      .removed = TRY(sys::get_u64(one, "removed")),
                      .changed = TRY(sys::get_bool(one, "changed")),
                      .words = TRY(sys::get_string(one, "words"))});
    }
    return done;
  }

 private:
  Context context_;
  std::string vm_;
};

Status keep(const Context& context, const std::string& vm, const std::string& action,
            const std::string& name) {
  Client client = context.client();
  sys::JsonValue job =
      TRY(client.post(path_of(vm, "/saved"), {{"action", action}, {"name", name}}));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

struct RolloverWords {
  ProfileWords profile;
  std::vector<std::string> updates;
  bool back = false;
  bool in_guest = false;
  bool finish = false;
  bool without_reseal = false;
  uint64_t timeout_seconds = 120;
};

Result<sys::JsonArray> rollover_changes(const Context& context, const RolloverWords& words) {
  sys::JsonArray list;
  if (!words.profile.profile.empty()) {
    auto target = vm_secure_boot_target(context, words.profile.target);
    const sb::ProfilePlan plan = TRY(plan_profile_words(words.profile, TRY(target->read())));
    for (const std::string& note : plan.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
    list = changes_json(plan.changes);
  }
  for (const std::string& path : words.updates) {
    list.push_back(sb::to_json(sb::Change{.variable = "",
                                          .action = sb::ChangeAction::kUpdate,
                                          .data = TRY(read_file(path, sb::kUpdateBytesMax))}));
  }
  if (!list.empty()) return list;
  const bool asked = !words.profile.profile.empty();
  return Error{
      .code = ErrorCode::kInvalidArgument,
      .cause = asked ? "the VM's keys are so already" : "it is not said what to roll over to",
      .effect = "nothing was changed",
      .mend = "give --to PROFILE, --update FILE, --finish or --back"};
}

Status rollover(const Context& context, const RolloverWords& words) {
  sys::JsonObject body{{"timeout_seconds", words.timeout_seconds},
                       {"without_reseal", words.without_reseal},
                       {"back", words.back},
                       {"in_guest", words.in_guest},
                       {"finish", words.finish}};
  if (!words.back && !words.finish) body["changes"] = TRY(rollover_changes(context, words));
  if (words.profile.dry_run && !words.back && !words.finish) {
    print_object(context, body);
    return {};
  }
  Client client = context.client();
  sys::JsonValue job = TRY(client.post(path_of(words.profile.target, "/rollover"), body));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

void add_saved(CLI::App* secure_boot, Line& line, const std::string& name,
               const std::string& what) {
  struct Words {
    std::string vm;
    std::string name;
  };
  auto words = std::make_shared<Words>();
  CLI::App* sub = secure_boot->add_subcommand(name, what);
  sub->add_option("vm", words->vm, "name or id")->required();
  sub->add_option("name", words->name, "of the saved copy")->required();
  verb(sub, line, [words, name](const Context& context) {
    return keep(context, words->vm, name, words->name);
  });
}

}  // namespace

std::unique_ptr<SecureBootTarget> vm_secure_boot_target(const Context& context,
                                                        const std::string& name) {
  return std::make_unique<VmTarget>(context, name);
}

void add_secure_boot_vm(CLI::App& app, Line& line) {
  CLI::App* secure_boot =
      noun(app, "secure-boot", "Secure Boot keys of a VM or of a variable store in a file");
  add_saved(secure_boot, line, "save", "keep a named copy of a VM's variable store");
  add_saved(secure_boot, line, "restore", "put a saved copy back in a stopped VM");
  add_saved(secure_boot, line, "forget", "give a saved copy up");
  auto words = std::make_shared<RolloverWords>();
  CLI::App* sub = secure_boot->add_subcommand(
      "rollover",
      "change the keys without a lock-out: the guest reseals for the PCR 7 to come, then the VM is "
      "stopped, changed, started and checked");
  sub->add_option("vm", words->profile.target, "name or id")->required();
  sub->add_option("--to", words->profile.profile, std::string(kProfileNames));
  sub->add_option("--update", words->updates, "signed update, such as a dbx file; may be repeated")
      ->type_name(kFileWord);
  add_profile_options(sub, words->profile);
  CLI::Option* in_guest = sub->add_flag(
      "--in-guest", words->in_guest,
      "the running guest's own firmware takes the signed updates: nothing is stopped, and the next "
      "restart of the guest measures them");
  CLI::Option* back = sub->add_flag("--back", words->back, "to the keys before the last roll-over");
  CLI::Option* finish = sub->add_flag("--finish", words->finish,
                                      "end one that waited for a restart, or that broke off");
  back->excludes(in_guest)->excludes(finish);
  finish->excludes(in_guest);
  sub->add_flag("--without-reseal", words->without_reseal,
                "the disk's recovery key is at hand: do not ask the guest");
  sub->add_option("--timeout", words->timeout_seconds, "seconds for the guest to shut down")
      ->capture_default_str();
  sub->add_flag("--dry-run", words->profile.dry_run, "say what would change");
  verb(sub, line, [words](const Context& context) { return rollover(context, *words); });
}

}  // namespace hf::cli
