// Digests of what a boot of this disk will measure, each with words: gathered while the preflight
// follows the boot path.
//
// What is hashed, and into which PCR: images by their Authenticode digest, PCR 4 (TCG PC Client
// Platform Firmware Profile 1.06, 3.3.4.5); the partition table, PCR 5; by GRUB, commands without
// their "grub_cmd: " in PCR 8 and whole files in PCR 9 (grub-core/commands/tpm.c); by systemd-boot,
// the options it passes on, UTF-16 with its NUL, in PCR 12; by systemd-stub, name (with its NUL)
// and content of each section in PCR 11 (src/boot/efi/stub.c).
#pragma once

#include <set>

#include "secure_boot/preflight/preflight.h"

namespace hf::secure_boot {

class Explainer {
 public:
  // What is not explained any more when the budget is used up is missing.
  Explainer(PreflightReport& report, HashBudget& budget) : report_(report), budget_(budget) {}

  void image(const PeImage& image, const std::string& words);
  void file(ByteSpan content, const std::string& words);            // PCR 9
  void grub_text(std::string_view text, const std::string& words);  // PCR 8
  void partition_table(ByteSpan event);
  void load_options(std::string_view options);
  // False if the file of this partition was explained already: it need not be read again.
  bool first_time(uint32_t partition, const std::string& path) {
    return files_.size() < kFilesMax && files_.emplace(partition, path).second;
  }
  void uki_sections(const PeImage& image, const std::string& name);

 private:
  void add(uint32_t pcr, ByteSpan digest, const std::string& guests_words);
  // `zeros` bytes follow the content.
  void bytes(uint32_t pcr, ByteSpan content, const std::string& words, uint64_t zeros = 0);

  PreflightReport& report_;
  HashBudget& budget_;
  static constexpr size_t kFilesMax = 10000;
  std::set<std::pair<uint32_t, std::string>> files_;
};

}  // namespace hf::secure_boot
