// Completions. Each script is the grammar as three tables, asked by the words of the commands so
// far ("vm create"; "" before any), and one walk over the line that asks them:
//
//   commands  what may follow, with what it does
//   options   those of the command and of what it belongs to, with what they are for
//   kind      what an option's value, or a positional by its place, is: see kind_of()
//
// Names of VMs and sites are asked of the site that the line names; where none answers, none come.
#include <fmt/format.h>

#include <algorithm>

#include "cli/docs/grammar_files.h"

namespace hf::cli {
namespace {

constexpr std::string_view kMade = "# Completion of holdfast(1). Made from its grammar.\n";

// Within '…' of a shell.
std::string quoted(std::string_view text, std::string_view apostrophe) {
  std::string out = "'";
  for (char c : text) {
    if (c == '\'') {
      out += apostrophe;
    } else {
      out += c;
    }
  }
  return out + "'";
}
std::string sh(std::string_view text) { return quoted(text, R"('\'')"); }
std::string fish(std::string_view text) {
  std::string doubled;
  for (char c : text) doubled += c == '\\' ? "\\\\" : std::string(1, c);
  return quoted(doubled, R"(\')");
}

// "none", "text" (anybody's guess), "file", "dir", "vm", "site", "target" (file or VM), or the
// words that there are.
std::string kind_of(const Argument& argument) {
  if (argument.type.empty()) return "none";
  std::string words;
  for (const std::string& choice : argument.choices) words += (words.empty() ? "" : " ") + choice;
  if (!words.empty()) return "one of " + words;
  if (argument.type == "FILE") return "file";
  if (argument.type == "DIR") return "dir";
  if (argument.type == "VM") return "vm";
  if (argument.type == "SITE") return "site";
  return argument.type == "FILE|VM" ? "target" : "text";
}

struct Row {
  std::string key;    // a pattern, in quotes as they are needed
  std::string value;  // a kind
};

// Those below a command before itself: an option of a command hides that of what it belongs to.
std::vector<Row> kinds(const Command& program, std::string (*quote)(std::string_view)) {
  std::vector<const Command*> all = all_of(program);
  std::ranges::reverse(all);
  std::vector<Row> rows;
  for (const Command* at : all) {
    size_t place = 0;
    for (const Argument& argument : at->arguments) {
      if (argument.positional) {
        const std::string which = argument.repeated ? "*" : std::to_string(place++);
        rows.push_back({.key = quote(at->path() + " ") + which, .value = kind_of(argument)});
        continue;
      }
      for (const std::string& name : argument.names) {
        rows.push_back(
            {.key = quote(at->path()) + "*" + quote(" " + name), .value = kind_of(argument)});
      }
    }
  }
  return rows;
}

// "name:what it is", of commands or of options.
using Entries = std::vector<std::pair<std::string, std::string>>;
Entries commands_of(const Command& at) {
  Entries entries;
  for (const Command& below : at.commands) entries.emplace_back(below.words.back(), below.what);
  return entries;
}
Entries options_of(const Command& at) {
  Entries entries;
  for (const Argument& argument : at.arguments) {
    if (!argument.positional) entries.emplace_back(argument.names.back(), argument.what);
  }
  return entries;
}

// The tables for bash and zsh, whose case is the same.
std::string sh_tables(const Command& program) {
  auto table = [&](std::string_view name, Entries (*entries_of)(const Command&)) {
    std::string text = fmt::format("_holdfast_{}() {{\n  case $1 in\n", name);
    for (const Command* at : all_of(program)) {
      const Entries entries = entries_of(*at);
      if (entries.empty()) continue;
      text += fmt::format("  {}) printf '%s\\n'", sh(at->path()));
      for (const auto& [word, what] : entries) text += " \\\n    " + sh(word + ":" + what);
      text += " ;;\n";
    }
    return text + "  esac\n}\n";
  };
  std::string text = table("commands", commands_of) + table("own_options", options_of);
  text += "_holdfast_kind() {\n  case $1 in\n";
  for (const Row& row : kinds(program, sh)) {
    text += fmt::format("  {}) echo {} ;;\n", row.key, sh(row.value));
  }
  return text + "  *) echo none ;;\n  esac\n}\n";
}

constexpr std::string_view kShOptions = R"script(
_holdfast_options() {
  local at=$1
  while :; do
    _holdfast_own_options "$at"
    [[ -n $at ]] || return 0
    if [[ $at == *' '* ]]; then at=${at% *}; else at=; fi
  done
}
# The first column of what a command lists.
_holdfast_names() {
  timeout 3 "$@" 2>/dev/null | awk 'NR > 1 { print $1 }'
}
)script";

constexpr std::string_view kBash = R"script(
_holdfast_compgen() {
  mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
}
_holdfast() {
  local at= option= word kind i place=0 cur=${COMP_WORDS[COMP_CWORD]}
  local -a holdfast=("${COMP_WORDS[0]}")
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; ++i)); do
    word=${COMP_WORDS[i]}
    # readline makes words of their own of "=" and ":".
    if [[ $word == = ]]; then continue; fi
    if [[ $word == : ]]; then ((++i)); continue; fi
    if [[ -n $option ]]; then
      if [[ $option == --state ]]; then holdfast+=(--state "${word/#\~/$HOME}"); fi
      option=
    elif [[ $word == -?* ]]; then
      if [[ $(_holdfast_kind "$at $word") != none ]]; then option=$word; fi
    elif _holdfast_commands "$at" | grep -q "^$word:"; then
      at=${at:+$at }$word
    else
      ((++place))
    fi
  done
  if [[ $cur == = ]]; then cur=; fi
  if [[ -n $option ]]; then
    kind=$(_holdfast_kind "$at $option")
  elif [[ $cur == -* ]]; then
    _holdfast_compgen -W "$(_holdfast_options "$at" | sed 's/:.*//')"
    return
  elif [[ -n $(_holdfast_commands "$at") ]]; then
    _holdfast_compgen -W "$(_holdfast_commands "$at" | sed 's/:.*//')"
    return
  else
    kind=$(_holdfast_kind "$at $place")
  fi
  case $kind in
  'one of '*) _holdfast_compgen -W "${kind#one of }" ;;
  vm) _holdfast_compgen -W "$(_holdfast_names "${holdfast[@]}" -q vm list)" ;;
  site) _holdfast_compgen -W "$(_holdfast_names "${holdfast[@]}" -q site peers)" ;;
  file) compopt -o filenames 2>/dev/null; _holdfast_compgen -f ;;
  dir) compopt -o filenames 2>/dev/null; _holdfast_compgen -d ;;
  target)
    compopt -o filenames 2>/dev/null
    _holdfast_compgen -f -W "$(_holdfast_names "${holdfast[@]}" -q vm list)"
    ;;
  esac
}
complete -F _holdfast holdfast
)script";

constexpr std::string_view kZsh = R"script(
_holdfast_listed() {
  local -a names
  names=(${(f)"$(_holdfast_names "${holdfast[@]}" -q "$@")"})
  compadd -a names
}
_holdfast() {
  local at= option= word kind
  local -i i place=0
  local -a holdfast entries
  holdfast=(${(Q)words[1]})
  for ((i = 2; i < CURRENT; ++i)); do
    word=${(Q)words[i]}
    if [[ -n $option ]]; then
      [[ $option == --state ]] && holdfast+=(--state ${~word})
      option=
    elif [[ $word == --*=* ]]; then
      [[ $word == --state=* ]] && holdfast+=(--state ${word#*=})
    elif [[ $word == -?* ]]; then
      [[ $(_holdfast_kind "$at $word") != none ]] && option=$word
    elif _holdfast_commands "$at" | grep -q "^$word:"; then
      at=${at:+$at }$word
    else
      ((++place))
    fi
  done
  if [[ -n $option ]]; then
    kind=$(_holdfast_kind "$at $option")
  elif [[ ${words[CURRENT]} == --*=* ]]; then
    kind=$(_holdfast_kind "$at ${words[CURRENT]%%=*}")
    compset -P '*='
  elif [[ ${words[CURRENT]} == -* ]]; then
    entries=(${(f)"$(_holdfast_options "$at")"})
    _describe -t options option entries
    return
  elif [[ -n $(_holdfast_commands "$at") ]]; then
    entries=(${(f)"$(_holdfast_commands "$at")"})
    _describe -t commands command entries
    return
  else
    kind=$(_holdfast_kind "$at $place")
  fi
  case $kind in
  'one of '*) compadd -- ${=kind#one of } ;;
  vm) _holdfast_listed vm list ;;
  site) _holdfast_listed site peers ;;
  file) _files ;;
  dir) _files -/ ;;
  target) _holdfast_listed vm list; _files ;;
  esac
}
# Loaded as a function by its name, or read as a file.
if [[ ${funcstack[1]} == _holdfast ]]; then _holdfast "$@"; else compdef _holdfast holdfast; fi
)script";

constexpr std::string_view kFish = R"script(
function __holdfast_options
    set -l at $argv[1]
    while true
        __holdfast_own_options "$at"
        test -n "$at"; or return 0
        set at (string replace -r ' ?[^ ]+$' '' -- $at)
    end
end
# The first column of what a command lists.
function __holdfast_names
    timeout 3 $argv 2>/dev/null | awk 'NR > 1 { print $1 }'
end
function __holdfast_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l holdfast $words[1]
    set -l at ''
    set -l option ''
    set -l place 0
    for word in $words[2..-1]
        if test -n "$option"
            test "$option" = --state; and set -a holdfast --state $word
            set option ''
        else if string match -q -- '--*=*' $word
            string match -q -- '--state=*' $word; and set -a holdfast $word
        else if string match -q -- '-?*' $word
            test (__holdfast_kind "$at $word") != none; and set option $word
        else if __holdfast_commands "$at" | string match -q -r -- "^"(string escape --style=regex -- $word)"\t"
            set at (string trim -- "$at $word")
        else
            set place (math $place + 1)
        end
    end
    set -l kind
    set -l before ''
    if test -n "$option"
        set kind (__holdfast_kind "$at $option")
    else if string match -q -- '--*=*' $current
        set before (string replace -r '=.*' '=' -- $current)
        set kind (__holdfast_kind "$at "(string replace -r '=.*' '' -- $current))
    else if string match -q -- '-*' $current
        __holdfast_options "$at"
        return
    else if test -n "$(__holdfast_commands "$at")"
        __holdfast_commands "$at"
        return
    else
        set kind (__holdfast_kind "$at $place")
    end
    set -l found
    switch $kind
        case 'one of *'
            set found (string split ' ' -- (string replace 'one of ' '' -- $kind))
        case vm
            set found (__holdfast_names $holdfast -q vm list)
        case site
            set found (__holdfast_names $holdfast -q site peers)
        case file
            set found (__fish_complete_path (string replace -- "$before" '' $current))
        case dir
            set found (__fish_complete_directories (string replace -- "$before" '' $current))
        case target
            set found (__holdfast_names $holdfast -q vm list) (__fish_complete_path $current)
    end
    for one in $found
        echo $before$one
    end
end
complete -c holdfast -f -a '(__holdfast_complete)'
)script";

}  // namespace

std::string bash_completion(const Command& program) {
  return std::string(kMade) + sh_tables(program) + std::string(kShOptions) + std::string(kBash);
}

std::string zsh_completion(const Command& program) {
  return "#compdef holdfast\n" + std::string(kMade) + sh_tables(program) + std::string(kShOptions) +
         std::string(kZsh);
}

std::string fish_completion(const Command& program) {
  auto table = [&](std::string_view name, Entries (*entries_of)(const Command&)) {
    std::string text = fmt::format("function __holdfast_{}\n    switch \"$argv[1]\"\n", name);
    for (const Command* at : all_of(program)) {
      const Entries entries = entries_of(*at);
      if (entries.empty()) continue;
      text += fmt::format("        case {}\n            printf '%s\\t%s\\n'", fish(at->path()));
      for (const auto& [word, what] : entries) {
        text += " \\\n                " + fish(word) + " " + fish(what);
      }
      text += "\n";
    }
    return text + "    end\nend\n";
  };
  std::string text = std::string(kMade) + table("commands", commands_of) +
                     table("own_options", options_of) +
                     "function __holdfast_kind\n    switch \"$argv[1]\"\n";
  for (const Row& row : kinds(program, fish)) {
    // In a pattern of fish's only the whole word is quoted.
    std::string key = "'";
    for (char c : row.key) key += c == '\'' ? "" : std::string(1, c);
    text += fmt::format("        case {}'\n            echo {}\n", key, fish(row.value));
  }
  text += "        case '*'\n            echo none\n    end\nend\n";
  return text + std::string(kFish);
}

}  // namespace hf::cli
