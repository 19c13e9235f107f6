#include "cli/cli.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <set>

#include "cli/grammar.h"

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
            (std::multiset<std::string>{"attest", "event", "failover", "host", "job", "protection",
                                        "replica", "secure-boot", "site", "vm"}));
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

  // These are understood: only the site is missing.
  for (const Said& said : {say(with({"--token-file", file})), say_with_input(file, with({"-"}))}) {
    EXPECT_EQ(said.status, 1);
    EXPECT_TRUE(said.err.contains("does not answer")) << said.err;
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
