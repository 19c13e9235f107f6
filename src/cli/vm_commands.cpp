// holdfast vm …
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "cli/core/grammar.h"
#include "cli/core/parse.h"
#include "cli/operator_words.h"

namespace hf::cli {
namespace {

std::string target(const std::string& name, std::string_view rest = "") {
  return "/v1/vms/" + url_escape(name) + std::string(rest);
}

Status run_job(const Context& context, const std::string& where, const sys::JsonObject& body) {
  Client client = context.client();
  sys::JsonValue job = TRY(client.post(where, body));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

struct CreateOptions {
  std::string name;
  std::vector<std::string> disks;
  std::vector<std::string> blanks;
  std::string memory = "1G";
  uint64_t cpus = 1;
  std::string security_type = "TrustedLaunch";
  std::string secure_boot;  // "", "on", "off"
  std::string vtpm;
  std::vector<std::string> pcr_banks;
  std::vector<std::string> nics;
};

Status vm_create(const Context& context, const CreateOptions& options) {
  sys::JsonArray disks;
  for (const std::string& disk : options.disks) {
    disks.push_back(sys::JsonObject{{"image", std::filesystem::absolute(disk).string()}});
  }
  for (const std::string& blank : options.blanks) {
    disks.push_back(sys::JsonObject{{"size_bytes", TRY(parse_size(blank))}});
  }
  sys::JsonObject body{{"name", options.name},
                       {"security_type", options.security_type},
                       {"cpus", options.cpus},
                       {"memory_mib", TRY(parse_size(options.memory)) >> 20},
                       {"disks", std::move(disks)}};
  if (!options.secure_boot.empty()) body["secure_boot"] = options.secure_boot == "on";
  if (!options.vtpm.empty()) body["vtpm"] = options.vtpm == "on";
  if (!options.pcr_banks.empty()) {
    sys::JsonArray banks;
    for (const std::string& bank : options.pcr_banks) banks.emplace_back(bank);
    body["pcr_banks"] = std::move(banks);
  }
  if (std::ranges::count(options.pcr_banks, "sha1") != 0) {
    std::fprintf(stderr,
                 "warning: collisions of SHA-1 can be made, so a seal to its bank may open for "
                 "another boot; Holdfast's own verdicts rely on sha256\n");
  }
  sys::JsonArray nics;
  for (const std::string& nic : options.nics) nics.emplace_back(nic);
  body["nics"] = std::move(nics);
  return run_job(context, "/v1/vms", body);
}

struct StartOptions {
  std::string name;
  bool without_peer = false;
  bool give_up_bad_tail = false;
};

Status vm_start(const Context& context, const StartOptions& options) {
  std::string word;
  if (options.without_peer) word = TRY(say_word(context, options.name, title::Act::kGoOn));
  return run_job(context, target(options.name, "/start"),
                 {{"without_peer", options.without_peer},
                  {"word", word},
                  {"give_up_bad_tail", options.give_up_bad_tail}});
}

Status vm_title(const Context& context, const std::string& name) {
  const sys::JsonValue shown = TRY(context.client().get(target(name, "/title")));
  if (context.format == Format::kJson) {
    print_object(context, shown.as_object());
    return {};
  }
  print_rows(context, shown.at("chain").as_array(),
             {{"TIME", "time_us"},
              {"WHAT", "kind"},
              {"BY", "by"},
              {"HOLDER", "holder"},
              {"STANDBYS", "standbys"},
              {"EPOCH", "epoch"},
              {"ON WHOSE WORD", "word"}});
  return {};
}

struct StopOptions {
  std::string name;
  bool force = false;
  uint64_t timeout_seconds = 60;
};

Status vm_stop(const Context& context, const StopOptions& options) {
  return run_job(context, target(options.name, "/stop"),
                 {{"force", options.force}, {"timeout_seconds", options.timeout_seconds}});
}

Status vm_list(const Context& context) {
  sys::JsonValue vms = TRY(context.client().get("/v1/vms"));
  if (!vms.is_array()) return {};
  std::vector<Column> columns{{"NAME", "name"},          {"STATE", "state"},
                              {"BOOT", "boot"},          {"SECURITY", "security_type"},
                              {"CPUS", "cpus"},          {"MEMORY MiB", "memory_mib"},
                              {"EPOCH", "epoch"},        {"ID", "id"},
                              {"REASON", "reason.cause"}};
  const auto in_conflict = [](const sys::JsonValue& vm) {
    return vm.is_object() && vm.as_object().contains("conflict");
  };
  if (std::ranges::any_of(vms.as_array(), in_conflict))
    columns.insert(columns.begin() + 2, {"CONFLICT WITH", "conflict"});
  print_rows(context, vms.as_array(), columns);
  return {};
}

Status vm_show(const Context& context, const std::string& name) {
  sys::JsonValue vm = TRY(context.client().get(target(name)));
  if (vm.is_object()) print_object(context, vm.as_object());
  return {};
}

struct DeleteOptions {
  std::string name;
  bool yes = false;
  bool without_peer = false;
};

Status vm_delete(const Context& context, const DeleteOptions& options) {
  Client client = context.client();
  TRY(client.get(target(options.name)));
  if (!options.yes)
    TRY(confirm("Delete VM \"" + options.name +
                "\" with its disks and its key? Nothing can bring them back."));
  sys::JsonValue job =
      TRY(client.remove(target(options.name, options.without_peer ? "?without_peer=1" : "")));
  print_object(context, TRY(follow_job(context, client, job)));
  return {};
}

void add_create(CLI::App* vm, Line& line) {
  CLI::App* sub = vm->add_subcommand("create", "create a VM");
  auto options = std::make_shared<CreateOptions>();
  sub->add_option("name", options->name, "of the VM")->required();
  sub->add_option("--disk", options->disks, "raw image to take over as a disk; may be repeated")
      ->type_name(kFileWord);
  sub->add_option("--blank", options->blanks,
                  "SIZE of an empty disk; may be repeated, after the images");
  sub->add_option("--memory", options->memory, "such as 512M or 4G")->capture_default_str();
  sub->add_option("--cpus", options->cpus, "virtual CPUs")->capture_default_str();
  sub->add_option("--security-type", options->security_type, "TrustedLaunch or Standard")
      ->capture_default_str();
  sub->add_option("--secure-boot", options->secure_boot, "on or off")
      ->check(CLI::IsMember({"on", "off"}));
  sub->add_option("--vtpm", options->vtpm, "on or off")->check(CLI::IsMember({"on", "off"}));
  sub->add_option("--pcr-banks", options->pcr_banks,
                  "of the vTPM, such as sha256,sha384; sha256 (the default) is always among them")
      ->delimiter(',');
  sub->add_option("--nic", options->nics, "user (NAT) or none; may be repeated");
  verb(sub, line, [options](const Context& context) { return vm_create(context, *options); });
}

void add_start(CLI::App* vm, Line& line) {
  CLI::App* start = vm->add_subcommand("start", "start a VM");
  auto options = std::make_shared<StartOptions>();
  start->add_option("vm", options->name, "its name or id")->required();
  start->add_flag("--without-peer", options->without_peer,
                  "start a protected VM although its peer cannot be asked (audited)");
  start->add_flag("--give-up-bad-tail", options->give_up_bad_tail,
                  "after a failover: end the received journal before records that the VM's key did "
                  "not seal (audited)");
  verb(start, line, [options](const Context& context) { return vm_start(context, *options); });
}

void add_title(CLI::App* vm, Line& line) {
  CLI::App* title = vm->add_subcommand("title", "who may run a VM, and how it came to that");
  auto name = std::make_shared<std::string>();
  title->add_option("name", *name, "of the VM")->required();
  verb(title, line, [name](const Context& context) { return vm_title(context, *name); });
}

void add_stop(CLI::App* vm, Line& line) {
  CLI::App* stop = vm->add_subcommand("stop", "shut a VM down");
  auto options = std::make_shared<StopOptions>();
  stop->add_option("vm", options->name, "its name or id")->required();
  stop->add_flag("--force", options->force, "power off at once");
  stop->add_option("--timeout", options->timeout_seconds, "seconds to wait for the guest")
      ->capture_default_str();
  verb(stop, line, [options](const Context& context) { return vm_stop(context, *options); });
}

void add_delete(CLI::App* vm, Line& line) {
  CLI::App* remove = vm->add_subcommand("delete", "delete a VM with its disks and its key");
  auto options = std::make_shared<DeleteOptions>();
  remove->add_option("vm", options->name, "its name or id")->required();
  remove->add_flag("--yes", options->yes, "do not ask");
  remove->add_flag("--without-peer", options->without_peer,
                   "although the site that took the VM over does not say that it has it");
  verb(remove, line, [options](const Context& context) { return vm_delete(context, *options); });
}

}  // namespace

void add_vm(CLI::App& app, Line& line) {
  CLI::App* vm = noun(app, "vm", "virtual machines");
  add_create(vm, line);
  add_start(vm, line);
  add_title(vm, line);
  add_stop(vm, line);
  verb(vm->add_subcommand("list", "all VMs"), line, vm_list);
  CLI::App* show = vm->add_subcommand("show", "one VM");
  auto name = std::make_shared<std::string>();
  show->add_option("vm", *name, "its name or id")->required();
  verb(show, line, [name](const Context& context) { return vm_show(context, *name); });
  add_delete(vm, line);
}

}  // namespace hf::cli
