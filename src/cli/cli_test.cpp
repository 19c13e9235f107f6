#include "cli/cli.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "cli/core/grammar.h"
#include "cli/core/programs.h"
#include "sys/unix_socket.h"

namespace hf::cli {
namespace {

struct Said {
  int status = 0;
  std::string out;
  std::string err;
};

Said say(const std::vector<std::string>& words) {
  std::vector<const char*> argv{"holdfast"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Said said{.status = run(static_cast<int>(argv.size()), argv.data())};
  said.out = testing::internal::GetCapturedStdout();
  said.err = testing::internal::GetCapturedStderr();
  return said;
}

struct Command {
  std::vector<std::string> words;  // "vm", "start"
  std::string what;
};

void collect(const CLI::App* app, std::vector<std::string> words, std::vector<Command>& into) {
  for (const CLI::App* sub : app->get_subcommands([](const CLI::App*) { return true; })) {
    std::vector<std::string> deeper = words;
    deeper.push_back(sub->get_name());
    collect(sub, deeper, into);
    into.push_back({.words = deeper, .what = sub->get_description()});
  }
}

std::vector<Command> commands() {
  Line line;
  CLI::App app;
  add_grammar(app, line);
  std::vector<Command> found;
  collect(&app, {}, found);
  return found;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += word + " ";
  return text;
}

TEST(Grammar, has_every_noun_once) {
  std::multiset<std::string> nouns;
  for (const Command& command : commands())
    if (command.words.size() == 1) nouns.insert(command.words.front());
  EXPECT_EQ(nouns,
            (std::multiset<std::string>{"attest", "audit", "event", "failover", "host", "job",
                                        "protection", "replica", "secure-boot", "site", "vm"}));
}

TEST(Grammar, every_command_explains_itself) {
  size_t verbs = 0;
  for (const Command& command : commands()) {
    SCOPED_TRACE(joined(command.words));
    std::vector<std::string> words = command.words;
    words.emplace_back("--help");
    Said said = say(words);
    EXPECT_EQ(said.status, 0);
    EXPECT_FALSE(command.what.empty());
    EXPECT_NE(said.out.find(command.what), std::string::npos) << said.out;
    EXPECT_EQ(said.err, "");
    verbs += command.words.size() > 1 ? 1 : 0;
  }
  EXPECT_GE(verbs, 30U);
}

// The help of a command has a line for each of its arguments; one without words helps nobody.
TEST(Grammar, every_argument_has_words) {
  Line line;
  CLI::App app;
  add_grammar(app, line);
  size_t seen = 0;
  std::vector<const CLI::App*> open{&app};
  while (!open.empty()) {
    const CLI::App* at = open.back();
    open.pop_back();
    for (const CLI::Option* option : at->get_options()) {
      EXPECT_FALSE(option->get_description().empty())
          << at->get_name() << " " << option->get_name();
      ++seen;
    }
    for (const CLI::App* sub : at->get_subcommands([](const CLI::App*) { return true; }))
      open.push_back(sub);
  }
  EXPECT_GT(seen, 60U);
}

TEST(ExitCode, is_2_for_a_line_that_is_not_understood) {
  for (const Command& command : commands()) {
    SCOPED_TRACE(joined(command.words));
    std::vector<std::string> words = command.words;
    words.emplace_back("--no-such-option");
    Said said = say(words);
    EXPECT_EQ(said.status, 2);
    EXPECT_NE(said.err, "");
    EXPECT_EQ(said.out, "");
  }
  EXPECT_EQ(say({}).status, 2);
  EXPECT_EQ(say({"vm"}).status, 2);
  EXPECT_EQ(say({"vm", "start"}).status, 2);
  EXPECT_EQ(say({"no-such-noun"}).status, 2);
  EXPECT_EQ(say({"-o", "xml", "vm", "list"}).status, 2);
  EXPECT_EQ(say({"failover", "unplanned", "web", "--attestation", "perhaps"}).status, 2);
}

TEST(Usage, names_the_word_that_is_wrong_and_what_comes_nearest) {
  struct Case {
    std::vector<std::string> words;
    std::string cause;
    std::string mend;
  };
  for (const Case& one : {
           Case{{"vmm", "list"}, "\"vmm\" is not a command of holdfast", "holdfast vm?"},
           Case{{"vm", "lsit"}, "\"lsit\" is not a command of holdfast vm", "holdfast vm list"},
           Case{{"vm", "strt", "web"}, "\"strt\"", "holdfast vm start"},
           Case{{"--state", "/vm", "-q", "vm", "creat"}, "\"creat\"", "holdfast vm create"},
           Case{{"secureboot", "show"}, "\"secureboot\"", "holdfast secure-boot"},
           Case{{"prot", "show"}, "\"prot\"", "holdfast protection"},
           Case{{"start", "web"}, "\"start\"", "holdfast vm start"},
           Case{{"start", "web"}, "\"start\"", "holdfast site start"},
           Case{{"vm", "pair"}, "\"pair\" is not a command of holdfast vm", "holdfast site pair"},
           Case{{"zzzzzz"}, "\"zzzzzz\" is not a command of holdfast", "see holdfast --help"},
           Case{{"vm", "create", "web", "--memroy", "1G"},
                "\"--memroy\" is not an option of holdfast vm create",
                "--memory"},
           Case{{"vm", "create", "web", "--memroy=1G"}, "\"--memroy=1G\"", "--memory"},
           Case{{"vm", "start"}, "holdfast vm start: ", "see holdfast vm start --help"},
           Case{{"-o", "xml", "vm", "list"}, "xml", "see holdfast vm list --help"},
       }) {
    SCOPED_TRACE(joined(one.words));
    const Said said = say(one.words);
    EXPECT_EQ(said.status, 2);
    EXPECT_EQ(said.out, "");
    EXPECT_TRUE(said.err.contains("error:  ")) << said.err;
    EXPECT_TRUE(said.err.contains(one.cause)) << said.err;
    EXPECT_TRUE(said.err.contains("effect: nothing was done")) << said.err;
    EXPECT_TRUE(said.err.contains(one.mend)) << said.err;
  }
  const std::string endless(100'000, 'x');
  EXPECT_EQ(say({endless}).status, 2);
}

TEST(Usage, of_a_line_that_ends_early_is_shown) {
  const Said alone = say({});
  EXPECT_EQ(alone.status, 2);
  for (const char* noun : {"site", "vm", "protection", "failover", "attest", "secure-boot"}) {
    EXPECT_TRUE(alone.err.contains(noun)) << alone.err;
  }
  EXPECT_TRUE(alone.err.contains("Usage: holdfast [")) << alone.err;
  const Said vm = say({"vm"});
  EXPECT_EQ(vm.status, 2);
  EXPECT_TRUE(vm.err.contains("Usage: holdfast vm [")) << vm.err;
  for (const char* verb : {"create", "start", "stop", "console"}) {
    EXPECT_TRUE(vm.err.contains(verb)) << vm.err;
  }
}

TEST(Usage, is_json_where_json_was_asked_for) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"-o", "json"},
           {"-o", "json", "vmm"},
           {"vm", "lsit", "-o", "json"},
           {"vm", "start", "--output=json"},
           {"vm", "create", "web", "--memroy", "1G", "--output", "json"},
           {"-ojson", "vm"}}) {
    SCOPED_TRACE(joined(words));
    const Said said = say(words);
    EXPECT_EQ(said.status, 2);
    EXPECT_EQ(said.out, "");
    const Result<sys::JsonObject> parsed = sys::parse_json_object(said.err);
    ASSERT_TRUE(parsed.ok()) << said.err;
    const Error error = sys::error_from_json(**sys::get_object(*parsed, "error"));
    EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(error.effect, "nothing was done");
    EXPECT_TRUE(error.mend.contains("holdfast")) << error.mend;
  }
}

TEST(ExitCode, is_1_with_cause_and_mend_where_no_site_runs) {
  char made[] = "/tmp/holdfast-cli-test-XXXXXX";
  ASSERT_NE(::mkdtemp(made), nullptr);
  const std::string state = made;
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"site", "show"},
                                             {"vm", "list"},
                                             {"vm", "stop", "web"},
                                             {"vm", "console", "web"},
                                             {"protection", "show"},
                                             {"replica", "list"},
                                             {"replica", "evict", "web", "--yes"},
                                             {"site", "unpair", "south", "--yes"},
                                             {"failover", "unplanned", "web", "--yes"},
                                             {"job", "show", "7"},
                                             {"host", "show"},
                                             {"event", "list"}}) {
    SCOPED_TRACE(joined(words));
    std::vector<std::string> line{"--state", state};
    line.insert(line.end(), words.begin(), words.end());
    Said said = say(line);
    EXPECT_EQ(said.status, 1);
    EXPECT_EQ(said.out, "");
    EXPECT_NE(said.err.find(state), std::string::npos) << said.err;
    EXPECT_NE(said.err.find("site start"), std::string::npos) << said.err;
  }
  EXPECT_EQ(say({"--state", state, "site", "pair"}).status, 1);
  ASSERT_EQ(::rmdir(made), 0) << "a command that failed left something behind";
}

// What the commands say to a user who may not look into STATE/run.
Said say_as_stranger(const std::vector<std::string>& words, const std::string& report) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) ::_exit(99);
    const Said said = say(words);
    std::ofstream(report) << said.err;
    ::_exit(said.status);
  }
  int status = 0;
  HF_ASSERT(child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status));
  std::ostringstream text;
  text << std::ifstream(report).rdbuf();
  return {.status = WEXITSTATUS(status), .out = {}, .err = text.str()};
}

TEST(NoPermission, is_said_as_such_and_not_as_a_site_that_does_not_run) {
  char made[] = "/tmp/holdfast-cli-test-XXXXXX";
  ASSERT_NE(::mkdtemp(made), nullptr);
  const std::string state = made;
  const std::string report = state + "/said";
  std::filesystem::create_directory(state + "/run");
  std::ofstream(state + "/run/api.sock").close();
  std::ofstream(report).close();
  std::filesystem::permissions(state, std::filesystem::perms(0755));
  std::filesystem::permissions(report, std::filesystem::perms(0666));
  // For a test that is not root's own user: nobody at all.
  std::filesystem::permissions(state + "/run", std::filesystem::perms(0));
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"vm", "list"}, {"vm", "console", "web"}}) {
    std::vector<std::string> line{"--state", state};
    line.insert(line.end(), words.begin(), words.end());
    const Said said = say_as_stranger(line, report);
    EXPECT_EQ(said.status, 1);
    EXPECT_TRUE(said.err.contains("may not use " + state + "/run/api.sock: only root")) << said.err;
    EXPECT_TRUE(said.err.contains("sudo holdfast --state " + state)) << said.err;
    EXPECT_FALSE(said.err.contains("site start")) << said.err;
  }
  const Said stop = say_as_stranger({"--state", state, "site", "stop"}, report);
  EXPECT_TRUE(stop.err.contains("nothing was stopped")) << stop.err;
  EXPECT_TRUE(stop.err.contains("sudo holdfast --state " + state)) << stop.err;
  std::filesystem::permissions(state + "/run", std::filesystem::perms(0755));
  std::filesystem::remove_all(state);
}

// A holdfastd that cannot end, after its launcher was killed: it accepts, and never answers.
TEST(NobodyLeft, is_said_within_seconds_and_not_waited_for) {
  char made[] = "/tmp/holdfast-cli-test-XXXXXX";
  ASSERT_NE(::mkdtemp(made), nullptr);
  const std::string state = made;
  std::filesystem::create_directory(state + "/run");
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(gone, nullptr, 0), gone);
  std::ofstream(state + "/run/lock") << gone;
  const auto listener = sys::listen_unix(state + "/run/api.sock", sys::SocketType::kStream);
  ASSERT_TRUE(listener.ok());
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"vm", "list"}, {"vm", "start", "web"}, {"vm", "console", "web"}}) {
    SCOPED_TRACE(joined(words));
    std::vector<std::string> line{"--state", state};
    line.insert(line.end(), words.begin(), words.end());
    const auto began = std::chrono::steady_clock::now();
    const Said said = say(line);
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(20));
    EXPECT_EQ(said.status, 1);
    EXPECT_TRUE(said.err.contains("no launcher serves " + state)) << said.err;
    EXPECT_TRUE(said.err.contains("holdfast --state " + state + " site start")) << said.err;
  }
  const Said started = say({"--state", state, "vm", "start", "web"});
  EXPECT_TRUE(started.err.contains("whether the command is carried out is not known"))
      << started.err;
  std::filesystem::remove_all(state);
}

// Each of these ended the process by an assertion once: an empty file is read to a span without an
// address.
TEST(EmptyFile, is_refused_by_its_name_wherever_one_is_read) {
  const std::string store = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";
  const std::string certificate = "/usr/share/shim/debian-uefi-ca.der";
  char made[] = "/tmp/holdfast-cli-test-XXXXXX";
  ASSERT_NE(::mkdtemp(made), nullptr);
  const std::string directory = made;
  const std::string copy = directory + "/store.fd";
  const std::string disk = directory + "/disk.img";
  const std::string empty = directory + "/empty";
  std::filesystem::copy_file(store, copy);
  std::ofstream(disk).close();
  std::filesystem::resize_file(disk, size_t{4} << 20);
  std::ofstream(empty).close();
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"secure-boot", "set", copy, "db", empty},
           {"secure-boot", "append", copy, "db", empty},
           {"secure-boot", "remove", copy, "db", empty},
           {"secure-boot", "revoke", copy, empty},
           {"secure-boot", "profile", copy, "own", "--pk", empty},
           {"secure-boot", "profile", copy, "microsoft-2011", "--certificate", empty},
           {"secure-boot", "sign-update", "db", certificate, "--key", empty, "--certificate",
            certificate, "--out", directory + "/out"},
           {"vm", "check", disk, "--profile", "microsoft-2011", "--certificate", empty},
           {"vm", "check", empty},
           {"attest", "log", empty},
           {"attest", "appraise", empty, "--policy", "linux"}}) {
    SCOPED_TRACE(joined(words));
    const Said said = say(words);
    EXPECT_EQ(said.status, 1);
    EXPECT_TRUE(said.err.contains(empty)) << said.err;
    EXPECT_FALSE(said.err.contains("run/log")) << "no site had a part in it: " << said.err;
  }
  EXPECT_FALSE(std::filesystem::exists(directory + "/out"));
  std::filesystem::remove_all(directory);
}

TEST(SiteInit, refuses_what_is_no_address_before_it_makes_anything) {
  const std::string state = "/tmp/holdfast-cli-test-never-made";
  for (const std::string listen : {"127.0.0.1:70000", "host:99999", "::1:7443", "[::1]",
                                   "127.0.0.1", "127.0.0.1:http", "127.1:7443", ""}) {
    SCOPED_TRACE(listen);
    const Said said = say({"--state", state, "site", "init", "--name", "n", "--listen", listen});
    EXPECT_EQ(said.status, 1);
    EXPECT_TRUE(said.err.contains("--listen: \"" + listen + "\" is not an address")) << said.err;
    EXPECT_TRUE(said.err.contains("no site was made")) << said.err;
  }
  for (const std::string wildcard : {"0.0.0.0:7443", "[::]:7443"}) {
    const Said said = say({"--state", state, "site", "init", "--name", "n", "--listen", wildcard});
    EXPECT_EQ(said.status, 1);
    EXPECT_TRUE(said.err.contains("--advertise HOST:7443")) << said.err;
    const Said vain = say({"--state", state, "site", "init", "--name", "n", "--listen", wildcard,
                           "--advertise", wildcard});
    EXPECT_TRUE(vain.err.contains("--advertise: \"" + wildcard)) << vain.err;
  }
  EXPECT_FALSE(std::filesystem::exists(state));
}

// One command for who finds a site in the way.
TEST(SiteInit, names_the_command_that_helps_where_a_site_is) {
  char made[] = "/tmp/holdfast-cli-test-XXXXXX";
  ASSERT_NE(::mkdtemp(made), nullptr);
  const std::string root = made;
  const std::string state = root + "/north";
  std::filesystem::create_directories(state + "/vault");
  std::filesystem::create_directories(root + "/sites");
  const std::string id(32, 'a');
  std::ofstream(state + "/site.json") << R"({"version":3,"name":"north","site_id":")" << id
                                      << R"(","listen":"127.0.0.1:7443","uid_base":400000})";
  std::filesystem::create_symlink(state, root + "/sites/" + id);
  const char* before = std::getenv("HOLDFAST_SITES");
  const std::string saved = before == nullptr ? "" : before;
  ::setenv("HOLDFAST_SITES", (root + "/sites").c_str(), 1);
  const Said again = say({"--state", state, "site", "init"});
  EXPECT_EQ(again.status, 1);
  EXPECT_TRUE(again.err.contains("holds a site or parts of one")) << again.err;
  EXPECT_TRUE(again.err.contains("mend:   holdfast --state " + state + " site start")) << again.err;
  const Said same_port = say({"--state", root + "/south", "site", "init"});
  EXPECT_EQ(same_port.status, 1);
  EXPECT_TRUE(
      same_port.err.contains("site north (" + state + ") of this host listens at 127.0.0.1:7443"))
      << same_port.err;
  EXPECT_TRUE(same_port.err.contains("mend:   holdfast --state " + root +
                                     "/south site init --listen 127.0.0.1:7444"))
      << same_port.err;
  if (::geteuid() == 0) {
    const Said same_users = say({"--state", root + "/south", "site", "init", "--listen",
                                 "127.0.0.1:7500", "--uid-base", "410000"});
    EXPECT_TRUE(same_users.err.contains("is taken by site north (" + state)) << same_users.err;
    EXPECT_TRUE(same_users.err.contains("mend:   holdfast --state " + root +
                                        "/south site init --uid-base "))
        << same_users.err;
  }
  EXPECT_FALSE(std::filesystem::exists(root + "/south"));
  if (before == nullptr) {
    ::unsetenv("HOLDFAST_SITES");
  } else {
    ::setenv("HOLDFAST_SITES", saved.c_str(), 1);
  }
  std::filesystem::remove_all(root);
}

TEST(RunProgram, hands_down_no_descriptor_of_its_caller) {
  // Without close-on-exec, as a shell's or a service manager's.
  ASSERT_EQ(::dup2(STDIN_FILENO, 300), 300);
  const Result<Finished> listed =
      run_program({"/bin/sh", "-c", "echo /proc/$$/fd/*; echo of stderr >&2; exit 3"}, ::geteuid());
  ::close(300);
  ASSERT_TRUE(listed.ok()) << listed.error().describe();
  EXPECT_EQ(listed->status, 3);
  EXPECT_EQ(listed->errors, "of stderr\n");
  EXPECT_TRUE(listed->output.contains("/fd/2")) << listed->output;
  EXPECT_FALSE(listed->output.contains("/fd/300")) << listed->output;
}

// A baseline's words, say, came with a VM's journal from another site.
TEST(Output, a_cell_moves_no_cursor) {
  EXPECT_EQ(cell({{"words", "a\x1b[2Jb\nc\u202e"}}, "words"), "a [2Jb c ");
  EXPECT_EQ(cell({{"list", sys::JsonArray{"\xc2\x9b"
                                          "2J"}}},
                 "list"),
            "[\" 2J\"]");
}

// `say` with the file as standard input.
Said say_with_input(const std::string& path, const std::vector<std::string>& words) {
  const int before = ::dup(STDIN_FILENO);
  const int input = ::open(path.c_str(), O_RDONLY);
  EXPECT_GE(::dup2(input, STDIN_FILENO), 0);
  Said said = say(words);
  ::dup2(before, STDIN_FILENO);
  ::close(before);
  ::close(input);
  return said;
}

// Whatever stands on a command's line, every user of the host can read in /proc.
TEST(PairingToken, comes_by_standard_input_or_a_file_and_not_on_the_line) {
  char made[] = "/tmp/holdfast-cli-test-XXXXXX";
  ASSERT_NE(::mkdtemp(made), nullptr);
  const std::string state = made;
  const std::string file = state + "/token";
  std::ofstream(file) << "SEVENTEEN\n";
  const std::vector<std::string> pair{"--state", state, "site", "pair"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), pair.begin(), pair.end());
    return more;
  };
  Said on_the_line = say(with({"SEVENTEEN"}));
  EXPECT_EQ(on_the_line.status, 1);
  EXPECT_TRUE(on_the_line.err.contains("--token-file")) << on_the_line.err;
  EXPECT_FALSE(on_the_line.err.contains("SEVENTEEN")) << on_the_line.err;

  // These are read: it is no token, and said to be none.
  for (const Said& said : {say(with({"--token-file", file})), say_with_input(file, with({"-"}))}) {
    EXPECT_EQ(said.status, 1);
    EXPECT_TRUE(said.err.contains("this is not a pairing token")) << said.err;
    EXPECT_FALSE(said.err.contains("SEVENTEEN")) << said.err;
  }
  Said nothing = say_with_input("/dev/null", with({"-"}));
  EXPECT_TRUE(nothing.err.contains("holds no token")) << nothing.err;
  Said missing = say(with({"--token-file", state + "/no-such-file"}));
  EXPECT_TRUE(missing.err.contains("no-such-file")) << missing.err;
  Said both = say(with({"-", "--new-token"}));
  EXPECT_TRUE(both.err.contains("and no more")) << both.err;
  ASSERT_EQ(::unlink(file.c_str()), 0);
  ASSERT_EQ(::rmdir(made), 0);
}

TEST(ExitCode, is_0_for_what_needs_no_site) {
  EXPECT_EQ(say({"--help"}).status, 0);
  Said version = say({"--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_EQ(version.out, "holdfast 0.1.0\n");
}

}  // namespace
}  // namespace hf::cli
