#include "cli/cli.h"

#include <CLI/CLI.hpp>

#include "cli/core/grammar.h"

namespace hf::cli {

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

void add_grammar(CLI::App& app, Line& line) {
  app.add_option("--state", line.context.state, "state directory")
      ->type_name(kDirectoryWord)
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
  add_vm_console(app, line);
  add_protection(app, line);
  add_failover(app, line);
  add_replica(app, line);
  add_job(app, line);
  add_host(app, line);
  add_events(app, line);
  add_audit(app, line);
  add_attest(app, line);
  add_attest_log(app, line);
  add_attest_verify(app, line);
  add_secure_boot(app, line);
  add_vm_check(app, line);
  add_attest_credential(app, line);
  add_attest_appraise(app, line);
  add_secure_boot_vm(app, line);
}

int run(int argc, const char* const* argv) {
  Line line;
  line.context.state = kUsualState;
  CLI::App app("Holdfast: trusted-launch VMs that survive the loss of their site", "holdfast");
  add_grammar(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version are errors of this kind too.
    if (error.get_exit_code() == 0) return app.exit(error);
    explain(app, std::vector<std::string>(argv + 1, argv + argc), error.what());
    return 2;
  }
  line.context.format = line.format == "json" ? Format::kJson : Format::kTable;
  Status done = line.act(line.context);
  if (done.ok()) return 0;
  print_error(line.context, done.error());
  return 1;
}

}  // namespace hf::cli
