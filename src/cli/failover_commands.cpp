// holdfast failover …
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>

#include "cli/core/grammar.h"
#include "cli/core/parse.h"
#include "cli/failover_question.h"
#include "cli/operator_words.h"

namespace hf::cli {
namespace {

struct FailoverOptions {
  std::string vm;
  bool source_is_off = false;
  bool yes = false;
  std::string wait_for_tail = "10s";
  std::string attestation = "none";  // "none", "wait", "require"
};

std::string ago(uint64_t then_us, uint64_t now_us) {
  const uint64_t seconds = now_us > then_us ? (now_us - then_us) / 1'000'000 : 0;
  if (seconds < 120) return fmt::format("{} s ago", seconds);
  if (seconds < 7'200) return fmt::format("{} min ago", seconds / 60);
  if (seconds < 172'800) return fmt::format("{} h ago", seconds / 3'600);
  return fmt::format("{} days ago", seconds / 86'400);
}

std::string when(const sys::JsonObject& of, const std::string& member, uint64_t now_us) {
  Result<uint64_t> then = sys::get_u64(of, member);
  if (!then.ok() || *then == 0) return "at a time that is not known";
  return ago(*then, now_us) + " (" + time_text(*then) + ")";
}

std::string of_living(const sys::JsonObject& source, const std::string& vm) {
  const std::string site = cell(source, "site");
  const std::string role = cell(source, "role");
  if (role == "superseded")
    return fmt::format("Site {} answers: it has stopped the VM for good already.", site);
  if (role == "-") return fmt::format("Site {} answers: {}.", site, cell(source, "error.cause"));
  const bool runs = cell(source, "running") == "yes";
  return fmt::format(
      "Site {0} answers: VM \"{1}\" {2} there, under epoch {3}. It is stopped there for good: "
      "{4}what "
      "this site lacks of it is shipped, for some seconds at most; then it runs here alone.",
      site, vm, runs ? "runs" : "does not run", cell(source, "epoch"),
      runs ? "its power is cut, without asking its guest; then " : "");
}

// What the silent site will do by itself, as far as it has signed that.
std::string by_its_title(const sys::JsonObject& source) {
  const std::string site = cell(source, "site");
  if (cell(source, "waits_for_this_site") != "yes") {
    return fmt::format(
        "Nothing keeps site {} from starting the VM alone: it has not signed that "
        "this site stands by",
        site);
  }
  return fmt::format(
      "By what site {} has signed, it starts the VM only when it has heard from this "
      "site{}; one that runs there runs on",
      site,
      source.contains("starts_alone_after_s")
          ? ", or was without it for " + cell(source, "starts_alone_after_s") + " s"
          : "");
}

std::string of_silent(const sys::JsonObject& source, bool said_off, uint64_t now_us) {
  const std::string seen = source.contains("last_seen_us")
                               ? "it was last heard of " + when(source, "last_seen_us", now_us)
                               : "it was not heard of since holdfastd began here";
  const std::string site = cell(source, "site");
  std::string text = fmt::format(
      "Site {} does not answer; {}. Whether the VM runs there is not known", site, seen);
  if (!said_off) return text + ", so without --source-is-off this is refused.";
  return text + fmt::format(
                    ".\n{1}.\nWith --source-is-off you say that site {0} does not run the VM, and "
                    "stays off, or cut off from its hosts, until it has talked to this site. What "
                    "was written there and not shipped is lost.",
                    site, by_its_title(source));
}

}  // namespace

std::string failover_question(const sys::JsonObject& preview, bool said_off, uint64_t now_us) {
  static const sys::JsonObject kNone;
  const auto part = [&](const char* name) -> const sys::JsonObject& {
    const sys::JsonValue* at = preview.if_contains(name);
    return at != nullptr && at->is_object() ? at->as_object() : kNone;
  };
  const sys::JsonObject& replica = part("replica");
  const sys::JsonObject& source = part("source");
  const std::string vm = cell(preview, "vm");
  std::string text = fmt::format("The newest state of VM \"{}\" here was written {}", vm,
                                 when(replica, "durable_time_us", now_us));
  const std::string lag = cell(replica, "lag_records");
  if (lag == "0") text += "; nothing that its source has told of is lacking";
  if (lag != "0" && lag != "-") text += "; " + lag + " records of its source are lacking";
  text += ".\n";
  text += cell(source, "answers") == "yes" ? of_living(source, vm)
                                           : of_silent(source, said_off, now_us);
  return text + fmt::format("\nRun VM \"{}\" here, under epoch {}?", vm, cell(preview, "epoch"));
}

namespace {

std::string rival_words(const sys::JsonObject& statement) {
  std::string text = fmt::format("  site {}: \"{}\" at {}", cell(statement, "holder"),
                                 cell(statement, "kind"), cell(statement, "time_us"));
  if (statement.contains("word")) text += ", on the word \"" + cell(statement, "word") + "\"";
  return text + "\n";
}

}  // namespace

std::string settle_question(const sys::JsonObject& vm, const std::string& keep) {
  const std::string name = cell(vm, "name");
  std::string text;
  const sys::JsonValue* title = vm.if_contains("title");
  const sys::JsonValue* rivals =
      title != nullptr && title->is_object() ? title->as_object().if_contains("rivals") : nullptr;
  if (rivals != nullptr && rivals->is_array() && !rivals->as_array().empty()) {
    text = fmt::format("Each of these has the VM \"{}\" by its own title:\n", name) +
           rival_words(title->as_object());
    for (const sys::JsonValue& rival : rivals->as_array())
      if (rival.is_object()) text += rival_words(rival.as_object());
  } else {
    text = fmt::format("No conflict about VM \"{}\" is known here yet.\n", name);
  }
  return text + fmt::format(
                    "The other site's guest is stopped hard; what was written there since the two "
                    "parted is not part of the VM any more, and is kept aside there.\nKeep VM "
                    "\"{}\" as site {} has it?",
                    name, keep);
}

namespace {

Status failover_unplanned(const Context& context, const FailoverOptions& options) {
  const uint64_t tail_s = TRY(parse_duration(options.wait_for_tail));
  Client client = context.client();
  std::string where = "/v1/vms/" + url_escape(options.vm);
  if (!options.yes) {
    const sys::JsonValue preview = TRY(client.get(where + "/failover"));
    if (!preview.is_object())
      return Error{.code = ErrorCode::kInternal, .cause = "holdfastd sent no preview"};
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    TRY(confirm(failover_question(
        preview.as_object(), options.source_is_off,
        static_cast<uint64_t>(
            std::chrono::duration_cast<std::chrono::microseconds>(now).count()))));
  }
  // By the vault's own socket: holdfastd can neither make it up nor keep it.
  std::string word;
  if (options.source_is_off) word = TRY(say_word(context, options.vm, title::Act::kTake));
  sys::JsonValue job =
      TRY(client.post(where + "/failover", {{"kind", "unplanned"},
                                            {"source_is_off", options.source_is_off},
                                            {"word", word},
                                            {"wait_for_tail_seconds", tail_s},
                                            {"attestation", options.attestation}}));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

struct SettleOptions {
  std::string vm;
  std::string keep;
  std::string distrust;
  bool yes = false;
};

std::string distrust_question(const SettleOptions& options) {
  return fmt::format(
      "Site {0} has no part in VM \"{1}\" from now on, whatever it has signed and answers. If it "
      "has "
      "taken the VM, this site takes it back, and runs it from what is here: what was written at "
      "site {0} is not believed. Its trust in all else ends by `holdfast site unpair {0}`.\n"
      "Do so?",
      options.distrust, options.vm);
}

Status failover_distrust(const Context& context, const SettleOptions& options) {
  Client client = context.client();
  const sys::JsonValue site = TRY(client.get("/v1/site"));
  if (!site.is_object() || cell(site.as_object(), "name") != options.keep) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "this site is not called \"" + options.keep + "\"",
                 .effect = "nothing was changed",
                 .mend = "give the command at the site that is to have the VM, with its own name"};
  }
  if (!options.yes) TRY(confirm(distrust_question(options)));
  const std::string word = TRY(say_word(context, options.vm, title::Act::kDistrust));
  const sys::JsonValue job = TRY(client.post("/v1/vms/" + url_escape(options.vm) + "/failover",
                                             {{"kind", "settle"},
                                              {"keep", options.keep},
                                              {"distrust", options.distrust},
                                              {"word", word}}));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

Status failover_settle(const Context& context, const SettleOptions& options) {
  if (!options.distrust.empty()) return failover_distrust(context, options);
  Client client = context.client();
  const std::string where = "/v1/vms/" + url_escape(options.vm);
  if (!options.yes) {
    const sys::JsonValue vm = TRY(client.get(where));
    if (!vm.is_object())
      return Error{.code = ErrorCode::kInternal, .cause = "holdfastd sent no VM"};
    TRY(confirm(settle_question(vm.as_object(), options.keep)));
  }
  const sys::JsonValue job =
      TRY(client.post(where + "/failover", {{"kind", "settle"}, {"keep", options.keep}}));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

void add_settle(CLI::App* failover, Line& line) {
  CLI::App* settle = failover->add_subcommand(
      "settle", "end a conflict: two sites were told to run one VM, and one of them is to have it");
  auto options = std::make_shared<SettleOptions>();
  settle->add_option("vm", options->vm, "the VM's name")->required();
  settle
      ->add_option(
          "--keep", options->keep,
          "the site that is to have it, as it has written it; the other one stops it, keeps "
          "what it wrote aside, and stands by")
      ->type_name(kSiteWord)
      ->required();
  settle
      ->add_option("--distrust", options->distrust,
                   "the other site, which is not to be believed any more, whatever it answers: it "
                   "has no part in the VM from now on")
      ->type_name(kSiteWord);
  settle->add_flag("--yes", options->yes, "do not ask, nor say beforehand what would be done");
  verb(settle, line,
       [options](const Context& context) { return failover_settle(context, *options); });
}

}  // namespace

void add_failover(CLI::App& app, Line& line) {
  CLI::App* failover = noun(app, "failover", "take a VM over from another site");
  CLI::App* unplanned =
      failover->add_subcommand("unplanned", "run the newest replicated state here");
  auto options = std::make_shared<FailoverOptions>();
  unplanned->add_option("vm", options->vm, "the VM's name")->required();
  unplanned->add_flag(
      "--source-is-off", options->source_is_off,
      "your word that a site that does not answer does not run the VM, and stays off until it has "
      "talked to this site; not of one that answers and refuses");
  unplanned
      ->add_option("--wait-for-tail", options->wait_for_tail,
                   "how long a source that lives may take to ship what is lacking here; if that is "
                   "not enough, the VM runs on there; up to 4m")
      ->type_name("TIME")
      ->capture_default_str();
  unplanned
      ->add_option("--attestation", options->attestation,
                   "wait for the verdict of the boot; require: stop the VM again unless Healthy")
      ->check(CLI::IsMember({"none", "wait", "require"}))
      ->capture_default_str();
  unplanned->add_flag("--yes", options->yes, "do not ask, nor say beforehand what would be done");
  verb(unplanned, line,
       [options](const Context& context) { return failover_unplanned(context, *options); });
  add_settle(failover, line);
}

}  // namespace hf::cli
