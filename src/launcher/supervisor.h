// The launcher's one loop: starts, watches, restarts and stops processes; answers the daemon.
//
// One thread, poll(2), and one that removes trees. Every listening socket stays open here for as
// long as its unit lives, so a process's death never refuses a connection: clients wait in the
// backlog until its successor accepts. What the daemon may ask is checked here (start_check.h): the
// programs are fixed, command lines are made here, paths are those of the VM it names, users follow
// from the VM's number.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/host_port.h"
#include "launcher/process/hang_watch.h"
#include "launcher/process/unit.h"
#include "launcher/protocol/protocol.h"
#include "launcher/start_check.h"
#include "launcher/tree/state_tree.h"
#include "launcher/tree/tree_remover.h"
#include "launcher/vault_binding.h"

namespace hf::launcher {

// Which programs are run. Fixed in production (installed_programs); tests name others.
struct Programs {
  std::string vault;
  std::string daemon;
  std::string link;
  std::string keeper;
  std::string qemu;
  // After argv[0], before what belongs there; tests only.
  std::vector<std::string> keeper_arguments;
  std::vector<std::string> qemu_arguments;
};
// Listens at site.json's address for other sites. An error names what is in the way. Port 0, which
// no text can say, is one that the kernel chooses.
Result<sys::UniqueFd> listen_for_peers(const std::string& listen, const std::string& config_path);
Result<sys::UniqueFd> listen_for_peers(const HostPort& where, const std::string& config_path);

// Beside this executable; QEMU is /usr/bin/qemu-system-x86_64.
Result<Programs> installed_programs();

// Units that have ended and of which something may still be asked; the oldest are forgotten.
constexpr size_t kEndedUnitsMax = 256;

// VMs that have a bar of their own. With more, all bars become the highest: what was decided before
// starts no more, of whichever VM, and holdfastd asks for the bars again.
constexpr size_t kBarsMax = 8'192;

// What becomes of the guests when the site is stopped.
enum class StopKind {
  kGuestsFirst,  // holdfastd asks them to shut down; after a time limit their power is cut
  kPowerOff,     // at once; also of those that were asked and have not yet shut down
  kLeaveGuests,  // they and their keepers run on, for the next launcher to take up
};

struct SupervisorOptions {
  Programs programs;
  RestartLimits restart_limits;
  bool control_groups = true;           // false: as on a host without them
  std::optional<gid_t> operators = {};  // a group of the host: host_users.h
  HangLimits hang_limits;
  std::chrono::milliseconds shutdown_step_max{15'000};  // for each of the four groups
  std::chrono::milliseconds guests_max{90'000};         // to shut down when asked
  // Asked when `stop_fd` is readable, which it reads; none: power off.
  std::function<StopKind()> stop_kind = {};
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
  enum class Stage { kRunning, kGuests, kDaemon, kQemus, kKeepers, kVault, kDone };
  bool serves() const { return stage_ == Stage::kRunning || stage_ == Stage::kGuests; }

  static TimePoint now() { return std::chrono::steady_clock::now(); }
  static void note(const std::string& text);  // in the launcher's log

  Status adopt_survivors();
  Status start_vault();
  Status start_daemon();
  Status start_link();
  Unit make_core_unit(std::string name, Role role);
  Status launch(Unit& unit);

  uint32_t user_of(const Unit& unit) const;
  std::vector<BoundKeeper> bound_keepers(const Unit* starting) const;
  bool vault_runs() const;
  Status bind_keeper(const Unit& unit);
  void unbind_keeper(const Unit& unit);

  void on_daemon_message();
  void answer(const Reply& reply);
  void announce(const Event& event);
  Result<int64_t> handle_start(const StartRequest& request, std::vector<sys::UniqueFd> fds);
  Status check_start(const StartRequest& request, size_t fd_count) const;
  Result<Unit> make_unit(const StartRequest& request, std::optional<QemuPlan> plan,
                         std::vector<sys::UniqueFd> fds);
  void set_users(ProcessSpec& spec, Role role, uint32_t vm_number) const;
  void handle_stop(uint64_t id, const StopRequest& request);
  void handle_fence(uint64_t id, const FenceRequest& request);
  void answer_fences();
  Bar bar_of(VmId vm) const;
  static bool fenced(const Unit& unit, const FenceRequest& fence);
  StartPlace place() const;
  void unlink_sockets(Unit& unit);
  void tell_status(const StatusRequest& from, Reply& reply) const;
  Status make_room();
  void set_aside(uint64_t id, VmId vm, const std::string& name);
  void begin_removal(VmId vm, std::vector<uint64_t> waiters);
  void end_removals();
  void forget_ended();
  void lose_daemon();

  void begin_stop(Unit& unit, int signal, std::chrono::milliseconds limit);
  void read_stderr(Unit& unit);
  void on_exit(Unit& unit, ExitStatus exit);
  void await_empty(Unit& unit);
  bool left_nothing(Unit& unit);
  void after_exit(Unit& unit);
  void finish(Unit& unit);
  void run_timers();
  void look_at_daemon();
  void restart(Unit& unit);
  int next_timeout(std::chrono::milliseconds wait) const;
  void on_stop_wanted();
  void announce_closing();
  bool guests_gone();
  void advance_shutdown();

  StateTree tree_;
  SupervisorOptions options_;
  int stop_fd_;
  VaultBinding vault_binding_;
  bool root_;
  bool empty_network_;
  SiteCgroup cgroups_;
  Weaknesses weaknesses_;
  std::map<std::string, Unit> units_;
  Bar first_bar_;             // of a VM that this launcher has not fenced, or not lately
  std::map<VmId, Bar> bars_;  // of the others
  std::vector<std::pair<uint64_t, FenceRequest>> fences_;  // to answer, by the requests' ids
  // VMs whose trees are being removed, and the requests to answer then: nothing of them starts.
  std::map<VmId, std::vector<uint64_t>> removals_;
  bool some_ended_ = false;  // since forget_ended() looked
  sys::UniqueFd daemon_socket_;
  sys::UniqueFd daemon_alive_;  // an event descriptor that it counts up
  HangWatch daemon_watch_;
  sys::UniqueFd api_listener_;
  bool ready_ = false;
  std::function<void()> on_ready_;
  Stage stage_ = Stage::kRunning;
  TimePoint guests_until_;  // in kGuests
  bool leave_guests_ = false;
  std::optional<Error> fatal_;
  TreeRemover remover_;  // last: its thread uses the tree
};

}  // namespace hf::launcher
