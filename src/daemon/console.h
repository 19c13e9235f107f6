// The serial consoles of running VMs: read all the time into a bounded ring, so that what was said
// before anyone looked can be seen.
//
// One thread a VM. QEMU takes one client on a console; that is us.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "base/ids.h"
#include "daemon/http.h"

namespace hf::daemon {

inline constexpr size_t kConsoleBytesMax = size_t{4} << 20;  // the newest are kept
inline constexpr size_t kConsoleInputMax = size_t{64} << 10;

enum class ConsoleStart {
  kFresh,    // the VM begins anew: what it said in its last life goes
  kGoingOn,  // adopted, running already
};

class ConsoleHub {
 public:
  ConsoleHub();
  ~ConsoleHub();
  ConsoleHub(const ConsoleHub&) = delete;
  ConsoleHub& operator=(const ConsoleHub&) = delete;

  void attach(VmId vm, const std::string& socket_path, ConsoleStart start);
  void detach(VmId vm);  // what was said stays readable
  void forget(VmId vm);

  // From the oldest byte kept. With `follow` until the console is detached, else what there is now.
  Result<std::unique_ptr<BodyStream>> read(VmId vm, bool follow);
  Status write(VmId vm, std::string_view text);

 private:
  struct Console;
  std::shared_ptr<Console> find(VmId vm);
  std::mutex mutex_;
  std::map<VmId, std::shared_ptr<Console>> consoles_;
};

}  // namespace hf::daemon
