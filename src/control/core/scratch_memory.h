// The memory files in which keepers leave notes for their successors, one a running VM. The
// launcher hands a VM's file to every successor it starts itself; this process keeps it too, for a
// keeper that it has to start again under a running guest. What is in them is sealed
// (keeper/guest_state/scratch.h).
#pragma once

#include <map>
#include <mutex>

#include "base/ids.h"
#include "sys/fd.h"

namespace hf::control {

class ScratchMemory {
 public:
  enum class Use {
    kFresh,  // a VM starts: nothing an earlier run held may count
    kSame,   // a keeper comes back under its guest; fresh if this daemon never had the VM's file
  };
  // The descriptor stays ours.
  Result<int> of(VmId vm, Use use) {
    std::lock_guard lock(mutex_);
    sys::UniqueFd& file = files_[vm];
    if (use == Use::kFresh || !file) file = TRY(sys::memory_file("scratch"));
    return file.get();
  }
  void forget(VmId vm) {
    std::lock_guard lock(mutex_);
    files_.erase(vm);
  }

 private:
  std::mutex mutex_;
  std::map<VmId, sys::UniqueFd> files_;
};

}  // namespace hf::control
