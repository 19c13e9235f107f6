#include "vm/admission.h"

#include <fmt/format.h>

namespace hf::vm {
namespace {

Error refused(std::string cause, std::string mend) {
  return {.code = ErrorCode::kInvalidArgument,
          .cause = std::move(cause),
          .effect = "nothing was created",
          .mend = std::move(mend)};
}

Status check_disks(const std::vector<Disk>& disks) {
  TRY(check_new_disk_count(disks.size()));
  for (size_t i = 0; i < disks.size(); ++i) {
    if (disks[i].id != i + 1 || disks[i].name != fmt::format("disk{}", i + 1)) {
      return refused(fmt::format("disk {} is called \"{}\" and has the id {}", i + 1, disks[i].name,
                                 disks[i].id),
                     "disks are disk1, disk2 and so on, with the ids 1, 2 and so on");
    }
    TRY(check_new_disk_size(disks[i].size_bytes));
  }
  return {};
}

Status check_nics(VmId vm, const std::vector<Nic>& nics) {
  if (nics.size() > kNicsMax) {
    return refused(fmt::format("a VM with {} NICs is not possible", nics.size()),
                   fmt::format("give at most {}", kNicsMax));
  }
  for (size_t i = 0; i < nics.size(); ++i) {
    if (nics[i].name != fmt::format("nic{}", i + 1)) {
      return refused(fmt::format("NIC {} is called \"{}\"", i + 1, nics[i].name),
                     "NICs are nic1, nic2 and so on");
    }
    // Else one VM could have another's address.
    if (nics[i].mac != nic_mac(vm, i)) {
      return refused(
          fmt::format("{} has the address {}, which is not this VM's", nics[i].name, nics[i].mac),
          "its address follows from the VM's id: " + nic_mac(vm, i));
    }
  }
  return {};
}

}  // namespace

Status check_new_sizes(uint64_t cpus, uint64_t memory_mib) {
  if (cpus < 1 || cpus > kCpusMax) {
    return refused(fmt::format("{} CPUs are not possible", cpus),
                   fmt::format("use 1 to {}", kCpusMax));
  }
  if (memory_mib < kNewMemoryMibMin || memory_mib > kMemoryMibMax) {
    return refused(fmt::format("{} MiB of memory are not possible", memory_mib),
                   "use 256 MiB to 4 TiB");
  }
  return {};
}

Status check_new_disk_count(size_t disks) {
  if (disks >= 1 && disks <= kDisksMax) return {};
  return refused(fmt::format("a VM with {} disks is not possible", disks),
                 fmt::format("give 1 to {} disks: --disk IMAGE or --blank SIZE", kDisksMax));
}

Status check_new_disk_size(uint64_t size_bytes) {
  if (size_bytes >= kDiskBytesMin && size_bytes <= kDiskBytesMax && size_bytes % 4096 == 0)
    return {};
  return refused(fmt::format("a disk of {} bytes is not possible", size_bytes),
                 "use a multiple of 4096 bytes from 1 MiB to 64 TiB");
}

Status check_new_definition(VmId vm, const Definition& definition) {
  TRY(check_new_vm_name(definition.name));
  TRY(check_new_sizes(definition.cpus, definition.memory_mib));
  TRY(check_disks(definition.disks));
  TRY(check_nics(vm, definition.nics));
  return json_check(definition);
}

}  // namespace hf::vm
