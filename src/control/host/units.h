// What the launcher runs for us, as far as we know: asked once at start, kept current by its
// events.
//
// Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "launcher/protocol/client.h"

namespace hf::control {

inline std::string keeper_unit(VmId vm) { return "keeper-" + vm.hex(); }
inline std::string qemu_unit(VmId vm) { return "qemu-" + vm.hex(); }
inline std::string import_unit(VmId vm) { return "import-" + vm.hex(); }
// "qemu-<vm>" and "qemu-" → the VM; nullopt for a unit of another kind.
std::optional<VmId> vm_of_unit(std::string_view unit, std::string_view prefix);

struct UnitEnd {
  int exit_status = 0;
  int signal = 0;
  std::string stderr_tail;
  bool will_restart = false;  // the launcher starts it again
};

class Units {
 public:
  using OnEvent = std::function<void(const launcher::Event&)>;

  // `on_event` is called after the book is up to date, on the client's thread: it must be quick.
  Units(sys::UniqueFd launcher_socket, OnEvent on_event, std::function<void()> on_lost);
  Status refresh();  // asks the launcher for everything

  // The VM's bar as it is now (launcher/protocol.h): to be taken before what it is to hold against
  // is looked at, and given with the start.
  launcher::Bar bar(VmId vm);
  // The VM's guest is killed and gone, and nothing that was decided before starts any more. Its
  // keeper goes on.
  Status kill_guests(VmId vm);

  // Starts, and forgets how an earlier unit of that name ended. A request without a bar gets the
  // VM's present one.
  Result<int64_t> start(launcher::StartRequest request, const std::vector<int>& fds);
  // kNotFound is no error here: it does not run.
  Status stop(const std::string& unit, int signal, std::chrono::milliseconds timeout);
  // Removes the VM's directories; none of its units may run.
  Status remove_vm(VmId vm);

  // What this host lacks of what keeps processes apart, a sentence each.
  launcher::Weaknesses weaknesses();

  bool running(const std::string& unit);
  int64_t pid(const std::string& unit);  // 0: does not run
  // How it ended, or kTimeout.
  Result<UnitEnd> wait_end(const std::string& unit, std::chrono::milliseconds limit);
  // How it ended, if it did since its start.
  std::optional<UnitEnd> ended(const std::string& unit);

 private:
  struct Known {
    bool running = false;
    int64_t pid = 0;
    std::optional<UnitEnd> end;
  };
  void take(const launcher::Event& event);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Known> known_;
  launcher::Weaknesses weaknesses_;
  launcher::Bar first_bar_;
  std::map<VmId, launcher::Bar> bars_;
  OnEvent on_event_;
  std::unique_ptr<launcher::Client> client_;  // last: its thread uses the others
};

// An error out of a process's end: what it said itself, else its status and last words.
Error error_of_end(const std::string& what, const UnitEnd& end);

}  // namespace hf::control
