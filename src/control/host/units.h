// What the launcher runs for us, as far as we know: asked at start, kept current by its events and
// answers. An answer that did not come in time leaves a doubt: then the launcher is asked for
// everything again, so that no process runs of which nobody here knows.
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
#include <vector>

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
  static constexpr std::chrono::seconds kCallLimit{15};

  // `on_event` is called after the book is up to date, on the client's thread: it must be quick,
  // and wait for nothing that is held over a call of the launcher. Of an end that was only found
  // out it is called on the thread that refreshes.
  Units(sys::UniqueFd launcher_socket, OnEvent on_event, std::function<void()> on_lost,
        std::chrono::milliseconds call_limit = kCallLimit);
  Status refresh();  // asks the launcher for everything
  // An answer did not come, and refresh() has not succeeded since.
  bool in_doubt();
  // Called when a doubt stays: refresh() is to be called until it succeeds. Before the first call.
  void set_on_doubt(std::function<void()> callback) { on_doubt_ = std::move(callback); }

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
  // Its journal, of which nothing runs, is kept as STATE/aside/NAME; done before: nothing is done.
  Status set_aside(VmId vm, const std::string& name);

  // What this host lacks of what keeps processes apart, a sentence each.
  launcher::Weaknesses weaknesses();

  bool running(const std::string& unit);
  int64_t pid(const std::string& unit);  // 0: does not run
  // How it ended, or kTimeout.
  Result<UnitEnd> wait_end(const std::string& unit, std::chrono::milliseconds limit);
  // Until that process of it has ended, which was told to: a successor that the launcher started at
  // once would else look as if it went on. Is the unit over, so that nothing is left to be stopped?
  bool wait_over(const std::string& unit, int64_t pid, std::chrono::milliseconds limit);
  // How it ended, if it did since its start.
  std::optional<UnitEnd> ended(const std::string& unit);

 private:
  struct Known {
    bool running = false;
    int64_t pid = 0;
    std::optional<UnitEnd> end;
    uint64_t heard = 0;  // when something was last heard of it, by `clock_`
  };
  void take(const launcher::Event& event);
  void doubt();
  template <typename T>
  Result<T> settled(Result<T> answer) {
    if (!answer.ok() && answer.error().code == ErrorCode::kTimeout) doubt();
    return answer;
  }
  std::vector<launcher::Event> take_status(const std::vector<launcher::UnitStatus>& units,
                                           uint64_t asked);

  const std::chrono::milliseconds call_limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Known> known_;
  uint64_t clock_ = 0;    // counts what is heard
  uint64_t doubts_ = 0;   // answers that did not come
  uint64_t settled_ = 0;  // of them, how many a refresh came after
  launcher::Weaknesses weaknesses_;
  launcher::Bar first_bar_;
  std::map<VmId, launcher::Bar> bars_;
  OnEvent on_event_;
  std::function<void()> on_doubt_;
  std::unique_ptr<launcher::Client> client_;  // last: its thread uses the others
};

// An error out of a process's end: what it said itself, else its status and last words.
Error error_of_end(const std::string& what, const UnitEnd& end);

}  // namespace hf::control
