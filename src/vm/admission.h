// What a VM may be that is new to a site: created here, or offered by another one. More than is
// asked of one that is there already, which keeps what it was made with (json_check).
#pragma once

#include "vm/definition.h"

namespace hf::vm {

inline constexpr uint64_t kNewMemoryMibMin = 256;

// Each part for whoever has only that part yet; the errors say what is allowed.
Status check_new_sizes(uint64_t cpus, uint64_t memory_mib);
Status check_new_disk_count(size_t disks);
Status check_new_disk_size(uint64_t size_bytes);

// All that is needed of the definition alone, with disks, NICs and addresses as a create gives
// them: disk1, disk2, … with those ids, nic1, nic2, … with the addresses that follow from `vm`.
Status check_new_definition(VmId vm, const Definition& definition);

}  // namespace hf::vm
