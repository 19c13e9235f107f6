// The launcher's one loop: starts, watches, restarts and stops processes; answers the daemon.
//
// One thread, poll(2). Every listening socket stays open here for as long as its unit lives, so a
// process's death never refuses a connection: clients wait in the backlog until its successor
// accepts. What the daemon may ask is checked here: the programs are fixed, paths are those of the
// VM it names, users follow from the VM's number.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "launcher/protocol.h"
#include "launcher/state_tree.h"
#include "launcher/unit.h"

namespace hf::launcher {

// Which programs are run. Fixed in production (installed_programs); tests name others.
struct Programs {
  std::string vault;
  std::string daemon;
  std::string keeper;
  std::string qemu;
  std::vector<std::string> keeper_arguments;  // after argv[0]; tests only
};
// Beside this executable; QEMU is /usr/bin/qemu-system-x86_64.
Result<Programs> installed_programs();

struct SupervisorOptions {
  Programs programs;
  RestartLimits restart_limits;
  std::chrono::milliseconds shutdown_step_max{15'000};  // for each of the four groups
};

class Supervisor {
 public:
  // `stop_fd` (borrowed): readable means shut down.
  Supervisor(StateTree tree, SupervisorOptions options, int stop_fd);
  ~Supervisor();

  // Takes over what a dead launcher left (its vault and daemon are ended, guests go on), makes
  // the core sockets and starts vault and daemon.
  Status start_core();
  // Instead of a daemon: the other end of its socket, for tests.
  Result<sys::UniqueFd> connect_as_daemon();
  // Until stop_fd is readable and everything is stopped; or until the vault or the daemon says why
  // it cannot start, before the site has ever been ready.
  Status run();
  // One round of the loop; waits at most `wait`.
  Status step(std::chrono::milliseconds wait);

  // The daemon has sent its first request: it serves.
  bool ready() const { return ready_; }
  void set_on_ready(std::function<void()> callback) { on_ready_ = std::move(callback); }

 private:
  enum class Stage { kRunning, kDaemon, kQemus, kKeepers, kVault, kDone };

  Status adopt_survivors();
  Status start_vault();
  Status start_daemon();
  Unit make_core_unit(std::string name, Role role);
  Status launch(Unit& unit);

  void on_daemon_message();
  void answer(const Reply& reply);
  void announce(const Event& event);
  Result<int64_t> handle_start(const StartRequest& request, std::vector<sys::UniqueFd> fds);
  Status check_start(const StartRequest& request, size_t fd_count) const;
  Result<Unit> make_unit(const StartRequest& request, std::vector<sys::UniqueFd> fds);
  void set_users(ProcessSpec& spec, Role role, uint32_t vm_number) const;
  void handle_stop(uint64_t id, const StopRequest& request);
  std::vector<UnitStatus> status() const;
  Status make_room();

  void begin_stop(Unit& unit, int signal, std::chrono::milliseconds limit);
  void read_stderr(Unit& unit);
  void on_exit(Unit& unit, ExitStatus exit);
  void finish(Unit& unit);
  void run_timers();
  void restart(Unit& unit);
  int next_timeout(std::chrono::milliseconds wait) const;
  void advance_shutdown();
  bool any_left(Role role) const;

  StateTree tree_;
  SupervisorOptions options_;
  int stop_fd_;
  bool root_;
  bool empty_network_;
  std::map<std::string, Unit> units_;
  sys::UniqueFd daemon_socket_;
  sys::UniqueFd api_listener_;
  bool ready_ = false;
  std::function<void()> on_ready_;
  Stage stage_ = Stage::kRunning;
  std::optional<Error> fatal_;
};

}  // namespace hf::launcher
