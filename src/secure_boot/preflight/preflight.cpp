#include "secure_boot/preflight/preflight.h"

#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/preflight/boot_walk.h"

namespace hf::secure_boot {
namespace {

constexpr std::string_view kDefaultPath = "EFI/BOOT/BOOTX64.EFI";
constexpr size_t kVolumesMax = 16;
constexpr size_t kPathsMax = 32;
constexpr size_t kWarningsMax = 100;

// Loaders that systems install beside the default one.
constexpr std::string_view kKnownLoaders[] = {"shimx64.efi", "grubx64.efi", "systemd-bootx64.efi",
                                              "Boot/bootmgfw.efi"};

Error not_checked(Error error) {
  return std::move(error)
      .context("the disk")
      .with_effect("nothing is known of what it boots")
      .with_mend("check the image in a guest or copy it again");
}

bool has_boot_signature(BlockSource& source) {
  const Result<Bytes> mark = source.read_bytes(510, 2);
  return mark.ok() && load_le<uint16_t>(mark->data()) == 0xAA55;
}

void open_volume(BlockSource& disk, const Partition& partition, PartitionStyle style,
                 BootVolumes& volumes, PreflightReport& report) {
  if (volumes.size() == kVolumesMax) return;
  auto source = std::make_unique<RangeSource>(disk, partition.offset, partition.size);
  Result<FatVolume> files = FatVolume::open(*source);
  if (!files.ok()) {
    // Firmware asks for so little that what is no FAT can look like a damaged one.
    const bool marked = has_boot_signature(*source);
    if ((files.error().code != ErrorCode::kNotFound && marked) || partition.is_efi_system) {
      report.warnings.push_back(
          fmt::format("partition {}: {}", partition.number, files.error().cause));
    }
    return;
  }
  if (files->size() > source->readable()) {
    report.warnings.push_back(
        fmt::format("partition {}: its file system is larger than the {} (cut short?); files "
                    "behind the end cannot be read",
                    partition.number, source->readable() < source->size() ? "disk" : "partition"));
  }
  BootVolume& volume = volumes.emplace_back();
  volume.partition = partition.number;
  volume.style = style;
  volume.id = partition.id;
  volume.is_efi_system = partition.is_efi_system;
  volume.source = std::move(source);
  volume.files = *std::move(files);
}

BootVolumes open_volumes(BlockSource& disk, PreflightReport& report) {
  BootVolumes volumes;
  for (const Partition& partition : report.partitions) {
    open_volume(disk, partition, report.style, volumes, report);
  }
  if (report.style == PartitionStyle::kNone) {  // a file system that covers the whole disk
    open_volume(disk, {.size = disk.size()}, PartitionStyle::kNone, volumes, report);
  }
  return volumes;
}

BootPath dead_end(std::string name, std::string reason) {
  return {.name = std::move(name), .boots = Boots::kNo, .reason = std::move(reason)};
}

// What cannot be read now is no file that is missing.
BootPath not_found(std::string name, const Error& error) {
  BootPath path = dead_end(std::move(name), error.cause);
  if (error.code != ErrorCode::kNotFound && error.code != ErrorCode::kCorrupt) {
    path.boots = Boots::kAsFarAsSeen;
  }
  return path;
}

BootPath follow_entry(BootWalk& walk, const BootOption& option, BootVolumes& volumes,
                      const PreflightReport& report) {
  std::string name =
      fmt::format("Boot{:04X} {}: {}", option.number, option.description, option.path);
  auto volume = volumes.end();
  if (option.partition) volume = std::ranges::find(volumes, *option.partition, &BootVolume::id);
  if (volume != volumes.end()) {
    Result<FatEntry> file = volume->files->find(option.path);
    return file.ok() ? walk.follow(std::move(name), *volume, option.path)
                     : not_found(std::move(name), file.error());
  }
  const bool is_here =
      option.partition && std::ranges::any_of(report.partitions, [&](const Partition& partition) {
        return partition.id == *option.partition;
      });
  if (is_here) return dead_end(std::move(name), "its partition holds no FAT file system");
  BootPath path = dead_end(std::move(name), "its partition is not on this disk");
  path.elsewhere = true;
  return path;
}

void follow_default(BootWalk& walk, const PartitionTable& table, BootVolumes& volumes,
                    PreflightReport& report) {
  for (BootVolume& volume : volumes) {
    if (report.paths.size() == kPathsMax) return;
    std::string name = fmt::format("default of partition {}: {}", volume.partition, kDefaultPath);
    Result<FatEntry> file = volume.files->find(kDefaultPath);
    if (file.ok()) {
      report.paths.push_back(walk.follow(std::move(name), volume, std::string(kDefaultPath)));
      // BmGetNextLoadOptionBuffer(), UefiBootManagerLib: a disk is one boot option, for which the
      // first file is taken that is an application. If it does not start, none other is tried.
      if (report.paths.back().chosen) return;
    } else if (BootPath path = not_found(std::move(name), file.error()); path.boots != Boots::kNo) {
      report.paths.push_back(std::move(path));
    }
  }
  if (table.udf && report.paths.size() < kPathsMax) {
    report.paths.push_back({.name = fmt::format("default of the UDF file system: {}", kDefaultPath),
                            .boots = Boots::kAsFarAsSeen,
                            .reason = "what its UDF file system holds is not read"});
  }
}

void follow_all(BootWalk& walk, const PreflightInput& input, const PartitionTable& table,
                BootVolumes& volumes, PreflightReport& report) {
  bool default_followed = false;
  for (const BootOption& option : input.boot_order) {
    if (report.paths.size() == kPathsMax) return;
    if (!option.active) continue;
    if (option.whole_device && !default_followed) {
      follow_default(walk, table, volumes, report);
      default_followed = true;
    }
    // The network and the firmware's own menu have none.
    if (!option.path.empty()) {
      report.paths.push_back(follow_entry(walk, option, volumes, report));
    }
  }
  if (!default_followed) follow_default(walk, table, volumes, report);
}

bool same_path(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) {
    auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; };
    return upper(x) == upper(y);
  });
}

// Loaders that are there and that nothing names.
void note_unnamed(BootVolumes& volumes, PreflightReport& report) {
  auto named = [&](uint32_t partition, const std::string& path) {
    return std::ranges::any_of(report.paths, [&](const BootPath& candidate) {
      return std::ranges::any_of(candidate.parts, [&](const BootPart& part) {
        return part.partition == partition && same_path(part.path, path);
      });
    });
  };
  for (BootVolume& volume : volumes) {
    Result<std::vector<FatEntry>> vendors = volume.files->list("EFI");
    if (!vendors.ok()) continue;
    for (const FatEntry& vendor : *vendors) {
      if (!vendor.is_directory || same_path(vendor.name, "BOOT")) continue;
      for (std::string_view loader : kKnownLoaders) {
        const std::string path = fmt::format("EFI/{}/{}", vendor.name, loader);
        if (!volume.files->find(path).ok() || named(volume.partition, path)) continue;
        if (report.warnings.size() > kWarningsMax) return;
        report.warnings.push_back(path + " is there, but no boot entry seen here names it");
      }
    }
  }
}

void sum_up(PreflightReport& report) {
  if (report.paths.empty()) {
    report.boots = Boots::kNo;
    report.summary = report.boot_code
                         ? "this disk boots by BIOS only; the VM's firmware is UEFI"
                         : "no boot program was found: no " + std::string(kDefaultPath) +
                               " on a FAT partition, and no boot entry";
    report.generation = report.boot_code ? Generation::kGen1 : Generation::kUnknown;
    return;
  }
  report.generation = Generation::kGen2;
  const BootPath* path = deciding_path(report);
  report.boots = path->boots;
  std::string before;
  for (const BootPath& earlier : report.paths) {
    if (&earlier == path) break;
    if (!earlier.elsewhere || report.boots == Boots::kNo) continue;
    report.boots = Boots::kAsFarAsSeen;
    before = "; unless a disk that is not seen here holds what " + earlier.name + " names";
  }
  const std::string under = report.enforced ? "" : " (Secure Boot is off: nothing is refused)";
  switch (report.boots) {
    case Boots::kYes:
      report.summary = "it will boot: " + path->reason + under;
      return;
    case Boots::kAsFarAsSeen:
      report.summary = "it will boot as far as can be seen: " + path->reason + before + under;
      return;
    case Boots::kNo:
      report.summary = "it will not boot: " + path->reason;
  }
}

}  // namespace

const BootPath* deciding_path(const PreflightReport& report) {
  for (const BootPath& path : report.paths) {
    if (path.boots != Boots::kNo || path.started) return &path;
  }
  return report.paths.empty() ? nullptr : &report.paths.front();
}

std::string_view to_string(Boots boots) {
  if (boots == Boots::kYes) return "yes";
  return boots == Boots::kNo ? "no" : "as far as seen";
}

std::vector<Authority> PreflightReport::authorities() const {
  std::vector<Authority> out;
  const BootPath* path = deciding_path(*this);
  if (path == nullptr) return out;
  for (const BootPart& part : path->parts) {
    if (part.verdict.authority) out.push_back(*part.verdict.authority);
  }
  return out;
}

Result<PreflightReport> preflight(BlockSource& whole, const PreflightInput& input) {
  ReadBudget budget{.bytes_left = input.bytes_max, .stop = input.stop};
  const uint64_t bytes_max = std::min(input.bytes_max, kPreflightBytesMax);
  HashBudget hashing{.bytes_left = std::min(input.hashed_bytes_max, bytes_max * kHashedPerByteRead),
                     .stop = input.stop};
  BudgetSource disk(whole, budget);
  PreflightReport report;
  report.profile = input.profile;
  report.enforced = input.state.enforced;
  Result<PartitionTable> table = read_partition_table(disk);
  if (!table.ok()) return not_checked(std::move(table).error());
  report.style = table->style;
  report.boot_code = table->boot_code;
  report.partitions = table->partitions;
  report.warnings = input.warnings;
  report.warnings.insert(report.warnings.end(), table->warnings.begin(), table->warnings.end());
  if (!table->endless.empty()) {
    report.summary = "it will not boot: " + table->endless;
    make_printable(report);
    return report;
  }
  BootVolumes volumes = open_volumes(disk, report);
  BootWalk walk(input, volumes, report, hashing);
  follow_all(walk, input, *table, volumes, report);
  note_unnamed(volumes, report);
  if (!table->gpt_event.empty()) Explainer(report, hashing).partition_table(table->gpt_event);
  if (input.vm) report.vbs = vbs_readiness(*input.vm);
  sum_up(report);
  if (input.stop && input.stop()) {
    return not_checked({.code = ErrorCode::kUnavailable, .cause = "it was stopped"});
  }
  if (budget.bytes_left == 0) {
    report.warnings.emplace_back(
        "its boot files refer to more than is read; the rest was not seen");
  }
  if (hashing.bytes_left == 0) {
    report.warnings.emplace_back(
        "its boot files take too long to check; what came after that was not seen");
  }
  make_printable(report);
  return report;
}

}  // namespace hf::secure_boot
