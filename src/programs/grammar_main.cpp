// holdfast-grammar DIR DATE: completions and man pages of holdfast, below DIR. Runs at build time.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "cli/docs/grammar_files.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: holdfast-grammar DIR DATE\n");
    return 2;
  }
  for (const hf::cli::GrammarFile& file : hf::cli::grammar_files(argv[2])) {
    const std::filesystem::path path = std::filesystem::path(argv[1]) / file.path;
    std::error_code failed;
    std::filesystem::create_directories(path.parent_path(), failed);
    std::ofstream stream(path, std::ios::trunc | std::ios::binary);
    stream << file.text;
    if (!stream.flush()) {
      std::fprintf(stderr, "holdfast-grammar: %s cannot be written\n", path.c_str());
      return 1;
    }
  }
  return 0;
}
