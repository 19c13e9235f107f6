// The grammar as data: what completions and man pages are made of.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace hf::cli {

struct Argument {
  std::vector<std::string> names;  // "-o", "--output"; a positional's one name
  std::string what;
  std::string type;                  // "TEXT", "VM", "FILE"; empty: a flag
  std::vector<std::string> choices;  // all that it takes, if those are few
  std::string standard;              // what it is where it is not given
  std::string environment;           // the variable that it is taken from too
  bool positional = false;
  bool required = false;
  bool repeated = false;
};

struct Command {
  std::vector<std::string> words;  // "vm", "create"; empty: the program
  std::string what;
  std::vector<Argument> arguments;  // in the order that they were declared in
  std::vector<Command> commands;    // those below it

  std::string path() const;  // "vm create"
};

Command read_grammar(const CLI::App& app);

// It and all below it, each before those below it.
std::vector<const Command*> all_of(const Command& command);

}  // namespace hf::cli
