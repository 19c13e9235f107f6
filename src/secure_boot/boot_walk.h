// Following one boot path from the firmware's first image to the kernel.
#pragma once

#include <deque>
#include <memory>
#include <set>

#include "secure_boot/explanations.h"
#include "secure_boot/fat.h"
#include "secure_boot/preflight.h"

namespace hf::secure_boot {

inline constexpr size_t kBootFileBytesMax = size_t{512} << 20;
inline constexpr size_t kConfigBytesMax = size_t{1} << 20;
inline constexpr size_t kKernelsMax = 32;

// A FAT partition of the disk.
struct BootVolume {
  uint32_t partition = 0;
  PartitionStyle style = PartitionStyle::kGpt;
  Guid id;
  bool is_efi_system = false;
  std::unique_ptr<RangeSource> source;
  std::optional<FatVolume> files;
};
using BootVolumes = std::deque<BootVolume>;

// A file that a boot loader may start.
struct KernelFile {
  BootVolume* volume = nullptr;
  std::string path;
};

class BootWalk {
 public:
  BootWalk(const PreflightInput& input, BootVolumes& volumes, PreflightReport& report)
      : input_(input), volumes_(volumes), report_(report), explain_(report) {}

  // As firmware starts `path` from `volume`.
  BootPath follow(std::string name, BootVolume& volume, const std::string& path);

 private:
  // Who is asked whether an image may start.
  struct Judge {
    const ShimTrust* shim = nullptr;  // nobody but firmware so far
    ShimCaller caller = ShimCaller::kProtocol;
    bool nobody = false;  // the loader checks nothing
  };
  struct Loaded {
    Bytes bytes;
    std::optional<PeImage> image;
    ProgramKind kind = ProgramKind::kOther;
    bool goes_on = false;  // it may start
  };

  Result<Loaded> load(BootVolume& volume, const std::string& path, const Judge& judge);
  void describe(const Loaded& loaded, BootPart& part);
  ImageVerdict judge_image(const PeImage& image, const Judge& judge) const;
  void follow_program(BootVolume& volume, const std::string& path, const Judge& judge);
  void after(BootVolume& volume, const std::string& path, const Loaded& loaded, const Judge& judge);
  void after_shim(BootVolume& volume, const std::string& path, const Loaded& shim);
  void after_fallback(BootVolume& volume);
  void after_grub(BootVolume& volume, const std::string& path, const Loaded& grub,
                  const Judge& judge);
  void after_systemd_boot(BootVolume& volume, const Judge& judge);
  void loader_entry(BootVolume& volume, const std::string& path, std::vector<KernelFile>& kernels);
  void start_kernels(const std::vector<KernelFile>& kernels, const Judge& judge);
  void outcome(Boots boots, std::string reason);

  const PreflightInput& input_;
  BootVolumes& volumes_;
  PreflightReport& report_;
  Explainer explain_;
  BootPath path_;
  std::deque<ShimTrust> shims_;    // their addresses stay
  std::set<std::string> visited_;  // images of this path, so that a loop ends
};

}  // namespace hf::secure_boot
