// What events hold, read out of their data. Every field says whether a digest proves it.
//
// The accessors go by the PCR and the shape of the data, not by the event's type: the PCR is proven
// by the replay, the type by nothing. All text is the guest's: print it through printable().
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/log/event_log.h"
#include "secure_boot/efi/guid.h"

namespace hf::attestation {

using secure_boot::Guid;

// UEFI_VARIABLE_DATA (PFP 1.05 §10.2.6).
struct EfiVariable {
  Guid guid{};
  std::string name;  // UTF-8
  ByteSpan data;
  bool name_covered = false;  // GUID and name
  bool data_covered = false;  // every byte of the data
};
// Absent if the data has not this shape; up to eight bytes may follow it (old EDK II and shim).
std::optional<EfiVariable> efi_variable(const Event& event);

// UEFI_IMAGE_LOAD_EVENT (PFP 1.05 §10.2.3). The digest is the image's Authenticode hash; nothing
// here is covered.
struct ImageEvent {
  uint64_t location = 0;  // in memory
  uint64_t length = 0;
  uint64_t link_time_address = 0;
  ByteSpan device_path;
};
std::optional<ImageEvent> image_event(const Event& event);

// Text that a boot loader measured. `text` is covered by the digest or empty; `label` is what the
// log calls it ("grub_cmd", a file's path, "MokList") and is proven by nothing.
struct IplText {
  std::string text;
  std::string label;
  bool covered = false;
};
std::optional<IplText> ipl_text(const Event& event);

// TCG_PCClientTaggedEvent: Windows' SIPA events (covered), the Linux EFI stub's and systemd's
// (not).
struct TaggedEvent {
  uint32_t id = 0;
  ByteSpan data;
  bool covered = false;  // id and data
};
std::optional<TaggedEvent> tagged_event(const Event& event);

// EV_EFI_ACTION, EV_ACTION and separators: covered text, or absent.
std::optional<std::string_view> action_text(const Event& event);
bool is_separator(const Event& event);  // covered, of zeros, ones or Windows' "WBCL"
// The digest is of the value 1, which firmware measures after an error; the data say what they like
// (PFP 1.05 §10.4.1).
bool is_error_separator(const Event& event);

// UEFI_GPT_DATA: covered, or absent.
struct GptPartition {
  Guid type{};
  Guid id{};
  uint64_t first_block = 0;
  uint64_t last_block = 0;
  std::string name;
};
struct GptTable {
  Guid disk{};
  std::vector<GptPartition> partitions;
};
std::optional<GptTable> gpt_table(const Event& event);

// UTF-16LE up to the first NUL as UTF-8; what is not text becomes U+FFFD.
std::string utf8_of_utf16(ByteSpan utf16);
// ASCII and UTF-8 or UTF-16LE text up to the first NUL, control characters and broken sequences
// as \xNN, cut at `size_max`.
std::string printable(ByteSpan text, size_t size_max = 400);

}  // namespace hf::attestation
