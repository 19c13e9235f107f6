#include "secure_boot/preflight/preflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "secure_boot/preflight/signed_program.h"
#include "secure_boot/testing/test_pe.h"
#include "secure_boot/testing/test_preflight.h"

namespace hf::secure_boot {
namespace {

using testing::HasSubstr;

std::string explained(const PreflightReport& report, std::string_view content) {
  const std::string key = to_hex(digest_of(DigestAlgorithm::kSha256, as_bytes(content)));
  auto found = report.explanations().find(key);
  if (found == report.explanations().end()) return {};
  return std::to_string(found->second.pcr) + " " + found->second.words;
}

TEST(Preflight, follows_shim_grub_and_kernel) {
  const PreflightReport report = Disk().standard().check();
  EXPECT_EQ(report.boots, Boots::kYes) << report.summary;
  EXPECT_EQ(report.style, PartitionStyle::kGpt);
  EXPECT_EQ(report.generation, Generation::kGen2);
  ASSERT_EQ(report.paths.size(), 1U);
  const std::vector<BootPart>& parts = report.paths[0].parts;
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].kind, ProgramKind::kShim);
  EXPECT_EQ(parts[0].judged_by, "firmware");
  EXPECT_EQ(parts[0].signatures.size(), 2U);
  EXPECT_EQ(parts[1].kind, ProgramKind::kGrub);
  EXPECT_EQ(parts[1].judged_by, "shim");
  EXPECT_EQ(parts[2].kind, ProgramKind::kLinux);
  EXPECT_EQ(parts[2].path, "vmlinuz");
  const std::vector<Authority> authorities = report.authorities();
  ASSERT_EQ(authorities.size(), 3U);
  EXPECT_EQ(authorities[0].variable, "db");
  EXPECT_EQ(authorities[1].variable, "MokListRT");
  EXPECT_TRUE(authorities[1].from_shim);
  EXPECT_FALSE(authorities[0].from_shim);
}

TEST(Preflight, explains_what_the_boot_will_measure) {
  const PreflightReport report = Disk().standard().check();
  EXPECT_EQ(explained(report, "set timeout=0"), "8 GRUB command \"set timeout=0\"");
  EXPECT_EQ(explained(report, "linux (hd0,gpt1)/vmlinuz quiet"),
            "8 GRUB command \"linux (hd0,gpt1)/vmlinuz quiet\"");
  EXPECT_EQ(explained(report, "(hd0,gpt1)/vmlinuz quiet"),
            "8 kernel command line \"(hd0,gpt1)/vmlinuz quiet\"");
  EXPECT_EQ(explained(report, "boot"), "8 GRUB command \"boot\"");
  // Out of the configuration in Debian's GRUB itself.
  EXPECT_EQ(explained(report, "[ -e (hd0,gpt1)/EFI/debian/grub.cfg ]"),
            "8 GRUB command \"[ -e (hd0,gpt1)/EFI/debian/grub.cfg ]\"");
  EXPECT_EQ(explained(report, "source (hd0,gpt1)/EFI/debian/grub.cfg"),
            "8 GRUB command \"source (hd0,gpt1)/EFI/debian/grub.cfg\"");
  EXPECT_EQ(explained(report, kConfig), "9 GRUB's configuration EFI/debian/grub.cfg");
  EXPECT_EQ(explained(report, "an initial file system"), "9 the file initrd");
  auto shim = report.explanations().find(report.paths[0].parts[0].authenticode_sha256);
  ASSERT_NE(shim, report.explanations().end());
  EXPECT_EQ(shim->second.pcr, 4U);
  EXPECT_EQ(shim->second.words, "shim EFI/BOOT/BOOTX64.EFI");
}

TEST(Preflight, names_the_part_that_will_not_start) {
  Disk edited;
  edited.kernel[edited.kernel.size() / 2] ^= std::byte{1};
  PreflightReport report = edited.standard().check();
  EXPECT_EQ(report.boots, Boots::kNo);
  EXPECT_THAT(report.summary,
              HasSubstr("vmlinuz will not start: its signature is for other bytes"));

  Disk unsigned_loader;
  unsigned_loader.standard().files.add("EFI/BOOT/grubx64.efi", read_test_file(kUnsignedShim));
  report = unsigned_loader.check();
  EXPECT_EQ(report.boots, Boots::kNo);
  EXPECT_THAT(report.summary, HasSubstr("EFI/BOOT/grubx64.efi will not start: it is not signed"));

  Disk no_shim;
  no_shim.standard().files.add("EFI/BOOT/BOOTX64.EFI", read_test_file(kGrub));
  report = no_shim.check();
  EXPECT_EQ(report.boots, Boots::kNo);
  EXPECT_THAT(report.summary, HasSubstr("none of it is in db"));
}

TEST(Preflight, revocation_by_sbat_and_by_mok_lists_counts) {
  Disk disk;
  disk.input.state.sbat_level = parse_sbat_level(as_bytes("sbat,1,2099010100\ngrub,6\n")).value();
  const PreflightReport report = disk.standard().check();
  EXPECT_EQ(report.boots, Boots::kNo);
  EXPECT_THAT(report.summary, HasSubstr("SBAT: component grub has generation 5"));
}

TEST(Preflight, a_shim_that_is_revoked_itself_stops_the_machine) {
  Disk disk;
  disk.input.state.sbat_level = parse_sbat_level(as_bytes("sbat,1,2099010100\nshim,99\n")).value();
  disk.standard();
  disk.files.add("EFI/debian/shimx64.efi", read_test_file(kShim));
  disk.files.add("EFI/debian/grubx64.efi", read_test_file(kGrub));
  disk.input.boot_order = {
      {.number = 1, .partition = kTestPartition, .path = "EFI/debian/shimx64.efi"}};
  PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kNo);
  EXPECT_THAT(report.summary, HasSubstr("EFI/debian/shimx64.efi shuts the machine down"));
  EXPECT_THAT(report.summary, HasSubstr("component shim has generation"));
  EXPECT_TRUE(report.paths[0].started);
  EXPECT_EQ(report.paths[0].parts.size(), 1U);
  disk.input.state.shim_checks_nothing = true;  // is read later
  EXPECT_EQ(disk.check().boots, Boots::kNo);
  disk.input.state.enforced = false;
  EXPECT_EQ(disk.check().boots, Boots::kYes);
}

TEST(Preflight, with_secure_boot_off_nothing_is_refused_and_the_verdicts_stay) {
  Disk disk;
  disk.kernel[disk.kernel.size() / 2] ^= std::byte{1};
  disk.input.state.enforced = false;
  const PreflightReport report = disk.standard().check();
  EXPECT_EQ(report.boots, Boots::kYes) << report.summary;
  EXPECT_THAT(report.summary, HasSubstr("Secure Boot is off"));
  EXPECT_EQ(report.paths[0].parts[2].verdict.verdict, Verdict::kDamaged);
}

TEST(Preflight, a_configuration_on_another_file_system_is_as_far_as_it_sees) {
  Disk disk;
  disk.standard().files.add("EFI/debian/grub.cfg",
                            "search.fs_uuid 3ad5b1e5-0000-0000-0000-000000000000 root\n"
                            "set prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n");
  const PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kAsFarAsSeen);
  EXPECT_THAT(report.summary, HasSubstr("$prefix/grub.cfg (it searches for 3ad5b1e5"));
}

TEST(Preflight, a_search_for_this_very_file_system_is_followed) {
  Disk disk;
  disk.standard().files.add("EFI/debian/grub.cfg",
                            "search --no-floppy --fs-uuid --set=root 4846-4450\n"
                            "set prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n");
  disk.files.add("boot/grub/grub.cfg", "menuentry 'Debian' {\n linux /vmlinuz ro\n}\n");
  const PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kYes) << report.summary;
  EXPECT_EQ(explained(report, "/vmlinuz ro"), "8 kernel command line \"/vmlinuz ro\"");
}

TEST(Preflight, boot_entries_come_first_and_a_lost_one_is_passed_over) {
  Disk disk;
  disk.standard();
  disk.files.add("EFI/debian/shimx64.efi", read_test_file(kShim));
  disk.files.add("EFI/debian/grubx64.efi", read_test_file(kGrub));
  disk.input.boot_order = {
      {.number = 1, .description = "gone", .partition = guids::kMicrosoft, .path = "EFI/x.efi"},
      {.number = 2,
       .description = "debian",
       .partition = kTestPartition,
       .path = "EFI/debian/shimx64.efi"}};
  const PreflightReport report = disk.check();
  ASSERT_EQ(report.paths.size(), 3U);
  EXPECT_THAT(report.paths[0].reason, HasSubstr("not on this disk"));
  EXPECT_EQ(report.paths[1].name, "Boot0002 debian: EFI/debian/shimx64.efi");
  EXPECT_EQ(report.paths[1].boots, Boots::kYes);
  EXPECT_EQ(deciding_path(report), &report.paths[1]);
  // The lost one may be on another disk of the VM.
  EXPECT_EQ(report.boots, Boots::kAsFarAsSeen);
  EXPECT_THAT(report.summary, HasSubstr("EFI/debian/shimx64.efi starts vmlinuz; unless a disk"));
  std::ranges::swap(disk.input.boot_order[0], disk.input.boot_order[1]);
  EXPECT_EQ(disk.check().boots, Boots::kYes);
}

TEST(Preflight, the_default_path_stands_where_the_first_whole_device_does) {
  Disk disk;
  disk.standard();
  const BootOption file{.number = 1, .partition = kTestPartition, .path = "EFI/BOOT/grubx64.efi"};
  const BootOption device{.number = 2, .whole_device = true};
  auto first = [&](std::vector<BootOption> order) {
    disk.input.boot_order = std::move(order);
    const PreflightReport report = disk.check();
    EXPECT_EQ(report.paths.size(), 2U);
    return report.paths[0].parts[0].path;
  };
  EXPECT_EQ(first({device, file, device}), "EFI/BOOT/BOOTX64.EFI");
  EXPECT_EQ(first({file, device}), "EFI/BOOT/grubx64.efi");
  EXPECT_EQ(first({file}), "EFI/BOOT/grubx64.efi");
}

TEST(Preflight, fallback_leads_through_its_list_to_the_installed_shim) {
  Disk disk;
  disk.standard();
  disk.files.add("EFI/BOOT/fbx64.efi", read_test_file(kFallback));
  disk.files.add("EFI/debian/shimx64.efi", read_test_file(kShim));
  disk.files.add("EFI/debian/grubx64.efi", read_test_file(kGrub));
  std::string csv("\xFF\xFE", 2);
  for (char c : std::string("shimx64.efi,debian,,This is the boot entry for debian\n")) {
    csv += c;
    csv += '\0';
  }
  disk.files.add("EFI/debian/BOOTX64.CSV", csv);
  const PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kYes) << report.summary;
  ASSERT_EQ(report.paths[0].parts.size(), 5U);
  EXPECT_EQ(report.paths[0].parts[1].kind, ProgramKind::kFallback);
  EXPECT_EQ(report.paths[0].parts[2].path, "EFI/debian/shimx64.efi");
}

TEST(Preflight, systemd_boot_starts_what_its_entries_name) {
  Disk disk;
  const Bytes loader = read_test_file("/usr/lib/systemd/boot/efi/systemd-bootx64.efi");
  const Bytes digest = *PeImage::parse(loader)->authenticode_digest(DigestAlgorithm::kSha256);
  Digest admitted;
  std::ranges::copy(digest, admitted.bytes.begin());
  disk.input.state.db = SignatureDatabase::of_sha256(guids::kHoldfast, {admitted});
  disk.input.state.db.append(SignatureDatabase::of_certificate(
      guids::kHoldfast, certificate_of(*PeImage::parse(disk.kernel), "Debian Secure Boot Signer")));
  disk.files.add("EFI/BOOT/BOOTX64.EFI", loader);
  disk.files.add("loader/entries/debian.conf",
                 "title Debian\nlinux /vmlinuz\ninitrd /initrd\noptions quiet ro\n");
  disk.files.add("vmlinuz", disk.kernel);
  disk.files.add("initrd", "an initial file system");
  PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kYes) << report.summary;
  ASSERT_EQ(report.paths[0].parts.size(), 2U);
  EXPECT_EQ(report.paths[0].parts[0].kind, ProgramKind::kSystemdBoot);
  EXPECT_EQ(report.paths[0].parts[1].judged_by, "firmware");
  EXPECT_EQ(explained(report, "an initial file system"), "9 the file /initrd");
  std::string options;
  for (char c : std::string("initrd=\\initrd quiet ro") + '\0') options += {c, '\0'};
  EXPECT_THAT(explained(report, options), HasSubstr("kernel command line"));
  disk.files.add("EFI/Linux/other.efi", read_test_file(kUnsignedShim));
  report = disk.check();
  EXPECT_EQ(report.boots, Boots::kYes);
  ASSERT_EQ(report.paths[0].notes.size(), 1U);
  EXPECT_THAT(report.paths[0].notes[0], HasSubstr("EFI/Linux/other.efi will not start"));
}

TEST(Preflight, a_default_kernel_that_is_refused_is_not_made_up_for_by_another) {
  Disk disk;
  disk.standard();
  disk.files.add("EFI/debian/grub.cfg",
                 "menuentry 'new' {\n linux ($root)/unsigned\n}\n"
                 "menuentry 'old' {\n linux ($root)/vmlinuz\n}\n");
  disk.files.add("unsigned", read_test_file(kUnsignedShim));
  PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kAsFarAsSeen);
  EXPECT_THAT(report.summary, HasSubstr("unsigned will not start: it is not signed"));
  EXPECT_THAT(report.summary, HasSubstr("vmlinuz would start if it is chosen"));
  disk.files.add("EFI/debian/grub.cfg",
                 "menuentry 'old' {\n linux ($root)/vmlinuz\n}\n"
                 "menuentry 'new' {\n linux ($root)/unsigned\n}\n");
  report = disk.check();
  EXPECT_EQ(report.boots, Boots::kYes) << report.summary;
  ASSERT_EQ(report.paths[0].notes.size(), 1U);
}

// A path at EFI/a that fails as the test wants it to, then one that boots.
Disk two_paths() {
  Disk disk;
  disk.standard();
  disk.input.boot_order = {
      {.number = 1, .partition = kTestPartition, .path = "EFI/a/first.efi"},
      {.number = 2, .partition = kTestPartition, .path = "EFI/BOOT/BOOTX64.EFI"}};
  return disk;
}

TEST(Preflight, a_shim_without_its_second_stage_goes_back_to_firmware) {
  Disk disk = two_paths();
  disk.files.add("EFI/a/first.efi", read_test_file(kShim));
  PreflightReport report = disk.check();
  EXPECT_FALSE(report.paths[0].started);
  EXPECT_EQ(deciding_path(report), &report.paths[1]);
  EXPECT_EQ(report.boots, Boots::kYes) << report.summary;
  EXPECT_EQ(signed_programs_of(report).size(), 3U);

  // One that it refuses leads back, too, unless MokManager is there to ask.
  disk.files.add("EFI/a/grubx64.efi", read_test_file(kUnsignedShim));
  report = disk.check();
  EXPECT_EQ(report.boots, Boots::kYes) << report.summary;
  disk.files.add("EFI/a/mmx64.efi", read_test_file(kMokManager));
  report = disk.check();
  EXPECT_EQ(report.boots, Boots::kNo);
  EXPECT_EQ(deciding_path(report), &report.paths[0]);
}

TEST(Preflight, a_grub_that_starts_no_kernel_keeps_the_machine) {
  Disk disk = two_paths();
  const Bytes grub = read_test_file(kGrub);
  disk.files.add("EFI/a/first.efi", grub);
  disk.input.state.db.append(SignatureDatabase::of_certificate(
      guids::kHoldfast, certificate_of(*PeImage::parse(grub), "Debian Secure Boot Signer")));
  const PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kNo);
  EXPECT_THAT(report.summary, HasSubstr("there is no shim on this path"));
  EXPECT_TRUE(report.paths[0].started);
  EXPECT_EQ(deciding_path(report), &report.paths[0]);
  ASSERT_EQ(signed_programs_of(report).size(), 1U);
  EXPECT_EQ(signed_programs_of(report)[0].path, "EFI/a/first.efi");
  EXPECT_EQ(report.authorities().size(), 1U);
}

PreflightReport with_config(std::string_view config) {
  Disk disk;
  disk.standard();
  disk.files.add("EFI/debian/grub.cfg", config);
  return disk.check();
}

TEST(Preflight, a_name_that_depends_on_what_is_unknown_is_no_missing_kernel) {
  PreflightReport report = with_config("linux /vmlinuz-$version ro\n");
  EXPECT_EQ(report.boots, Boots::kAsFarAsSeen);
  EXPECT_THAT(report.summary, HasSubstr("GRUB starts /vmlinuz-"));
  report = with_config("configfile /$somewhere/grub.cfg\n");
  EXPECT_EQ(report.boots, Boots::kAsFarAsSeen);
  // Behind the first entry it is a note at most, and options do not count.
  report = with_config("linux /vmlinuz root=$root_of_it\nlinux /vmlinuz-$version\n");
  EXPECT_EQ(report.boots, Boots::kYes) << report.summary;
  report = with_config("linux /vmlinuz-$version\nlinux /vmlinuz\n");
  EXPECT_EQ(report.boots, Boots::kAsFarAsSeen);
  EXPECT_EQ(report.paths[0].parts.size(), 3U);
}

TEST(Preflight, a_menu_that_hands_over_to_other_programs_may_boot) {
  const PreflightReport report =
      with_config("menuentry 'Windows' {\n chainloader /EFI/Microsoft/Boot/bootmgfw.efi\n}\n");
  EXPECT_EQ(report.boots, Boots::kAsFarAsSeen);
  EXPECT_THAT(report.summary, HasSubstr("hands over to /EFI/Microsoft/Boot/bootmgfw.efi"));
}

TEST(Preflight, a_configuration_without_a_kernel_boots_nothing) {
  EXPECT_EQ(with_config("set timeout=5\n").boots, Boots::kNo);
  EXPECT_EQ(with_config("linux /gone\n").boots, Boots::kNo);
}

TEST(Preflight, a_program_for_another_processor_does_not_start_with_secure_boot_off_either) {
  Disk disk;
  disk.input.state.enforced = false;
  disk.files.add("EFI/BOOT/BOOTX64.EFI",
                 test_program({{.name = ".linux", .content = Bytes(64)}}, 1U << 20, 0xAA64));
  const PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kNo);
  EXPECT_THAT(report.summary, HasSubstr("another kind of processor"));
}

TEST(Preflight, a_loop_of_loaders_ends) {
  Disk disk;
  disk.files.add("EFI/BOOT/BOOTX64.EFI", read_test_file(kShim));
  disk.files.add("EFI/BOOT/grubx64.efi", read_test_file(kShim));
  const PreflightReport report = disk.check();
  EXPECT_EQ(report.boots, Boots::kNo);
}

TEST(Preflight, a_disk_for_bios_is_the_first_generation) {
  Bytes disk(size_t{1} << 20);
  disk[0] = std::byte{0xEB};
  disk[446] = std::byte{0x80};
  disk[446 + 4] = std::byte{0x83};
  store_le<uint32_t>(disk.data() + 446 + 8, 64);
  store_le<uint32_t>(disk.data() + 446 + 12, 64);
  store_le<uint16_t>(disk.data() + 510, 0xAA55);
  MemorySource source(disk);
  Result<PreflightReport> report = preflight(source, {});
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->generation, Generation::kGen1);
  EXPECT_EQ(report->boots, Boots::kNo);
  EXPECT_THAT(report->summary, HasSubstr("BIOS"));
}

PreflightReport check_disk(const Bytes& disk) {
  MemorySource source(disk);
  Result<PreflightReport> report = preflight(source, {.state = {.enforced = false}});
  HF_ASSERT(report.ok());
  return *std::move(report);
}

// Both said "will boot"; OVMF 2022.11 did not boot them.
TEST(Preflight, what_firmware_does_not_take_does_not_boot) {
  const Bytes program = test_program({{".text", Bytes(512)}});
  const auto file_system = [&](FatKind kind, uint32_t clusters) {
    return FatBuilder(kind, clusters).add("EFI/BOOT/BOOTX64.EFI", program).build();
  };
  EXPECT_NE(check_disk(gpt_disk(file_system(FatKind::kFat32, 65525))).boots, Boots::kNo);
  const PreflightReport few = check_disk(gpt_disk(file_system(FatKind::kFat32, 60000)));
  EXPECT_EQ(few.boots, Boots::kNo);
  EXPECT_THAT(few.warnings, testing::Contains(HasSubstr("60000 clusters in a FAT32")));

  const Bytes fat = file_system(FatKind::kFat16, 5000);
  Bytes disk((2048 * 512) + fat.size());
  std::ranges::copy(fat, disk.begin() + 2048 * 512);
  disk[446 + 4] = std::byte{0xEF};
  store_le<uint32_t>(disk.data() + 446 + 8, 2048);
  store_le<uint32_t>(disk.data() + 446 + 12, static_cast<uint32_t>(fat.size() / 512));
  store_le<uint16_t>(disk.data() + 510, 0xAA55);
  EXPECT_NE(check_disk(disk).boots, Boots::kNo);
  disk.resize(disk.size() - 512);
  const PreflightReport beyond = check_disk(disk);
  EXPECT_EQ(beyond.boots, Boots::kNo);
  EXPECT_THAT(beyond.warnings, testing::Contains(HasSubstr("partition 1 ends at sector")));
}

// As OVMF 2022.11 did with each.
TEST(Preflight, of_a_disk_firmware_takes_the_first_default_file_that_is_an_application) {
  const Bytes good = test_program({{".text", Bytes(512)}});
  const auto boots = [&](const Bytes& first) {
    const Bytes one = FatBuilder(FatKind::kFat16, 5000).add("EFI/BOOT/BOOTX64.EFI", first).build();
    const Bytes two = FatBuilder(FatKind::kFat16, 5000).add("EFI/BOOT/BOOTX64.EFI", good).build();
    Bytes disk(2048 * 512);
    const auto entry = [&](size_t number, const Bytes& file_system) {
      disk[446 + 16 * number + 4] = std::byte{0xEF};
      store_le<uint32_t>(&disk[446 + 16 * number + 8], static_cast<uint32_t>(disk.size() / 512));
      store_le<uint32_t>(&disk[446 + 16 * number + 12],
                         static_cast<uint32_t>(file_system.size() / 512));
      disk.insert(disk.end(), file_system.begin(), file_system.end());
    };
    entry(0, one);
    entry(1, two);
    store_le<uint16_t>(disk.data() + 510, 0xAA55);
    const PreflightReport report = check_disk(disk);
    const BootPath* path = deciding_path(report);
    return report.boots == Boots::kNo ? 0U : path->parts[0].partition;
  };
  EXPECT_EQ(boots(good), 1U);
  EXPECT_EQ(boots(Bytes(6000)), 2U);
  EXPECT_EQ(boots({}), 2U);
  EXPECT_EQ(boots(test_program({{".text", Bytes(512)}}, 0x8000'0000, kPeMachineX64, 11)), 2U);
  // An application that is not loaded ends the disk's turn.
  EXPECT_EQ(boots(test_program({{".text", Bytes(512)}}, 0x8000'0000, 0x14C)), 0U);
}

TEST(Preflight, partition_tables_that_lead_back_to_themselves_hold_firmware_up) {
  Bytes disk(size_t{1} << 20);
  for (size_t at : {size_t{0}, size_t{256 * 512}, size_t{320 * 512}}) {
    store_le<uint16_t>(disk.data() + at + 510, 0xAA55);
    disk[at + 446 + 4] = std::byte{at == 0 ? uint8_t{0x05} : uint8_t{0x83}};
    store_le<uint32_t>(disk.data() + at + 446 + 8, at == 0 ? 256 : 8);
    store_le<uint32_t>(disk.data() + at + 446 + 12, at == 0 ? 1024 : 8);
    if (at == 0) continue;
    disk[at + 446 + 16 + 4] = std::byte{0x05};
    store_le<uint32_t>(disk.data() + at + 446 + 16 + 8, 64);
    store_le<uint32_t>(disk.data() + at + 446 + 16 + 12, 64);
  }
  const PreflightReport report = check_disk(disk);
  EXPECT_EQ(report.boots, Boots::kNo);
  EXPECT_THAT(report.summary, HasSubstr("does not end"));
}

TEST(Preflight, an_empty_disk_boots_nothing) {
  const Bytes disk(size_t{1} << 20);
  MemorySource source(disk);
  Result<PreflightReport> report = preflight(source, {});
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->boots, Boots::kNo);
  EXPECT_THAT(report->summary, HasSubstr("no boot program was found"));
}

TEST(Preflight, json_and_words_say_the_same) {
  const PreflightReport report = Disk().standard().check();
  const sys::JsonObject json = to_json(report);
  EXPECT_EQ(json.at("boots").as_string(), "yes");
  EXPECT_EQ(json.at("generation").as_string(), "Gen2");
  EXPECT_EQ(json.at("paths").as_array()[0].as_object().at("parts").as_array().size(), 3U);
  EXPECT_EQ(json.at("explanations").as_array().size(), report.explanations().size());
  EXPECT_THAT(in_words(report), HasSubstr(report.summary));
  EXPECT_THAT(in_words(report), HasSubstr("Debian Secure Boot Signer"));
}

TEST(Vbs, says_which_part_is_missing) {
  VmProfile profile{.nested_virtualization = true};
  EXPECT_TRUE(vbs_readiness(profile).ready);
  EXPECT_EQ(vbs_readiness(profile).summary, "ready for VBS, without IOMMU");
  profile.iommu = true;
  EXPECT_EQ(vbs_readiness(profile).summary, "ready for VBS");
  profile.secure_boot = false;
  EXPECT_FALSE(vbs_readiness(profile).ready);
  EXPECT_EQ(vbs_readiness(profile).summary, "not ready for VBS: Secure Boot missing");
}

}  // namespace
}  // namespace hf::secure_boot
