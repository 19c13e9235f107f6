// A measurement in words, as the baseline keeps it and as reasons name it.
#pragma once

#include "attestation/baseline/baseline.h"
#include "base/text.h"

namespace hf::attestation {

BaselineEntry entry_of(const Measurement& measurement, const Explanations& explanations);
// "GRUB 2.06 (EFI/debian/grubx64.efi)", "db", "kernel command line \"…\""; never empty.
std::string name_of(const BaselineEntry& entry);
// Digests are told apart by their first bytes.
std::string short_hex(ByteSpan digest);
// Text of the guest's, cleaned, cut and in quotes.
std::string quoted(std::string_view text);
std::string joined(const std::vector<std::string>& words, std::string_view separator);

// What came into and went out of a signature database, in words.
struct DatabaseChange {
  std::vector<std::string> added;
  std::vector<std::string> removed;
  size_t added_count = 0;
  size_t removed_count = 0;
  bool readable = false;  // both could be parsed
};
DatabaseChange database_change(ByteSpan was, ByteSpan is);

}  // namespace hf::attestation
