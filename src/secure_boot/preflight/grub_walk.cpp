#include "secure_boot/preflight/grub_walk.h"

#include <fmt/format.h>

#include <algorithm>

namespace hf::secure_boot {
namespace {

constexpr size_t kDepthMax = 4;

// "hd0,gpt1", as GRUB calls the partition of its first disk.
std::string device_of(const BootVolume& volume) {
  if (volume.partition == 0) return "hd0";
  return fmt::format("hd0,{}{}", volume.style == PartitionStyle::kGpt ? "gpt" : "msdos",
                     volume.partition);
}

std::string without_slash(std::string path) {
  path.erase(0, path.find_first_not_of('/'));
  return path;
}

bool same_letters(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) {
    auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; };
    return upper(x) == upper(y);
  });
}

// As grub_create_loader_cmdline() writes the words that a kernel gets.
std::string loader_command_line(const GrubCommand& command) {
  std::string out;
  for (size_t index = 1; index < command.words.size(); ++index) {
    if (index > 1) out += " ";
    const std::string& word = command.words[index];
    const bool quoted = word.find(' ') != std::string::npos;
    if (quoted) out += '"';
    for (char c : word) {
      if (c == '\\' || c == '\'' || c == '"') out += '\\';
      out += c;
    }
    if (quoted) out += '"';
  }
  return out;
}

struct SearchQuery {
  std::string variable;  // to set
  std::string what;      // what is looked for
  bool file = false;     // by file, else by file system
};

SearchQuery read_search(const GrubCommand& command) {
  SearchQuery query;
  const std::vector<std::string>& words = command.words;
  if (words[0] != "search") {  // search.fs_uuid UUID VARIABLE hints
    query.file = words[0] == "search.file";
    if (words.size() > 1) query.what = words[1];
    query.variable = words.size() > 2 ? words[2] : "root";
    return query;
  }
  for (size_t index = 1; index < words.size(); ++index) {
    const std::string& word = words[index];
    if (word == "--file" || word == "-f") query.file = true;
    if (word.starts_with("--set=")) query.variable = word.substr(6);
    if (word == "--set" || word == "-s") query.variable = "root";
    if (!word.starts_with('-')) query.what = word;
  }
  return query;
}

}  // namespace

void GrubWalk::run(const GrubFacts& facts, const std::string& directory) {
  const std::string device = device_of(home_);
  GrubVariables variables;
  variables["root"] = device;
  variables["cmdpath"] = fmt::format("({})/{}", device, directory);
  std::string prefix = facts.prefix;
  if (prefix.starts_with('/')) prefix = fmt::format("({}){}", device, facts.prefix);
  variables["prefix"] = prefix;
  GrubVariables built_in = variables;
  script(facts.embedded_config, built_in, Assignments::kFollowed);
  built_in = variables;
  // Debian's has branches for media that are not this disk.
  script(facts.memory_disk_config, built_in, Assignments::kIgnored);
  if (!found_config_) config_file(prefix + "/grub.cfg", true, variables);
}

void GrubWalk::goes_on_elsewhere(const std::string& what) {
  if (!elsewhere_.empty()) return;
  elsewhere_ = fmt::format("GRUB goes on with {}{}, in a file system that is not read here", what,
                           searched_.empty() ? "" : " (it searches for " + searched_ + ")");
}

std::optional<KernelFile> GrubWalk::resolve(const std::string& word,
                                            const GrubVariables& variables) {
  GrubPath path = split_grub_path(word);
  if (path.device.empty()) {
    auto root = variables.find("root");
    if (root == variables.end() || !root->second) return std::nullopt;
    path.device = "(" + *root->second + ")";
  }
  for (BootVolume& volume : volumes_) {
    if (path.device == "(" + device_of(volume) + ")") {
      return KernelFile{.volume = &volume, .path = without_slash(path.path)};
    }
  }
  return std::nullopt;
}

// Something that could be started and is not followed: whether it would start is not known.
void GrubWalk::unknown(std::string what) {
  if (kernels_.empty() && unknown_first_.empty()) unknown_first_ = std::move(what);
}

void GrubWalk::config_file(const std::string& word, bool exact, GrubVariables& variables) {
  if (depth_ == kDepthMax || commands_ > kGrubCommandsMax) return;
  const std::optional<KernelFile> place = resolve(word, variables);
  if (!exact || !place) return goes_on_elsewhere(word);
  Result<Bytes> text = place->volume->files->read(place->path, kConfigBytesMax);
  if (!text.ok()) return;
  found_config_ = true;
  explain_.file(*text, "GRUB's configuration " + place->path);
  ++depth_;
  script(as_text(*text), variables, Assignments::kFollowed);
  --depth_;
}

void GrubWalk::script(std::string_view text, GrubVariables& variables, Assignments assignments) {
  read_grub_script(text, variables, assignments,
                   [&](const GrubCommand& next) { command(next, variables, assignments); });
}

void GrubWalk::command(const GrubCommand& next, GrubVariables& variables, Assignments assignments) {
  if (++commands_ > kGrubCommandsMax)
    return unknown("GRUB's configuration has more commands than are followed");
  const std::string& name = next.words[0];
  if (next.exact) explain_.grub_text(next.text(), fmt::format("GRUB command \"{}\"", next.text()));
  if (name.starts_with("search") && assignments == Assignments::kFollowed) {
    search(next, variables);
  } else if ((name == "configfile" || name == "source" || name == ".") && next.words.size() > 1) {
    config_file(next.words[1], next.exact_words > 1, variables);
  } else if (name == "linux" || name == "linuxefi" || name == "linux16") {
    kernel(next, variables);
  } else if (name == "initrd" || name == "initrdefi" || name == "initrd16" ||
             name == "chainloader" || name == "loadfont") {
    for (size_t index = 1; index < next.words.size(); ++index) file(next.words[index], variables);
    if (name == "chainloader") chainload(next);
  } else if (name == "blscfg") {
    goes_on_elsewhere("the entries of /boot/loader/entries");
    unknown(elsewhere_);
  }
}

void GrubWalk::search(const GrubCommand& next, GrubVariables& variables) {
  const SearchQuery query = read_search(next);
  if (query.variable.empty() || query.what.empty()) return;
  for (BootVolume& volume : volumes_) {
    const bool found = query.file ? volume.files->find(query.what).ok()
                                  : same_letters(volume.files->serial(), query.what);
    if (found) {
      variables[query.variable] = device_of(volume);
      return;
    }
  }
  variables[query.variable] = std::nullopt;
  searched_ = query.what;
}

void GrubWalk::kernel(const GrubCommand& next, const GrubVariables& variables) {
  if (next.words.size() < 2) return;
  if (next.exact) {
    const std::string line = loader_command_line(next);
    explain_.grub_text(line, fmt::format("kernel command line \"{}\"", line));
  }
  if (next.exact_words < 2) {
    return unknown(fmt::format("GRUB starts {}, and what that is depends on more than is read here",
                               next.words[1]));
  }
  const std::optional<KernelFile> place = resolve(next.words[1], variables);
  if (!place) {
    goes_on_elsewhere(next.words[1]);
    return unknown(elsewhere_);
  }
  if (!place->volume->files->find(place->path).ok() && !kernels_.empty()) return;
  const bool known = std::ranges::any_of(kernels_, [&](const KernelFile& seen) {
    return seen.volume == place->volume && same_letters(seen.path, place->path);
  });
  if (known || kernels_.size() == kKernelsMax) return;
  kernels_.push_back(*place);
  file(next.words[1], variables);
}

void GrubWalk::chainload(const GrubCommand& next) {
  if (next.words.size() < 2) return;
  unknown(fmt::format("GRUB hands over to {}, which is not followed", next.words.back()));
}

// A file that GRUB reads whole, and so measures.
void GrubWalk::file(const std::string& word, const GrubVariables& variables) {
  const std::optional<KernelFile> place = resolve(word, variables);
  if (!place || !explain_.first_time(place->volume->partition, place->path)) return;
  Result<Bytes> content = place->volume->files->read(place->path, kBootFileBytesMax);
  if (content.ok()) explain_.file(*content, "the file " + place->path);
}

}  // namespace hf::secure_boot
