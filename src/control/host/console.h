// The serial consoles of running VMs: read all the time into a bounded ring, so that what was said
// before anyone looked can be seen.
//
// One thread for all of them; it sleeps while nobody says anything. QEMU takes one client on a
// console; that is us. Any thread may call; nothing here waits for a guest but write().
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/ids.h"
#include "control/http/http.h"
#include "sys/fd.h"

namespace hf::control {

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
  void detach(VmId vm);  // what was said stays readable; no error if it is not attached
  void forget(VmId vm);
  bool attached(VmId vm);

  // From the oldest byte kept. With `follow` until the console is detached, else what there is now.
  Result<std::unique_ptr<BodyStream>> read(VmId vm, bool follow);
  Status write(VmId vm, std::string_view text);

 private:
  struct Console;
  std::shared_ptr<Console> find(VmId vm);
  void wake();
  void run();
  int connect_due();  // milliseconds until the next one is due, or -1
  void read_from(const std::shared_ptr<Console>& console);
  void close_ended();

  std::mutex mutex_;  // a console's own mutex is never held when it is taken
  std::map<VmId, std::shared_ptr<Console>> consoles_;
  std::vector<std::shared_ptr<Console>> ended_;  // detached: the thread closes them
  bool stopping_ = false;
  std::map<int, std::shared_ptr<Console>> connected_;  // by descriptor; the thread's alone
  sys::UniqueFd epoll_;
  sys::UniqueFd wake_;
  std::thread thread_;
};

}  // namespace hf::control
