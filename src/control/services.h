// All of holdfastd, as its operations see it: one place that owns what they share.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "control/core/closing.h"
#include "control/core/log.h"
#include "control/core/paths.h"
#include "control/core/scratch_memory.h"
#include "control/host/units.h"
#include "control/store/catalog.h"
#include "control/store/jobs.h"
#include "control/store/limited_events.h"
#include "launcher/protocol/site_config.h"
#include "vault/protocol/client.h"

namespace hf::control {

class Attestation;
class ConsoleHub;
class PeerService;
class Protections;
class Reconciler;
class TitleKeeper;
class UnitEvents;

// The subject of jobs and events that are no VM's; no VM can be called so.
inline constexpr const char* kTheSite = "the site";

struct Services {
  Services(Paths where, launcher::SiteConfig config);
  ~Services();

  // Everything but the listeners: catalog, launcher, vault. Adopts what runs.
  Status start(sys::UniqueFd launcher_socket);
  void stop();  // streams and consoles; guests go on
  // The VM's key to its keeper. With its pass (reconciler.h).
  Status release_passing(const VmRow& row);
  // What happened to a VM, or to kTheSite: `holdfast event list`.
  void happened(std::string kind, const std::string& subject, std::string text, const By& by,
                Severity severity = Severity::kInfo);

  Paths paths;
  launcher::SiteConfig site;
  launcher::Users users;
  vault::AdminClient vault;
  std::unique_ptr<Catalog> catalog;
  std::unique_ptr<LimitedEvents> limited_events;
  PeerLog peer_log;
  std::unique_ptr<JobEngine> jobs;
  std::unique_ptr<ConsoleHub> consoles;
  std::unique_ptr<PeerService> peers;
  std::unique_ptr<Protections> protections;
  std::unique_ptr<TitleKeeper> titles;
  std::unique_ptr<Attestation> attestation;
  std::unique_ptr<UnitEvents> unit_events;
  std::unique_ptr<Units> units;
  std::unique_ptr<Reconciler> reconciler;
  ScratchMemory scratch;
  std::function<void()> on_launcher_lost;
  Closing closing;
  std::atomic<bool> ending{false};  // stop() waits for jobs: those that wait for guests give up

 private:
  void on_event(const launcher::Event& event);
  void close_within(std::chrono::milliseconds limit);
  Status take_up_running();
  void release(const VmRow& row);
  void tell_beginning();

  std::mutex event_mutex_;                                 // held while an event is dealt with
  bool serving_ = false;                                   // all parts are there; under the mutex
  std::optional<std::chrono::milliseconds> close_within_;  // told before that; under the mutex
};

// Runs what was added, last first, unless dismissed: nothing half-done stays behind.
class Undo {
 public:
  Undo() = default;
  ~Undo() {
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) (*step)();
  }
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  void add(std::function<void()> step) { steps_.push_back(std::move(step)); }
  void dismiss() { steps_.clear(); }

 private:
  std::vector<std::function<void()>> steps_;
};

}  // namespace hf::control
