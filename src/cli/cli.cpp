// The grammar: holdfast [--state DIR] [-o table|json] <noun> <verb> …
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <functional>

#include "cli/commands.h"

namespace hf::cli {
int run(int argc, char** argv);

namespace {

// What was asked for; run after the whole line was understood.
using Act = std::function<Status()>;

struct Line {
  Context context;
  std::string format;
  Act act;
  // One of each kind of options; only one verb is given on a line.
  SiteInitOptions site_init;
  SitePairOptions site_pair;
  VmCreateOptions vm_create;
  FailoverOptions failover;
  std::string vm;
  std::string peer;
  std::string send;
  bool foreground = false;
  bool force = false;
  bool yes = false;
  bool follow = false;
  bool without_peer = false;
  uint64_t timeout_seconds = 60;
  uint64_t job = 0;
};

CLI::App* noun(CLI::App& app, const std::string& name, const std::string& what) {
  CLI::App* sub = app.add_subcommand(name, what);
  sub->require_subcommand(1);
  return sub;
}

void verb(CLI::App* sub, Line& line, Act act) {
  sub->callback([&line, act = std::move(act)] { line.act = act; });
}

void add_site(CLI::App& app, Line& line) {
  CLI::App* site = noun(app, "site", "this site and its peers");
  CLI::App* init =
      site->add_subcommand("init", "make the state directory, the vault and the site's identity");
  init->add_option("--name", line.site_init.name, "the site's name (default: the host's)");
  init->add_option("--listen", line.site_init.listen, "ADDRESS:PORT for other sites")
      ->capture_default_str();
  init->add_option(
      "--uid-base", line.site_init.uid_base,
      "first of the users that run vault, daemon and VMs; 0: all as the invoking user");
  init->add_option("--secret-file", line.site_init.secret_file,
                   "unlock the vault with this file instead of the host's own secret");
  verb(init, line, [&line] { return site_init(line.context, line.site_init); });
  CLI::App* start =
      site->add_subcommand("start", "start vault and daemon and wait until they answer");
  start->add_flag("--foreground", line.foreground, "stay in the foreground");
  verb(start, line, [&line] { return site_start(line.context, line.foreground); });
  verb(site->add_subcommand("stop", "stop the site with its VMs"), line,
       [&line] { return site_stop(line.context); });
  verb(site->add_subcommand("show", "name, identity, fingerprint"), line,
       [&line] { return site_show(line.context); });
  verb(site->add_subcommand("peers", "paired sites and whether they answer"), line,
       [&line] { return site_peers(line.context); });
  CLI::App* pair = site->add_subcommand("pair", "pair with another site by a one-time token");
  pair->add_option("token", line.site_pair.token, "the token that the other site printed");
  pair->add_flag("--new-token", line.site_pair.new_token, "make a token for the other site");
  pair->add_option("--expires", line.site_pair.expires, "how long the token can be used")
      ->capture_default_str();
  pair->add_option(
      "--address", line.site_pair.address,
      "HOST:PORT under which the other site reaches this one (default: --listen of site init)");
  verb(pair, line, [&line] { return site_pair(line.context, line.site_pair); });
}

void add_vm_create(CLI::App* vm, Line& line) {
  VmCreateOptions& create = line.vm_create;
  CLI::App* sub = vm->add_subcommand("create", "create a VM");
  sub->add_option("name", create.name)->required();
  sub->add_option("--disk", create.disks, "raw image to take over as a disk; may be repeated");
  sub->add_option("--blank", create.blanks,
                  "SIZE of an empty disk; may be repeated, after the images");
  sub->add_option("--memory", create.memory, "such as 512M or 4G")->capture_default_str();
  sub->add_option("--cpus", create.cpus, "virtual CPUs")->capture_default_str();
  sub->add_option("--security-type", create.security_type, "TrustedLaunch or Standard")
      ->capture_default_str();
  sub->add_option("--secure-boot", create.secure_boot, "on or off")
      ->check(CLI::IsMember({"on", "off"}));
  sub->add_option("--vtpm", create.vtpm, "on or off")->check(CLI::IsMember({"on", "off"}));
  sub->add_option("--nic", create.nics, "user (NAT) or none; may be repeated");
  verb(sub, line, [&line] { return vm_create(line.context, line.vm_create); });
}

void add_vm(CLI::App& app, Line& line) {
  CLI::App* vm = noun(app, "vm", "virtual machines");
  add_vm_create(vm, line);
  CLI::App* start = vm->add_subcommand("start", "start a VM");
  start->add_option("name", line.vm)->required();
  start->add_flag("--without-peer", line.without_peer,
                  "start a protected VM although its peer cannot be asked (audited)");
  verb(start, line, [&line] { return vm_start(line.context, line.vm, line.without_peer); });
  CLI::App* stop = vm->add_subcommand("stop", "shut a VM down");
  stop->add_option("name", line.vm)->required();
  stop->add_flag("--force", line.force, "power off at once");
  stop->add_option("--timeout", line.timeout_seconds, "seconds to wait for the guest")
      ->capture_default_str();
  verb(stop, line,
       [&line] { return vm_stop(line.context, line.vm, line.force, line.timeout_seconds); });
  verb(vm->add_subcommand("list", "all VMs"), line, [&line] { return vm_list(line.context); });
  CLI::App* show = vm->add_subcommand("show", "one VM");
  show->add_option("name", line.vm)->required();
  verb(show, line, [&line] { return vm_show(line.context, line.vm); });
  CLI::App* remove = vm->add_subcommand("delete", "delete a VM with its disks and its key");
  remove->add_option("name", line.vm)->required();
  remove->add_flag("--yes", line.yes, "do not ask");
  verb(remove, line, [&line] { return vm_delete(line.context, line.vm, line.yes); });
  CLI::App* console = vm->add_subcommand("console", "the VM's serial console");
  console->add_option("name", line.vm)->required();
  console->add_flag("--follow", line.follow, "go on with what comes");
  console->add_option("--send", line.send,
                      "send this text (\\n, \\r, \\t are understood) instead of reading");
  verb(console, line,
       [&line] { return vm_console(line.context, line.vm, line.follow, line.send); });
}

void add_protection(CLI::App& app, Line& line) {
  CLI::App* protection = noun(app, "protection", "replication to another site");
  CLI::App* enable = protection->add_subcommand("enable", "protect a VM");
  enable->add_option("vm", line.vm)->required();
  enable->add_option("--to", line.peer, "the paired site")->required();
  verb(enable, line, [&line] { return protection_enable(line.context, line.vm, line.peer); });
  CLI::App* disable = protection->add_subcommand("disable", "end a VM's protection");
  disable->add_option("vm", line.vm)->required();
  verb(disable, line, [&line] { return protection_disable(line.context, line.vm); });
  CLI::App* show = protection->add_subcommand("show", "state, RPO, positions");
  show->add_option("vm", line.vm, "one VM (default: all)");
  verb(show, line, [&line] { return protection_show(line.context, line.vm); });
}

void add_rest(CLI::App& app, Line& line) {
  CLI::App* failover = noun(app, "failover", "take a VM over from another site");
  CLI::App* unplanned =
      failover->add_subcommand("unplanned", "run the newest replicated state here");
  unplanned->add_option("vm", line.failover.vm)->required();
  unplanned->add_flag("--source-is-dead", line.failover.source_is_dead,
                      "your word that the VM does not run at its site any more");
  unplanned->add_flag("--yes", line.failover.yes, "do not ask");
  verb(unplanned, line, [&line] { return failover_unplanned(line.context, line.failover); });
  CLI::App* job = noun(app, "job", "long-running commands");
  verb(job->add_subcommand("list", "newest first"), line,
       [&line] { return job_list(line.context); });
  CLI::App* show = job->add_subcommand("show", "one job");
  show->add_option("id", line.job)->required();
  verb(show, line, [&line] { return job_show(line.context, line.job); });
  CLI::App* host = noun(app, "host", "this host");
  verb(host->add_subcommand("show", "accelerator, firmware, versions"), line,
       [&line] { return host_show(line.context); });
}

}  // namespace

int run(int argc, char** argv) {
  Line line;
  line.context.state = "/var/lib/holdfast";
  CLI::App app("Holdfast: trusted-launch VMs that survive the loss of their site", "holdfast");
  app.add_option("--state", line.context.state, "state directory")
      ->envname("HOLDFAST_STATE")
      ->capture_default_str();
  app.add_option("-o,--output", line.format, "table or json")
      ->check(CLI::IsMember({"table", "json"}));
  app.add_flag("-q,--quiet", line.context.quiet, "no progress on stderr");
  app.set_version_flag("--version", "holdfast 0.1.0");
  app.require_subcommand(1);
  app.fallthrough();
  add_site(app, line);
  add_vm(app, line);
  add_protection(app, line);
  add_rest(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  line.context.format = line.format == "json" ? Format::kJson : Format::kTable;
  Status done = line.act();
  if (done.ok()) return 0;
  print_error(line.context, done.error());
  return 1;
}

}  // namespace hf::cli
