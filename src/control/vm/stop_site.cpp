// The guests' part of `site stop`: each is asked by its ACPI power button, as an operator would.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "control/core/log.h"
#include "control/vm/vm_operations.h"
#include "hypervisor/qmp_client.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;
using SteadyClock = std::chrono::steady_clock;

constexpr auto kAgain = 5s;  // firmware and a booting system do not hear it
constexpr auto kLook = 200ms;
constexpr auto kMonitor = 2s;  // one whose disks stand still does not answer
constexpr size_t kAtOnceMax = 16;
constexpr auto kThenStopped = 60s;  // between the last guest's end and the launcher's

std::vector<VmRow> running_guests(Services& services, std::vector<VmRow> of) {
  std::erase_if(of, [&](const VmRow& row) { return !services.units->running(qemu_unit(row.id)); });
  return of;
}

void press_power_buttons(const Services& services, const std::vector<VmRow>& guests) {
  std::atomic<size_t> next{0};
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < std::min(guests.size(), kAtOnceMax); ++i) {
    threads.emplace_back([&] {
      for (size_t at = next++; at < guests.size(); at = next++) {
        hypervisor::QmpClient qmp(services.paths.run_file(guests[at].id, "qmp.sock"), kMonitor);
        Status pressed = qmp.power_button();
        if (!pressed.ok()) log_warning(guests[at].name + ": " + pressed.error().describe());
      }
    });
  }
}

std::string names_of(const std::vector<VmRow>& rows) {
  std::string names;
  for (const VmRow& row : rows) names += (names.empty() ? "" : ", ") + row.name;
  return names;
}

}  // namespace

Status site_stays(const Services& services, const VmRow& row) {
  if (!services.closing.now()) return {};
  return Error{.code = ErrorCode::kConflict,
               .cause = "the site is being stopped",
               .effect = "VM \"" + row.name + "\" was not started",
               .mend = "when it has stopped: holdfast site start; holdfast vm start " + row.name +
                       "; if nobody stops it after all: again in a minute"};
}

Result<sys::JsonObject> stop_guests(Services& services, const StopGuestsOptions& options,
                                    Progress& progress) {
  const std::vector<VmRow> all = running_guests(services, TRY(services.catalog->vms()));
  const auto end = SteadyClock::now() + options.limit;
  const Closing::Time closed_until = end + kThenStopped;
  services.closing.until(closed_until);
  TRY(services.catalog->audit(options.actor, "site stop", services.site.name, names_of(all)));
  services.happened(
      "site.stopping", kTheSite,
      all.empty() ? "the site is being stopped; no guest runs"
                  : "the site is being stopped; guests are asked to shut down: " + names_of(all),
      progress.by());
  std::vector<VmRow> left = all;
  const auto go_on = [&] { return !services.ending && !progress.cancelled(); };
  while (!left.empty() && SteadyClock::now() < end && go_on()) {
    progress.step("ask to shut down: " + names_of(left));
    press_power_buttons(services, left);
    const auto again = std::min(end, SteadyClock::now() + kAgain);
    while (!left.empty() && SteadyClock::now() < again && go_on()) {
      std::this_thread::sleep_for(kLook);
      left = running_guests(services, std::move(left));
    }
  }
  if (left.empty()) return sys::JsonObject{{"stopped", names_of(all)}};
  services.closing.lift(closed_until);
  if (progress.cancelled()) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "the stop of the site was cancelled",
                 .effect =
                     "the site runs on; these guests were asked to shut down, and may do so "
                     "yet: " +
                     names_of(left),
                 .mend = "holdfast vm list"};
  }
  return Error{.code = ErrorCode::kTimeout,
               .cause = fmt::format("did not shut down within {} s: {}",
                                    std::chrono::ceil<std::chrono::seconds>(options.limit).count(),
                                    names_of(left)),
               .effect = "they run on, and so does the site; the other guests have shut down",
               .mend =
                   "holdfast vm stop NAME --force for each, then again; holdfast site stop "
                   "--force cuts the power of all"};
}

}  // namespace hf::control
