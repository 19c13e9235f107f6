// The grammar: holdfast [--state DIR] [-o table|json] <noun> <verb> …
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/grammar.h"

namespace hf::cli {
int run(int argc, char** argv);

CLI::App* noun(CLI::App& app, const std::string& name, const std::string& what) {
  for (CLI::App* there :
       app.get_subcommands([&](CLI::App* sub) { return sub->get_name() == name; }))
    return there;
  CLI::App* sub = app.add_subcommand(name, what);
  sub->require_subcommand(1);
  return sub;
}

void verb(CLI::App* sub, Line& line, Act act) {
  sub->callback([&line, act = std::move(act)] { line.act = act; });
}

namespace {

// One of each kind of options; only one verb is given on a line.
struct Options {
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
  bool give_up_bad_tail = false;
  uint64_t timeout_seconds = 60;
  uint64_t job = 0;
};

void add_site(CLI::App& app, Line& line, Options& options) {
  CLI::App* site = noun(app, "site", "this site and its peers");
  CLI::App* init =
      site->add_subcommand("init", "make the state directory, the vault and the site's identity");
  init->add_option("--name", options.site_init.name, "the site's name (default: the host's)");
  init->add_option("--listen", options.site_init.listen, "ADDRESS:PORT for other sites")
      ->capture_default_str();
  init->add_option(
      "--uid-base", options.site_init.uid_base,
      "first of the users that run vault, daemon and VMs; 0: all as the invoking user");
  init->add_option("--secret-file", options.site_init.secret_file,
                   "unlock the vault with this file instead of the host's own secret");
  verb(init, line,
       [&options](const Context& context) { return site_init(context, options.site_init); });
  CLI::App* start =
      site->add_subcommand("start", "start vault and daemon and wait until they answer");
  start->add_flag("--foreground", options.foreground, "stay in the foreground");
  verb(start, line,
       [&options](const Context& context) { return site_start(context, options.foreground); });
  verb(site->add_subcommand("stop", "stop the site with its VMs"), line,
       [](const Context& context) { return site_stop(context); });
  verb(site->add_subcommand("show", "name, identity, fingerprint"), line,
       [](const Context& context) { return site_show(context); });
  verb(site->add_subcommand("peers", "paired sites and whether they answer"), line,
       [](const Context& context) { return site_peers(context); });
  CLI::App* pair = site->add_subcommand("pair", "pair with another site by a one-time token");
  pair->add_option("token", options.site_pair.token, "the token that the other site printed");
  pair->add_flag("--new-token", options.site_pair.new_token, "make a token for the other site");
  pair->add_option("--expires", options.site_pair.expires, "how long the token can be used")
      ->capture_default_str();
  pair->add_option(
      "--address", options.site_pair.address,
      "HOST:PORT under which the other site reaches this one (default: --listen of site init)");
  verb(pair, line,
       [&options](const Context& context) { return site_pair(context, options.site_pair); });
}

void add_vm_create(CLI::App* vm, Line& line, Options& options) {
  VmCreateOptions& create = options.vm_create;
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
  verb(sub, line,
       [&options](const Context& context) { return vm_create(context, options.vm_create); });
}

void add_vm(CLI::App& app, Line& line, Options& options) {
  CLI::App* vm = noun(app, "vm", "virtual machines");
  add_vm_create(vm, line, options);
  CLI::App* start = vm->add_subcommand("start", "start a VM");
  start->add_option("name", options.vm)->required();
  start->add_flag("--without-peer", options.without_peer,
                  "start a protected VM although its peer cannot be asked (audited)");
  start->add_flag("--give-up-bad-tail", options.give_up_bad_tail,
                  "after a failover: end the received journal before records that the VM's key did "
                  "not seal (audited)");
  verb(start, line, [&options](const Context& context) {
    return vm_start(context, options.vm, options.without_peer, options.give_up_bad_tail);
  });
  CLI::App* stop = vm->add_subcommand("stop", "shut a VM down");
  stop->add_option("name", options.vm)->required();
  stop->add_flag("--force", options.force, "power off at once");
  stop->add_option("--timeout", options.timeout_seconds, "seconds to wait for the guest")
      ->capture_default_str();
  verb(stop, line, [&options](const Context& context) {
    return vm_stop(context, options.vm, options.force, options.timeout_seconds);
  });
  verb(vm->add_subcommand("list", "all VMs"), line,
       [](const Context& context) { return vm_list(context); });
  CLI::App* show = vm->add_subcommand("show", "one VM");
  show->add_option("name", options.vm)->required();
  verb(show, line, [&options](const Context& context) { return vm_show(context, options.vm); });
  CLI::App* remove = vm->add_subcommand("delete", "delete a VM with its disks and its key");
  remove->add_option("name", options.vm)->required();
  remove->add_flag("--yes", options.yes, "do not ask");
  verb(remove, line,
       [&options](const Context& context) { return vm_delete(context, options.vm, options.yes); });
  CLI::App* console = vm->add_subcommand("console", "the VM's serial console");
  console->add_option("name", options.vm)->required();
  console->add_flag("--follow", options.follow, "go on with what comes");
  console->add_option("--send", options.send,
                      "send this text (\\n, \\r, \\t are understood) instead of reading");
  verb(console, line, [&options](const Context& context) {
    return vm_console(context, options.vm, options.follow, options.send);
  });
}

void add_protection(CLI::App& app, Line& line, Options& options) {
  CLI::App* protection = noun(app, "protection", "replication to another site");
  CLI::App* enable = protection->add_subcommand("enable", "protect a VM");
  enable->add_option("vm", options.vm)->required();
  enable->add_option("--to", options.peer, "the paired site")->required();
  verb(enable, line, [&options](const Context& context) {
    return protection_enable(context, options.vm, options.peer);
  });
  CLI::App* disable = protection->add_subcommand("disable", "end a VM's protection");
  disable->add_option("vm", options.vm)->required();
  verb(disable, line,
       [&options](const Context& context) { return protection_disable(context, options.vm); });
  CLI::App* show = protection->add_subcommand("show", "state, RPO, positions");
  show->add_option("vm", options.vm, "one VM (default: all)");
  verb(show, line,
       [&options](const Context& context) { return protection_show(context, options.vm); });
}

void add_rest(CLI::App& app, Line& line, Options& options) {
  CLI::App* failover = noun(app, "failover", "take a VM over from another site");
  CLI::App* unplanned =
      failover->add_subcommand("unplanned", "run the newest replicated state here");
  unplanned->add_option("vm", options.failover.vm)->required();
  unplanned->add_flag("--source-is-dead", options.failover.source_is_dead,
                      "your word that the VM does not run at its site any more");
  unplanned
      ->add_option("--attestation", options.failover.attestation,
                   "wait for the verdict of the boot; require: stop the VM again unless Healthy")
      ->check(CLI::IsMember({"none", "wait", "require"}))
      ->capture_default_str();
  unplanned->add_flag("--yes", options.failover.yes, "do not ask");
  verb(unplanned, line, [&options](const Context& context) {
    return failover_unplanned(context, options.failover);
  });
  CLI::App* job = noun(app, "job", "long-running commands");
  verb(job->add_subcommand("list", "newest first"), line,
       [](const Context& context) { return job_list(context); });
  CLI::App* show = job->add_subcommand("show", "one job");
  show->add_option("id", options.job)->required();
  verb(show, line, [&options](const Context& context) { return job_show(context, options.job); });
  CLI::App* host = noun(app, "host", "this host");
  verb(host->add_subcommand("show", "accelerator, firmware, versions"), line,
       [](const Context& context) { return host_show(context); });
}

}  // namespace

int run(int argc, char** argv) {
  Line line;
  Options options;
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
  add_site(app, line, options);
  add_vm(app, line, options);
  add_protection(app, line, options);
  add_rest(app, line, options);
  add_events(app, line);
  add_attest(app, line);
  add_attest_log(app, line);
  add_attest_verify(app, line);
  add_secure_boot(app, line);
  add_vm_check(app, line);
  add_attest_credential(app, line);
  add_attest_appraise(app, line);
  add_secure_boot_vm(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  line.context.format = line.format == "json" ? Format::kJson : Format::kTable;
  Status done = line.act(line.context);
  if (done.ok()) return 0;
  print_error(line.context, done.error());
  return 1;
}

}  // namespace hf::cli
