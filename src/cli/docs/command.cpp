#include "cli/docs/command.h"

#include <CLI/CLI.hpp>

namespace hf::cli {
namespace {

// "TEXT:{table,json}" as the type and what it is one of.
void read_type(const CLI::Option& option, Argument& into) {
  if (option.get_items_expected_max() == 0) return;
  const std::string whole = option.get_type_name();
  const size_t open = whole.find(":{");
  into.type = whole.substr(0, open);
  if (open == std::string::npos || whole.back() != '}') return;
  std::string word;
  for (char c : whole.substr(open + 2)) {
    if (c != ',' && c != '}') {
      word += c;
      continue;
    }
    into.choices.push_back(std::move(word));
    word.clear();
  }
}

Argument read_argument(const CLI::Option& option) {
  Argument argument{.what = option.get_description(),
                    .standard = option.get_default_str(),
                    .environment = option.get_envname(),
                    .positional = option.get_positional(),
                    .required = option.get_required(),
                    .repeated = option.get_items_expected_max() > 1};
  read_type(option, argument);
  if (argument.positional) {
    argument.names = {option.get_name(true)};
    if (argument.names[0] == "vm") argument.type = "VM";
    return argument;
  }
  for (const std::string& name : option.get_snames()) argument.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) argument.names.push_back("--" + name);
  return argument;
}

Command read(const CLI::App& app, std::vector<std::string> words) {
  Command command{.words = std::move(words), .what = app.get_description()};
  for (const CLI::Option* option : app.get_options()) {
    command.arguments.push_back(read_argument(*option));
  }
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    std::vector<std::string> deeper = command.words;
    deeper.push_back(sub->get_name());
    command.commands.push_back(read(*sub, std::move(deeper)));
  }
  return command;
}

void append(const Command& command, std::vector<const Command*>& into) {
  into.push_back(&command);
  for (const Command& below : command.commands) append(below, into);
}

}  // namespace

std::string Command::path() const {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

Command read_grammar(const CLI::App& app) { return read(app, {}); }

std::vector<const Command*> all_of(const Command& command) {
  std::vector<const Command*> all;
  append(command, all);
  return all;
}

}  // namespace hf::cli
