// What kind of boot program an EFI image is, and what it brings along.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "secure_boot/image/pe_image.h"

namespace hf::secure_boot {

enum class ProgramKind : uint8_t {
  kShim,
  kFallback,    // shim's fbx64.efi: makes boot entries out of EFI/*/BOOTX64.CSV
  kMokManager,  // shim's mmx64.efi
  kGrub,
  kSystemdBoot,
  kUki,    // unified kernel image: kernel, initrd and command line in one
  kLinux,  // a kernel with an EFI stub
  kWindows,
  kOther,
};
std::string_view to_string(ProgramKind kind);  // "shim", "unified kernel image", …

ProgramKind kind_of(const PeImage& image);

// The sections of a unified kernel image in the order in which systemd-stub measures them.
inline constexpr std::string_view kUkiSections[] = {".linux", ".osrel",  ".cmdline", ".initrd",
                                                    ".ucode", ".splash", ".dtb",     ".uname",
                                                    ".sbat",  ".pcrsig", ".pcrpkey"};

struct UkiFacts {
  std::string name;     // PRETTY_NAME of .osrel, else its ID
  std::string release;  // .uname
  std::string command_line;
};
UkiFacts uki_facts_of(const PeImage& image);

// What GRUB's image was built with: the directory it reads its configuration from ("/EFI/debian"),
// a configuration that it runs first, unmeasured, and the grub.cfg of its memory disk, if that is a
// FAT file system. Each empty if there is none.
struct GrubFacts {
  std::string prefix;
  std::string embedded_config;
  std::string memory_disk_config;
  bool shim_lock_disabled = false;  // built to check no signatures
};
GrubFacts grub_facts_of(const PeImage& image);

// Whether firmware's boot manager takes the file for what a boot entry names (edk2,
// UefiBootManagerLib, BmIsLoadOptionPeHeaderValid()): of a disk it takes the first default file
// that is one, and no other if that does not start.
bool is_boot_application(ByteSpan file);

}  // namespace hf::secure_boot
