// What the files that make up the grammar share: each area adds its nouns and verbs by a function
// of its own, called from cli.cpp. Options live in a shared_ptr that the verb's act captures.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "cli/core/follow.h"
#include "cli/core/output.h"

namespace CLI {
class App;
}

namespace hf::cli {

// What a value is, where it is more than text: shown by --help and man pages, and what completions
// of it look for. A positional called "vm" is one without saying so.
inline constexpr const char* kFileWord = "FILE";
inline constexpr const char* kDirectoryWord = "DIR";
inline constexpr const char* kSiteWord = "SITE";
inline constexpr const char* kTargetWord = "FILE|VM";

// What was asked for; run after the whole line was understood.
using Act = std::function<Status(const Context&)>;

struct Line {
  Context context;
  std::string format;
  Act act;
};

// The noun of that name, made if it is not there yet: several areas may add verbs to one.
CLI::App* noun(CLI::App& app, const std::string& name, const std::string& what);
void verb(CLI::App* sub, Line& line, Act act);

// On stderr: what is wrong with a line that was not understood, `said` being the parser's words;
// the help of the noun, or the overview, where the line ends before its verb.
void explain(const CLI::App& app, std::span<const std::string> words, const std::string& said);

void add_site(CLI::App& app, Line& line);
void add_vm(CLI::App& app, Line& line);
void add_vm_console(CLI::App& app, Line& line);
void add_protection(CLI::App& app, Line& line);
void add_failover(CLI::App& app, Line& line);
void add_replica(CLI::App& app, Line& line);
void add_job(CLI::App& app, Line& line);
void add_host(CLI::App& app, Line& line);
void add_events(CLI::App& app, Line& line);
void add_audit(CLI::App& app, Line& line);
void add_attest(CLI::App& app, Line& line);
void add_secure_boot_vm(CLI::App& app, Line& line);
void add_attest_log(CLI::App& app, Line& line);
void add_attest_verify(CLI::App& app, Line& line);
void add_secure_boot(CLI::App& app, Line& line);
void add_vm_check(CLI::App& app, Line& line);
void add_attest_credential(CLI::App& app, Line& line);
void add_attest_appraise(CLI::App& app, Line& line);

}  // namespace hf::cli
