// The files that are made from the grammar: completions for three shells, and man pages.
#pragma once

#include <string>
#include <vector>

#include "cli/docs/command.h"

namespace hf::cli {

struct GrammarFile {
  std::string path;  // below an installation's prefix
  std::string text;
};

std::string bash_completion(const Command& program);
std::string zsh_completion(const Command& program);
std::string fish_completion(const Command& program);
// holdfast(1), and a page for each noun. `date`: 2026-11-28, of the pages.
std::vector<GrammarFile> man_pages(const Command& program, const std::string& date);

// All of them, of the whole grammar.
std::vector<GrammarFile> grammar_files(const std::string& date);

}  // namespace hf::cli
