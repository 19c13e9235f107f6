// A disk that boots, to be changed by a test and then looked at; for tests only.
#pragma once

#include "secure_boot/preflight/preflight.h"
#include "secure_boot/testing/test_boot_files.h"
#include "secure_boot/testing/test_disk.h"

namespace hf::secure_boot {

inline constexpr std::string_view kConfig =
    "set timeout=0\nlinux ($root)/vmlinuz quiet\ninitrd ($root)/initrd\nboot\n";

struct Disk {
  FatBuilder files{FatKind::kFat16, 60'000};
  Bytes kernel = read_test_file(kernel_path());
  PreflightInput input{.state = microsoft_state(), .profile = "test"};

  Disk& standard() {
    files.add("EFI/BOOT/BOOTX64.EFI", read_test_file(kShim));
    files.add("EFI/BOOT/grubx64.efi", read_test_file(kGrub));
    files.add("EFI/debian/grub.cfg", kConfig);
    files.add("vmlinuz", kernel);
    files.add("initrd", "an initial file system");
    return *this;
  }
  PreflightReport check() {
    const Bytes disk = gpt_disk(files.build());
    MemorySource source(disk);
    Result<PreflightReport> report = preflight(source, input);
    HF_ASSERT(report.ok());
    return *std::move(report);
  }
};

}  // namespace hf::secure_boot
