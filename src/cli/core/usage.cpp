// What is said of a line that was not understood: the word that was meant to be another, and which
// others come nearest.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>

#include "base/text.h"
#include "cli/core/grammar.h"

namespace hf::cli {
namespace {

constexpr size_t kNearestMax = 3;
constexpr size_t kWordMax = 60;  // of what is shown of a word, and of one that is like another

// Letters left out, put in, changed, or changed places with their neighbours (optimal string
// alignment). Words are those of an operator's line: short.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, change});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

std::string words_of(const CLI::App* at) {
  const std::string own = at->get_name();
  return at->get_parent() == nullptr ? own : words_of(at->get_parent()) + " " + own;
}

std::vector<const CLI::App*> commands_of(const CLI::App* at) {
  return at->get_subcommands([](const CLI::App*) { return true; });
}

const CLI::App* command_named(const CLI::App* at, std::string_view name) {
  for (const CLI::App* sub : commands_of(at)) {
    if (sub->get_name() == name) return sub;
  }
  return nullptr;
}

// Its own, and those of what it belongs to: "-o json" may stand anywhere.
const CLI::Option* option_named(const CLI::App* at, const std::string& name) {
  for (; at != nullptr; at = at->get_parent()) {
    if (const CLI::Option* found = at->get_option_no_throw(name)) return found;
  }
  return nullptr;
}

// How far a line was understood: the noun or verb it came to, and the word there that is none.
struct Reach {
  const CLI::App* at;
  std::string word;  // empty: the line ended, or what follows is no noun or verb
};

Reach follow(const CLI::App& app, std::span<const std::string> words) {
  Reach reach{.at = &app, .word = {}};
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.size() > 1 && word.front() == '-') {
      const CLI::Option* option = option_named(reach.at, word.substr(0, word.find('=')));
      const bool takes_next = option != nullptr && option->get_items_expected_max() > 0 &&
                              word.find('=') == std::string::npos;
      if (takes_next) ++i;
      continue;
    }
    if (commands_of(reach.at).empty()) return reach;
    const CLI::App* next = command_named(reach.at, word);
    if (next == nullptr) {
      reach.word = word;
      return reach;
    }
    reach.at = next;
  }
  return reach;
}

// Those that the word may have been meant for, the nearest first.
std::vector<std::string> nearest(std::string_view word, const std::vector<std::string>& known) {
  std::vector<std::pair<size_t, std::string>> ranked;
  if (word.size() > kWordMax) return {};
  for (const std::string& name : known) {
    const bool begun = word.size() > 1 && name.starts_with(word);
    const size_t away = begun ? 0 : distance(word, name);
    if (away <= std::max<size_t>(1, std::min(word.size(), name.size()) / 3)) {
      ranked.emplace_back(away, name);
    }
  }
  std::ranges::sort(ranked);
  std::vector<std::string> names;
  for (auto& [away, name] : ranked) {
    if (names.size() < kNearestMax) names.push_back(std::move(name));
  }
  return names;
}

std::vector<std::string> nearest_commands(const Reach& reach) {
  std::vector<std::string> known;
  for (const CLI::App* sub : commands_of(reach.at)) known.push_back(sub->get_name());
  std::vector<std::string> found = nearest(reach.word, known);
  for (std::string& name : found) name = words_of(reach.at) + " " + name;
  if (!found.empty()) return found;
  // "holdfast start web": a verb without its noun, or of another.
  const CLI::App* root = reach.at;
  while (root->get_parent() != nullptr) root = root->get_parent();
  for (const CLI::App* sub : commands_of(root)) {
    const CLI::App* there = command_named(sub, reach.word);
    if (there != nullptr && found.size() < kNearestMax) found.push_back(words_of(there));
  }
  return found;
}

std::vector<std::string> nearest_options(const CLI::App* at, std::string_view word) {
  std::vector<std::string> known;
  for (; at != nullptr; at = at->get_parent()) {
    for (const CLI::Option* option : at->get_options()) {
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    }
  }
  return nearest(word.substr(0, word.find('=')), known);
}

std::string quoted(const std::string& word) { return "\"" + clean_text(word, kWordMax) + "\""; }

std::string did_you_mean(const std::vector<std::string>& names, const std::string& all) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : " or ") + name;
  return text.empty() ? "see " + all : "did you mean " + text + "? All there are: " + all;
}

Error usage_error(std::string cause, std::string mend) {
  return {.code = ErrorCode::kInvalidArgument,
          .cause = std::move(cause),
          .effect = "nothing was done",
          .mend = std::move(mend)};
}

std::optional<std::string> unknown_option(const CLI::App* at, std::span<const std::string> words) {
  for (const std::string& word : words) {
    if (word == "--") break;
    if (word.size() > 2 && word.starts_with("--") &&
        option_named(at, word.substr(0, word.find('='))) == nullptr) {
      return word;
    }
  }
  return std::nullopt;
}

Error error_of(const Reach& reach, std::span<const std::string> words, const std::string& said) {
  const std::string help = words_of(reach.at) + " --help";
  if (!reach.word.empty()) {
    return usage_error(quoted(reach.word) + " is not a command of " + words_of(reach.at),
                       did_you_mean(nearest_commands(reach), help));
  }
  if (const auto option = unknown_option(reach.at, words)) {
    return usage_error(quoted(*option) + " is not an option of " + words_of(reach.at),
                       did_you_mean(nearest_options(reach.at, *option), help));
  }
  if (!commands_of(reach.at).empty()) {
    return usage_error(words_of(reach.at) + " needs a command", "see " + help);
  }
  return usage_error(words_of(reach.at) + ": " + said, "see " + help);
}

bool asks_for_json(std::span<const std::string> words) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "-ojson" || words[i] == "-o=json" || words[i] == "--output=json") return true;
    const bool named = words[i] == "-o" || words[i] == "--output";
    if (named && i + 1 < words.size() && words[i + 1] == "json") return true;
  }
  return false;
}

}  // namespace

void explain(const CLI::App& app, std::span<const std::string> words, const std::string& said) {
  const Context context{.state = {},
                        .format = asks_for_json(words) ? Format::kJson : Format::kTable};
  const Reach reach = follow(app, words);
  // A line that ends early asks for what there is.
  const bool ended = reach.word.empty() && !commands_of(reach.at).empty() &&
                     !unknown_option(reach.at, words).has_value();
  if (ended && context.format == Format::kTable) {
    const CLI::App* parent = reach.at->get_parent();
    std::fputs(reach.at->help(parent == nullptr ? "" : words_of(parent)).c_str(), stderr);
    return;
  }
  print_error(context, error_of(reach, words, said));
}

}  // namespace hf::cli
