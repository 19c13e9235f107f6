#include "secure_boot/preflight/grub_script.h"

#include <algorithm>
#include <utility>

namespace hf::secure_boot {
namespace {

constexpr size_t kNameBytesMax = 256;

constexpr std::string_view kKeywords[] = {"if", "then", "elif", "else", "fi",   "while", "until",
                                          "do", "done", "for",  "in",   "{",    "}",     "!",
                                          "[[", "]]",   "case", "esac", "time", "select"};

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

class Reader {
 public:
  Reader(std::string_view text, GrubVariables& variables, Assignments assignments,
         const GrubVisit& visit)
      : text_(text), variables_(variables), assignments_(assignments), visit_(visit) {}

  void all() {
    while (at_ < text_.size() && count_ < kGrubCommandsMax) step();
    finish_word();
    finish_command();
  }

 private:
  void step() {
    const char c = text_[at_];
    if (c == '#' && !in_word_) {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else if (c == '\n' || c == ';' || c == '&' || c == '|') {
      ++at_;
      finish_word();
      finish_command();
    } else if (c == ' ' || c == '\t' || c == '\r') {
      ++at_;
      finish_word();
    } else if ((c == '{' || c == '}') && !in_word_) {
      // A block of a menu entry or function: its commands are commands as any.
      ++at_;
      drop_command_ = drop_command_ || c == '{';
      finish_command();
    } else if (c == '\\') {
      escape();
    } else if (c == '\'') {
      single_quoted();
    } else if (c == '"') {
      double_quoted();
    } else if (c == '$') {
      variable();
    } else {
      put(c);
      ++at_;
    }
  }

  void put(char c) { put(std::string_view(&c, 1)); }

  void put(std::string_view text) {
    in_word_ = true;
    if (text.size() > kGrubWordsBytesMax - words_bytes_) {
      inexact();
      return;
    }
    words_bytes_ += text.size();
    word_ += text;
  }

  void inexact() {
    exact_ = false;
    exact_words_ = std::min(exact_words_, words_.size());
  }

  void escape() {
    ++at_;
    if (at_ >= text_.size()) return;
    if (text_[at_] != '\n') put(text_[at_]);
    ++at_;
  }

  void single_quoted() {
    const size_t end = std::min(text_.find('\'', at_ + 1), text_.size());
    put(text_.substr(at_ + 1, end - at_ - 1));
    at_ = std::min(end + 1, text_.size());
  }

  void double_quoted() {
    in_word_ = true;
    ++at_;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\' && at_ + 1 < text_.size() &&
          std::string_view("$\"\\").find(text_[at_ + 1]) != std::string_view::npos) {
        put(text_[at_ + 1]);
        at_ += 2;
      } else if (text_[at_] == '$') {
        variable();
      } else {
        put(text_[at_++]);
      }
    }
    if (at_ < text_.size()) ++at_;
  }

  void variable() {
    ++at_;
    const bool braced = at_ < text_.size() && text_[at_] == '{';
    if (braced) ++at_;
    const size_t start = at_;
    while (at_ < text_.size() && is_name(text_[at_])) ++at_;
    if (at_ == start && !braced && at_ < text_.size() &&
        std::string_view("?@#*").find(text_[at_]) != std::string_view::npos) {
      ++at_;
    }
    const std::string name(text_.substr(start, at_ - start));
    if (braced && at_ < text_.size() && text_[at_] == '}') ++at_;
    auto found = variables_.find(name);
    if (found == variables_.end() || !found->second) {
      inexact();
      if (found != variables_.end()) put("$" + name);
      return;
    }
    if (!found->second->empty()) put(*found->second);
  }

  void finish_word() {
    if (!in_word_) return;
    const bool keyword = std::ranges::find(kKeywords, word_) != std::end(kKeywords);
    if (!words_.empty() || !keyword) words_.push_back(std::move(word_));
    word_.clear();
    in_word_ = false;
  }

  void finish_command() {
    GrubCommand command{.words = std::move(words_), .exact = exact_, .exact_words = exact_words_};
    words_.clear();
    words_bytes_ = 0;
    exact_words_ = SIZE_MAX;
    exact_ = true;
    const bool dropped = std::exchange(drop_command_, false);
    if (command.words.empty() || dropped) return;
    // NAME=VALUE alone is the command "set" to GRUB.
    const size_t equals = command.words[0].find('=');
    if (command.words.size() == 1 && equals != std::string::npos && equals != 0 &&
        std::ranges::all_of(command.words[0].substr(0, equals), is_name)) {
      command.words.insert(command.words.begin(), "set");
      if (!command.exact) ++command.exact_words;
    }
    if (assignments_ == Assignments::kFollowed) assign(command);
    ++count_;
    visit_(command);
  }

  void assign(const GrubCommand& command) {
    if (command.words[0] != "set" || command.words.size() != 2) return;
    const std::string& assignment = command.words[1];
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos) return;
    const std::string name = assignment.substr(0, equals);
    // One that does not become known is unknown when it is used.
    const bool fits = name.size() <= kNameBytesMax && variables_.size() < kGrubVariablesMax;
    if (!fits && !variables_.contains(name)) return;
    std::optional<std::string>& value = variables_[name];
    value.reset();
    const size_t size = assignment.size() - equals - 1;
    if (command.exact &&
        size <= kGrubVariablesBytesMax - std::min(kept(), kGrubVariablesBytesMax)) {
      value = assignment.substr(equals + 1);
    }
  }

  size_t kept() const {
    size_t bytes = 0;
    for (const auto& [name, value] : variables_) bytes += name.size() + (value ? value->size() : 0);
    return bytes;
  }

  std::string_view text_;
  GrubVariables& variables_;
  size_t at_ = 0;
  std::string word_;
  bool in_word_ = false;
  bool exact_ = true;
  size_t exact_words_ = SIZE_MAX;
  bool drop_command_ = false;  // the head of a block: its measured form holds the block's text
  std::vector<std::string> words_;
  size_t words_bytes_ = 0;  // of words_ and word_
  Assignments assignments_;
  const GrubVisit& visit_;
  size_t count_ = 0;
};

}  // namespace

std::string GrubCommand::text() const {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

void read_grub_script(std::string_view text, GrubVariables& variables, Assignments assignments,
                      const GrubVisit& visit) {
  Reader(text.substr(0, kGrubScriptBytesMax), variables, assignments, visit).all();
}

GrubPath split_grub_path(std::string_view text) {
  GrubPath out;
  if (text.starts_with('(')) {
    const size_t end = text.find(')');
    if (end == std::string_view::npos) return out;
    out.device = std::string(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
  out.path = std::string(text);
  return out;
}

}  // namespace hf::secure_boot
