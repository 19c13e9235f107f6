// Man pages, in man(7)'s macros.
#include <fmt/format.h>

#include "base/version.h"
#include "cli/docs/grammar_files.h"

namespace hf::cli {
namespace {

// As text of roff: no character of it is an escape or begins a request.
std::string roff(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) {
      out += std::string("\\&") + c;
    } else {
      out += c;
    }
  }
  return out;
}
std::string bold(std::string_view text) { return "\\fB" + roff(text) + "\\fR"; }
std::string slanted(std::string_view text) { return "\\fI" + roff(text) + "\\fR"; }

std::string upper(std::string text) {
  for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return text;
}

// What stands for the value of an option or for a positional.
std::string value_word(const Argument& argument) {
  if (argument.positional) return upper(argument.names[0]);
  std::string words;
  for (const std::string& choice : argument.choices) words += (words.empty() ? "" : "|") + choice;
  return words.empty() ? argument.type : words;
}

// "vm start VM [--without-peer]", required ones first.
std::string synopsis(const Command& command) {
  std::string line = bold("holdfast " + command.path());
  for (const Argument& argument : command.arguments) {
    std::string text;
    if (argument.positional) {
      text = slanted(value_word(argument)) + (argument.repeated ? " ..." : "");
    } else if (argument.names.back() != "--help") {
      text = bold(argument.names.back());
      if (!argument.type.empty()) text += " " + slanted(value_word(argument));
    }
    if (text.empty()) continue;
    line += argument.required ? " " + text : " [" + text + "]";
  }
  return line + "\n";
}

std::string arguments_text(const Command& command) {
  std::string text;
  for (const Argument& argument : command.arguments) {
    if (!argument.positional && argument.names.back() == "--help") continue;
    std::string names;
    for (const std::string& name : argument.names) {
      names += (names.empty() ? "" : ", ") +
               (argument.positional ? slanted(value_word(argument)) : bold(name));
    }
    if (!argument.positional && !argument.type.empty())
      names += " " + slanted(value_word(argument));
    text += ".TP\n" + names + "\n" + roff(argument.what);
    if (!argument.standard.empty()) text += " (default: " + roff(argument.standard) + ")";
    if (!argument.environment.empty()) text += "; also by " + bold(argument.environment);
    text += "\n";
  }
  return text;
}

std::string head(const std::string& page, const std::string& what, const std::string& date) {
  return fmt::format(
      ".\\\" Made from the grammar of holdfast.\n.TH {} 1 {} \"Holdfast {}\" \"Holdfast\"\n"
      ".SH NAME\n{} \\- {}\n",
      upper(page), date, HOLDFAST_VERSION, roff(page), roff(what));
}

std::string page_of(const Command& noun) { return "holdfast-" + noun.words.front(); }

constexpr std::string_view kExit = R"(.SH EXIT STATUS
.TP
0
done
.TP
1
the command failed; what stands on standard error says why, what that means, and what mends it
.TP
2
the line was not understood; nothing was done
)";

constexpr std::string_view kFiles = R"(.SH FILES
.TP
.I /var/lib/holdfast
the state directory, where no other is named
.TP
.I STATE/run/log
a log of each process: launcher, daemon, vault, link, and of each VM's keeper and QEMU
)";

std::string program_page(const Command& program, const std::string& date) {
  std::string text =
      head("holdfast", "trusted-launch VMs that survive the loss of their site", date);
  text += ".SH SYNOPSIS\n" + bold("holdfast") + " [" + slanted("OPTION") + " ...] " +
          slanted("NOUN") + " " + slanted("VERB") + " [" + slanted("ARGUMENT") + " ...]\n";
  text += ".SH DESCRIPTION\nThe command line of Holdfast. Each noun has a page of its own:\n";
  for (const Command& noun : program.commands) {
    text += ".TP\n" + bold(page_of(noun)) + "(1)\n" + roff(noun.what) + "\n";
  }
  text += ".SH OPTIONS\nThey may stand anywhere on the line.\n" + arguments_text(program);
  text += kExit;
  return text + std::string(kFiles);
}

std::string noun_page(const Command& noun, const std::vector<const Command*>& verbs,
                      const std::string& date) {
  std::string text = head(page_of(noun), noun.what, date) + ".SH SYNOPSIS\n";
  for (size_t i = 0; i < verbs.size(); ++i) {
    text += (i == 0 ? "" : ".br\n") + synopsis(*verbs[i]);
  }
  text += ".SH COMMANDS\n";
  for (const Command* verb : verbs) {
    text += ".SS " + roff(verb->path()) + "\n" + roff(verb->what) + "\n" + arguments_text(*verb);
  }
  return text + ".SH SEE ALSO\n" + bold("holdfast") +
         "(1) for options that all commands have, exit status and files\n";
}

}  // namespace

std::vector<GrammarFile> man_pages(const Command& program, const std::string& date) {
  std::vector<GrammarFile> pages{
      {.path = "share/man/man1/holdfast.1", .text = program_page(program, date)}};
  for (const Command& noun : program.commands) {
    std::vector<const Command*> verbs;
    for (const Command* at : all_of(noun)) {
      if (at->commands.empty()) verbs.push_back(at);
    }
    pages.push_back(
        {.path = "share/man/man1/" + page_of(noun) + ".1", .text = noun_page(noun, verbs, date)});
  }
  return pages;
}

}  // namespace hf::cli
