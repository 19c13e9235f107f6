#include "secure_boot/disk/partition_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/disk/el_torito.h"
#include "secure_boot/disk/fat.h"
#include "secure_boot/disk/gpt.h"
#include "secure_boot/disk/mbr.h"

namespace hf::secure_boot {
namespace {

bool has_text(BlockSource& disk, uint64_t offset, std::string_view text) {
  Result<Bytes> bytes = disk.read_bytes(offset, text.size());
  return bytes.ok() && as_text(*bytes) == text;
}

// Of a partition table, and not of the boot sector of a file system.
bool looks_like_a_table(ByteSpan sector) {
  return std::ranges::all_of(mbr_entries(sector), [](const MbrEntry& entry) {
    return entry.boot == 0 || entry.boot == 0x80;
  });
}

// What a device is to the driver: in a partition it takes a boot record for an extended one
// (PartitionInstallMbrChildHandles() looks at the last node of the device path).
enum class Node : uint8_t { kDisk, kHardDrive, kCdRom };

// PartitionDriverBindingStart(), on the disk and then on each partition: a device with a table of
// its own holds no file system itself.
class Finder {
 public:
  explicit Finder(PartitionTable& table) : table_(table) {}

  // What its table is. Partitions without a table of their own are added in firmware's order, which
  // is that of the device tree.
  Result<PartitionStyle> look(BlockSource& device, Node node, const Partition& self, size_t depth);

 private:
  // Each: whether there is such a table.
  Result<bool> gpt(BlockSource& device, ByteSpan sector, size_t depth,
                   std::vector<Partition>& children);
  Result<bool> mbr(BlockSource& device, ByteSpan sector, Node node, const Partition& self,
                   std::vector<Partition>& children);
  Status descend(BlockSource& device, Node node, const Partition& self,
                 std::vector<Partition> children, size_t depth);

  PartitionTable& table_;
};

Result<bool> Finder::gpt(BlockSource& device, ByteSpan sector, size_t depth,
                         std::vector<Partition>& children) {
  if (!is_protective_mbr(sector)) return false;
  const std::optional<GptCopy> copy = TRY(best_gpt_copy(device, table_.warnings));
  if (!copy) {
    if (depth > 0 || !has_text(device, 4096, "EFI PART")) return false;
    return Error{.code = ErrorCode::kUnsupported,
                 .cause =
                     "the partition table was written for sectors of 4096 bytes; the VM's "
                     "disks have 512"};
  }
  children = partitions_of(*copy, table_.warnings);
  if (depth == 0) {
    table_.disk_id = copy->disk_id;
    table_.gpt_event = gpt_event_of(*copy);
  }
  return true;
}

Result<bool> Finder::mbr(BlockSource& device, ByteSpan sector, Node node, const Partition& self,
                         std::vector<Partition>& children) {
  if (Status valid = check_mbr(sector, device.size() / kSectorSize); !valid.ok()) {
    if (valid.error().code == ErrorCode::kCorrupt && looks_like_a_table(sector)) {
      table_.warnings.push_back(
          fmt::format("firmware passes over the partition table in the first sector{}: {}",
                      node == Node::kDisk ? "" : fmt::format(" of partition {}", self.number),
                      valid.error().cause));
    }
    return false;
  }
  children =
      node == Node::kHardDrive ? TRY(extended_partitions(device, table_)) : mbr_partitions(sector);
  return !children.empty();
}

Status Finder::descend(BlockSource& device, Node node, const Partition& self,
                       std::vector<Partition> children, size_t depth) {
  for (Partition& child : children) {
    if (!table_.endless.empty()) return {};
    if (table_.partitions.size() == kPartitionsMax) {
      return Error{.code = ErrorCode::kLimit, .cause = "too many partitions"};
    }
    RangeSource source(device, child.offset, child.size);
    child.offset += self.offset;  // on the disk
    if (depth > 0) {
      child.id = Guid();  // no boot entry leads there
      if (depth > 1 || self.id != Guid()) child.number = self.number;
    }
    if (TRY(look(source, node, child, depth + 1)) == PartitionStyle::kNone) {
      table_.partitions.push_back(std::move(child));
    }
  }
  return {};
}

Result<PartitionStyle> Finder::look(BlockSource& device, Node node, const Partition& self,
                                    size_t depth) {
  if (device.size() < kSectorSize || device.readable() < kSectorSize) return PartitionStyle::kNone;
  if (depth == kTablesInTablesMax) {
    table_.endless = "partition tables inside of partitions do not end";
    return PartitionStyle::kNone;
  }
  const Bytes sector = TRY(device.read_bytes(0, kSectorSize));
  std::vector<Partition> children;
  // mPartitionDetectRoutineTable
  if (TRY(gpt(device, sector, depth, children))) {
    TRY(descend(device, Node::kHardDrive, self, std::move(children), depth));
    return PartitionStyle::kGpt;
  }
  children = TRY(el_torito_partitions(device));
  const bool udf = TRY(has_udf(device));
  table_.udf = table_.udf || udf;
  if (!children.empty()) {
    TRY(descend(device, Node::kCdRom, self, std::move(children), depth));
    return PartitionStyle::kElTorito;
  }
  if (udf) return PartitionStyle::kUdf;
  if (TRY(mbr(device, sector, node, self, children))) {
    TRY(descend(device, Node::kHardDrive, self, std::move(children), depth));
    return PartitionStyle::kMbr;
  }
  return PartitionStyle::kNone;
}

}  // namespace

Result<PartitionTable> read_partition_table(BlockSource& disk) {
  if (disk.size() < 4 * kSectorSize) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = "the disk is too small for a partition table"};
  }
  const Bytes sector = TRY(disk.read_bytes(0, kSectorSize));
  PartitionTable table;
  table.boot_code =
      has_mbr_signature(sector) && std::any_of(sector.begin(), sector.begin() + 440,
                                               [](std::byte b) { return b != std::byte{0}; });
  // Of a disk in QEMU's boot order, as all of a VM's are, firmware asks the FAT driver first
  // (ConnectDevicesFromQemu() in OvmfPkg's QemuBootOrderLib: the path ends at the disk, and
  // PartitionDriverBindingStart() does nothing then). What it takes, no other driver is asked
  // about.
  if (Result<FatVolume> whole = FatVolume::open(disk); whole.ok()) {
    if (!mbr_partitions(sector).empty() && check_mbr(sector, disk.size() / kSectorSize).ok()) {
      table.warnings.emplace_back(
          "firmware takes the whole disk for a FAT file system and passes over its partition "
          "table");
    }
    return table;
  } else if (whole.error().code != ErrorCode::kNotFound &&
             whole.error().code != ErrorCode::kCorrupt) {
    return std::move(whole).error();
  }
  table.style = TRY(Finder(table).look(disk, Node::kDisk, {}, 0));
  if (!is_protective_mbr(sector) && has_text(disk, kSectorSize, "EFI PART")) {
    table.warnings.emplace_back(
        "a GUID partition table without its protective MBR; firmware passes over it");
  }
  if (table.warnings.size() > kTableWarningsMax) table.warnings.resize(kTableWarningsMax);
  return table;
}

}  // namespace hf::secure_boot
