// What a GRUB on a FAT partition would read and start: its built-in and its written configuration.
#pragma once

#include "secure_boot/preflight/boot_walk.h"
#include "secure_boot/preflight/grub_script.h"

namespace hf::secure_boot {

class GrubWalk {
 public:
  // GRUB came from `home`; the disk is taken for the first one that it sees.
  GrubWalk(BootVolumes& volumes, BootVolume& home, Explainer& explain)
      : volumes_(volumes), home_(home), explain_(explain) {}

  void run(const GrubFacts& facts, const std::string& directory);

  const std::vector<KernelFile>& kernels() const { return kernels_; }
  // Where it goes on in what is not read, as a sentence; empty: nowhere.
  const std::string& elsewhere() const { return elsewhere_; }
  // What GRUB's first entry starts, if it is none of the kernels, as a sentence; empty: it is one.
  const std::string& unknown_first() const { return unknown_first_; }
  bool found_config() const { return found_config_; }

 private:
  void config_file(const std::string& word, bool exact, GrubVariables& variables);
  void script(std::string_view text, GrubVariables& variables, Assignments assignments);
  void command(const GrubCommand& command, GrubVariables& variables, Assignments assignments);
  void search(const GrubCommand& command, GrubVariables& variables);
  void kernel(const GrubCommand& command, const GrubVariables& variables);
  void file(const std::string& word, const GrubVariables& variables);
  std::optional<KernelFile> resolve(const std::string& word, const GrubVariables& variables);
  void chainload(const GrubCommand& command);
  void goes_on_elsewhere(const std::string& what);
  void unknown(std::string what);

  BootVolumes& volumes_;
  BootVolume& home_;
  Explainer& explain_;
  std::vector<KernelFile> kernels_;
  std::string elsewhere_;
  std::string unknown_first_;
  std::string searched_;  // what `search` looked for in vain
  bool found_config_ = false;
  size_t depth_ = 0;
  size_t commands_ = 0;  // of all files: one that sources itself is short and many
};

}  // namespace hf::secure_boot
