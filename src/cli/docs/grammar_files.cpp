#include "cli/docs/grammar_files.h"

#include <CLI/CLI.hpp>

#include "cli/cli.h"
#include "cli/core/grammar.h"

namespace hf::cli {

std::vector<GrammarFile> grammar_files(const std::string& date) {
  Line line;
  line.context.state = "/var/lib/holdfast";
  CLI::App app;
  add_grammar(app, line);
  const Command program = read_grammar(app);
  std::vector<GrammarFile> files = man_pages(program, date);
  files.push_back(
      {.path = "share/bash-completion/completions/holdfast", .text = bash_completion(program)});
  files.push_back({.path = "share/zsh/site-functions/_holdfast", .text = zsh_completion(program)});
  files.push_back(
      {.path = "share/fish/vendor_completions.d/holdfast.fish", .text = fish_completion(program)});
  return files;
}

}  // namespace hf::cli
