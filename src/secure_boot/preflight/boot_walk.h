// Following one boot path from the firmware's first image to the kernel.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>

#include "secure_boot/disk/fat.h"
#include "secure_boot/preflight/explanations.h"
#include "secure_boot/preflight/preflight.h"

namespace hf::secure_boot {

inline constexpr size_t kBootFileBytesMax = size_t{512} << 20;
inline constexpr size_t kConfigBytesMax = size_t{1} << 20;
inline constexpr size_t kKernelsMax = 32;
// Signatures that are kept for later (BootPart::pkcs7): real ones have about 10 KiB.
inline constexpr size_t kKeptSignatureBytesMax = size_t{64} << 10;
inline constexpr size_t kKeptSignaturesBytesMax = size_t{4} << 20;  // of all parts
// Of boot loaders that more than one path starts; what is larger is read again.
inline constexpr size_t kLoadedBytesMax = size_t{64} << 20;
// What looking at one signature costs, in bytes hashed in the same time.
inline constexpr uint64_t kSignatureCost = uint64_t{1} << 20;

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
  // All must outlive it.
  BootWalk(const PreflightInput& input, BootVolumes& volumes, PreflightReport& report,
           HashBudget& hashing)
      : input_(input), volumes_(volumes), hashing_(hashing), explain_(report, hashing) {}

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
    std::optional<PeImage> image;  // not of what nothing is read of any more
    ProgramKind kind = ProgramKind::kOther;
    bool goes_on = false;  // it may start
    bool boot_application = false;
    BootPart part;
  };
  using LoadedPtr = std::shared_ptr<const Loaded>;

  Result<LoadedPtr> load(BootVolume& volume, const std::string& path, const Judge& judge);
  Result<LoadedPtr> read_program(BootVolume& volume, const std::string& path, const Judge& judge);
  void describe(const Loaded& loaded, BootPart& part);
  void keep_signatures(const PeImage& image, BootPart& part);
  ImageVerdict judge_image(const PeImage& image, const Judge& judge) const;
  void follow_program(BootVolume& volume, const std::string& path, const Judge& judge);
  void after(BootVolume& volume, const std::string& path, const Loaded& loaded, const Judge& judge);
  void after_shim(BootVolume& volume, const std::string& path, const Loaded& shim);
  void after_fallback(BootVolume& volume);
  void after_grub(BootVolume& volume, const std::string& path, const Loaded& grub,
                  const Judge& judge);
  void after_systemd_boot(BootVolume& volume, const Judge& judge);
  void loader_entry(BootVolume& volume, const std::string& path, std::vector<KernelFile>& kernels);
  // `before`: what the loader starts by default if it is none of them, as a sentence, or empty.
  void start_kernels(const std::vector<KernelFile>& kernels, const Judge& judge,
                     const std::string& before = {});
  void outcome(Boots boots, std::string reason);

  const PreflightInput& input_;
  BootVolumes& volumes_;
  HashBudget& hashing_;
  Explainer explain_;
  BootPath path_;
  size_t signature_bytes_ = 0;              // kept, of all parts
  std::map<std::string, ShimTrust> shims_;  // by place; their addresses stay
  std::set<std::string> visited_;           // images of this path, so that a loop ends
  // By place and who judged: paths share most of what they start, and it is read once.
  std::map<std::string, LoadedPtr> loaded_;
  size_t loaded_bytes_ = 0;
};

}  // namespace hf::secure_boot
