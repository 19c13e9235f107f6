// Just enough of GRUB's shell to know what a grub.cfg may load and which commands it may run.
//
// Every simple command in the text is taken, whichever branch it stands in, with the variables
// expanded whose values are known. What depends on others is kept and marked as not exact. This is
// not an interpreter: it answers "what could be loaded", and gives the words that GRUB measures
// into PCR 8 for commands that are exact.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace hf::secure_boot {

inline constexpr size_t kGrubScriptBytesMax = size_t{1} << 20;
inline constexpr size_t kGrubCommandsMax = 10000;
// Variables double in a line each ("set a=$a$a"). What would be longer than these is not known.
inline constexpr size_t kGrubWordsBytesMax = size_t{64} << 10;     // the words of one command
inline constexpr size_t kGrubVariablesBytesMax = size_t{1} << 20;  // names and values of all
inline constexpr size_t kGrubVariablesMax = 1000;

struct GrubCommand {
  std::vector<std::string> words;
  bool exact = true;  // every variable in it was known, and the words are whole
  // The words before this one are exact in any case.
  size_t exact_words = SIZE_MAX;
  // As measured: the words with a blank between.
  std::string text() const;
};

// Values by name; a name that is there without a value is known to be unknowable.
using GrubVariables = std::map<std::string, std::optional<std::string>>;

// Does `set` (and NAME=VALUE, which is the same command) change the variables for what follows? A
// script whose branches depend on what is there is better read without.
enum class Assignments : uint8_t { kFollowed, kIgnored };

// Calls `visit` for each command, after its own assignment; `visit` may change the variables, too.
// Stops at the bounds.
using GrubVisit = std::function<void(const GrubCommand&)>;
void read_grub_script(std::string_view text, GrubVariables& variables, Assignments assignments,
                      const GrubVisit& visit);

// "(hd0,gpt1)/vmlinuz" → "(hd0,gpt1)" and "/vmlinuz"; no device: the first is empty.
struct GrubPath {
  std::string device;
  std::string path;
};
GrubPath split_grub_path(std::string_view text);

}  // namespace hf::secure_boot
