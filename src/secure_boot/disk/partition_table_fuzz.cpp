// Hostile disks: partition tables with their checksums put right, and the preflight of what they
// lead to. The first byte says whether checksums are recomputed.
#include "secure_boot/preflight/preflight.h"
#include "secure_boot/testing/test_disk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  using namespace hf::secure_boot;
  if (size < 1 + 80 * 512 || size > 1 << 20) return 0;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  Bytes disk(bytes + 1, bytes + size);
  disk.resize(disk.size() / 512 * 512);
  if ((data[0] & 1) != 0) seal_gpt(disk);
  MemorySource source(disk);
  Result<PartitionTable> table = read_partition_table(source);
  if (table.ok() && table->style == PartitionStyle::kGpt) {
    for (const Partition& partition : table->partitions) {
      HF_ASSERT(partition.offset + partition.size <= disk.size());
    }
  }
  Result<PreflightReport> report = preflight(source, {});
  if (report.ok()) {
    (void)to_json(*report);
    (void)in_words(*report);
  }
  return 0;
}
