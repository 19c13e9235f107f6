// Hostile FAT file systems: everything that a preflight would read of one.
#include "base/fuzz_input.h"
#include "secure_boot/disk/fat.h"

namespace {

void read_tree(hf::secure_boot::FatVolume& volume, const std::string& path, int depth,
               int& budget) {
  auto entries = volume.list(path);
  if (!entries.ok()) return;
  for (const auto& entry : *entries) {
    if (--budget < 0) return;
    const std::string below = path + "/" + entry.name;
    if (entry.is_directory && depth < 4) {
      read_tree(volume, below, depth + 1, budget);
    } else {
      (void)volume.read(entry, size_t{1} << 20);
      (void)volume.find(below);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  using namespace hf::secure_boot;
  if (size > 1 << 20) return 0;
  MemorySource source(hf::fuzz_input(data, size));
  Result<FatVolume> volume = FatVolume::open(source);
  if (!volume.ok()) return 0;
  int budget = 64;
  read_tree(*volume, "", 0, budget);
  (void)volume->read("EFI/BOOT/BOOTX64.EFI", size_t{1} << 20);
  return 0;
}
