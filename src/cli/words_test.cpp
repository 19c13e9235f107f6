// The words that operators read, wherever in the source they stand: what they name is there.
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "cli/cli.h"
#include "cli/core/grammar.h"
#include "cli/core/mends.h"
#include "cli/docs/command.h"

namespace hf::cli {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// The string literals of a source file; those that are put together are one, with X for what is
// not in the source.
std::vector<std::string> literals_of(const std::string& source) {
  std::vector<std::string> found;
  size_t end = 0;  // of the last one
  for (size_t at = 0; at < source.size(); ++at) {
    if (source[at] == '\'') {
      // A character, or a number's separator.
      const size_t last = source.find('\'', at + (source[at + 1] == '\\' ? 3 : 2));
      if (last != std::string::npos && last - at <= 5) at = last;
      continue;
    }
    if (source.compare(at, 2, "//") == 0) {
      at = std::min(source.find('\n', at), source.size());
      continue;
    }
    if (source[at] != '"') continue;
    std::string text;
    const size_t begin = at;
    for (++at; at < source.size() && source[at] != '"'; ++at) {
      if (source[at] == '\\') ++at;
      text += source[at];
    }
    const std::string between = found.empty() ? ";" : source.substr(end, begin - end);
    const bool side_by_side = between.find_first_not_of(" \n") == std::string::npos;
    const bool added =
        between.size() < 120 && between.find_first_of(";{}?:,") == std::string::npos &&
        between.find('+') != std::string::npos && between.find('+') != between.rfind('+');
    if (side_by_side || added) {
      found.back() += (added ? "X" : "") + text;
    } else {
      found.push_back(text);
    }
    end = at + 1;
  }
  return found;
}

struct Place {
  std::string file;
  std::string text;
};

// All that is shown: literals of the product, and documents for operators.
std::vector<Place> words_of_product() {
  const char* root = std::getenv("HOLDFAST_SOURCE");
  std::vector<Place> places;
  if (root == nullptr) return places;
  const std::filesystem::path source(root);
  const std::regex tests("_(test|fuzz|bench|main_test)\\.|test_|testing|cli/docs/completion");
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source / "src")) {
    const std::string name = std::filesystem::relative(entry.path(), source).string();
    if (!entry.is_regular_file() || std::regex_search(name, tests)) continue;
    if (!name.ends_with(".cpp") && !name.ends_with(".h")) continue;
    for (std::string& text : literals_of(text_of(entry.path())))
      places.push_back({.file = name, .text = std::move(text)});
  }
  return places;
}

std::vector<Place> documents() {
  const char* root = std::getenv("HOLDFAST_SOURCE");
  std::vector<Place> places;
  if (root == nullptr) return places;
  const std::filesystem::path source(root);
  places.push_back({.file = "README.md", .text = text_of(source / "README.md")});
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source / "docs")) {
    if (entry.path().extension() == ".md")
      places.push_back({.file = entry.path().string(), .text = text_of(entry.path())});
  }
  return places;
}

const Command* below(const Command& at, const std::string& word) {
  for (const Command& one : at.commands) {
    if (one.words.back() == word) return &one;
  }
  return nullptr;
}

bool takes(const Command& program, const Command& at, const std::string& option) {
  const auto has = [&](const Command& command) {
    return std::ranges::any_of(command.arguments, [&](const Argument& argument) {
      return std::ranges::find(argument.names, option) != argument.names.end();
    });
  };
  return has(at) || has(program);
}

// What is wrong with the commands that a text names; empty: nothing.
std::string wrong_command(const Command& program, const std::string& text) {
  static const std::regex named(
      "\\bholdfast((?: --state [^ ]+| -[qo](?: json)?)*)((?: [a-z][a-z-]*)+)((?: [^ `,;()\n]+)*)");
  for (std::sregex_iterator at(text.begin(), text.end(), named), end; at != end; ++at) {
    std::istringstream words((*at)[2].str());
    const Command* command = &program;
    std::string word;
    bool first = true;
    bool is_command = false;
    while (words >> word) {
      const Command* next = below(*command, word);
      if (first && next == nullptr) break;  // "holdfast journal record v1"
      first = false;
      is_command = true;
      if (next == nullptr) break;
      command = next;
    }
    if (!is_command) continue;
    const bool asks_help = (*at)[3].str().starts_with(" --help");
    if (!command->commands.empty() && !asks_help && words) return at->str();
    std::istringstream rest((*at)[3].str());
    while (rest >> word) {
      if (!word.starts_with("--") || word == "--help") continue;
      word = word.substr(0, word.find_first_of("=.:|\"'"));
      if (!takes(program, *command, word)) return at->str() + " (" + word + ")";
    }
  }
  return {};
}

class Words : public ::testing::Test {
 protected:
  Words() {
    CLI::App app;
    add_grammar(app, line_);
    program_ = read_grammar(app);
  }
  Line line_;
  Command program_;
};

TEST_F(Words, name_only_commands_that_there_are) {
  EXPECT_NE(wrong_command(program_, "try holdfast failover status VM"), "");
  EXPECT_NE(wrong_command(program_, "holdfast --state X vm stop NAME --forse"), "");
  EXPECT_EQ(wrong_command(program_, "holdfast --state X vm stop NAME --force"), "");
  EXPECT_EQ(wrong_command(program_, "holdfast attest baseline diff VM; then more"), "");
  const std::vector<Place> product = words_of_product();
  if (product.empty()) GTEST_SKIP() << "HOLDFAST_SOURCE is not set";
  EXPECT_GT(product.size(), 5000U);
  for (const Place& place : product) {
    EXPECT_EQ(wrong_command(program_, place.text), "") << place.file << ": " << place.text;
  }
  for (const Place& place : documents())
    EXPECT_EQ(wrong_command(program_, place.text), "") << place.file;
}

// A word that stands for a path is no path, and the launcher and what it starts are ended by
// `site stop` and `site restart`, not by number.
TEST_F(Words, leave_nothing_to_be_filled_in_and_nobody_to_be_killed) {
  const std::regex odd("\\bSTATE/|\\bkill (-[0-9A-Z]+ )?(PID|X|\\$|[0-9])|\\bkill $");
  EXPECT_TRUE(std::regex_search("stop it first: kill ", odd));
  const std::vector<Place> product = words_of_product();
  if (product.empty()) GTEST_SKIP() << "HOLDFAST_SOURCE is not set";
  for (const Place& place : product) {
    if (place.file.contains("cli/docs/man")) continue;  // FILES of a page
    EXPECT_FALSE(std::regex_search(place.text, odd)) << place.file << ": " << place.text;
  }
}

TEST(Mends, are_there_for_every_kind_of_error_and_name_a_log_only_where_there_is_one) {
  for (int code = 0; code <= static_cast<int>(ErrorCode::kInternal); ++code) {
    const Error bare{.code = static_cast<ErrorCode>(code), .cause = "x"};
    const Error here = completed(bare);
    EXPECT_FALSE(here.mend.empty() || here.effect.empty());
    EXPECT_FALSE(here.mend.contains("log")) << "no site had a part in it: " << here.mend;
    EXPECT_TRUE(completed_of_site(bare, "/s").mend.contains("/s/run/log/daemon.log"));
  }
  const Error whole{.cause = "x", .effect = "y", .mend = "z"};
  EXPECT_EQ(completed(whole).mend, "z");
  EXPECT_EQ(completed_of_site(whole, "/s").mend, "z");
}

}  // namespace
}  // namespace hf::cli
