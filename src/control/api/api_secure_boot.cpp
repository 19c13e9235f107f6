// Routes of the Secure Boot keys.
#include "control/api/api_routes.h"
#include "control/secure_boot/rollover.h"
#include "control/secure_boot/secure_boot_vm.h"
#include "secure_boot/change/variables_json.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;
using Answer = Result<Response>;

// A stopped VM's store is read by a job, because the keeper has to be started for it; who asks
// waits for it.
constexpr auto kShowLimit = 50s;

Answer job_result(Services& services, uint64_t id, SteadyTime end) {
  JobLook job = TRY(services.jobs->look(id));
  if (job.ended) {
    if (job.view.contains("error"))
      return sys::error_from_json(*TRY(sys::get_object(job.view, "error")));
    return Response::json(*TRY(sys::get_object(job.view, "result")));
  }
  if (time_left(end).count() == 0) {
    return Error{.code = ErrorCode::kTimeout,
                 .cause = "the VM's keeper did not show its variable store in time",
                 .effect = "the keys are not known now",
                 .mend = "holdfast job show " + std::to_string(id)};
  }
  return Response::later({.changed = job.changed,
                          .seen = job.version,
                          .limit = time_left(end),
                          .again = [=, &services] { return job_result(services, id, end); }});
}

// For what takes seconds at most: who asks waits for the job.
Answer wait_job(Services& services, const Request& request, std::string kind, const VmRow& row,
                JobWork work) {
  JobOptions options = job_options(kind, request);
  uint64_t id =
      TRY(services.jobs->submit(std::move(kind), row.name, std::move(work), std::move(options)));
  return job_result(services, id, std::chrono::steady_clock::now() + kShowLimit);
}

Answer show_keys(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  return wait_job(services, request, "secure-boot-show", row,
                  [&services, vm = row.id](Progress& progress) {
                    return show_secure_boot(services, vm, progress);
                  });
}

Answer check_vm(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  return wait_job(services, request, "vm-check", row, [&services, vm = row.id](Progress& progress) {
    return check_boot(services, vm, progress);
  });
}

Answer edit_keys(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  const sys::JsonObject body = TRY(request.json());  // outlives what is read from it
  auto changes = TRY(secure_boot::changes_from_json(*TRY(sys::get_array(body, "changes"))));
  return start_job(services, request, "secure-boot-edit", row.name,
                   [&services, vm = row.id, changes, actor = request.actor](Progress& progress) {
                     return edit_secure_boot(services, vm, changes, actor, progress);
                   });
}

Answer keep_keys(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  sys::JsonObject body = TRY(request.json());
  std::string name = TRY(sys::get_string(body, "name"));
  std::string action = TRY(sys::get_string(body, "action"));
  if (action != "save" && action != "restore" && action != "forget") {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "\"" + action + "\" cannot be done with a saved store",
                 .effect = "nothing was done",
                 .mend = "use save, restore or forget"};
  }
  SavedStore what = action == "save"      ? SavedStore::kSave
                    : action == "restore" ? SavedStore::kRestore
                                          : SavedStore::kForget;
  return start_job(services, request, "secure-boot-" + action, row.name,
                   [&services, vm = row.id, what, name, actor = request.actor](Progress& progress) {
                     return keep_secure_boot(services, vm, what, name, actor, progress);
                   });
}

std::string job_kind(RolloverWay way) {
  if (way == RolloverWay::kBack) return "secure-boot-back";
  return way == RolloverWay::kFinish ? "secure-boot-finish" : "secure-boot-rollover";
}

Answer roll_keys(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  RolloverRequest rollover = TRY(parse_rollover(TRY(request.json())));
  rollover.actor = request.actor;
  return start_job(services, request, job_kind(rollover.way), row.name,
                   [&services, vm = row.id, rollover](Progress& progress) {
                     return roll_over(services, vm, rollover, progress);
                   });
}

}  // namespace

void add_secure_boot_routes(Services& services, std::vector<Route>& routes) {
  auto on = [&services](Answer (*handler)(Services&, const Request&)) -> Handler {
    return [&services, handler](const Request& request) { return handler(services, request); };
  };
  using enum Method;
  using enum Role;
  routes.push_back({kGet, "/v1/vms/{vm}/check", kOperator, on(check_vm)});
  routes.push_back({kGet, "/v1/vms/{vm}/secure-boot", kOperator, on(show_keys)});
  routes.push_back({kPost, "/v1/vms/{vm}/secure-boot", kContributor, on(edit_keys)});
  routes.push_back({kPost, "/v1/vms/{vm}/secure-boot/saved", kContributor, on(keep_keys)});
  routes.push_back({kPost, "/v1/vms/{vm}/secure-boot/rollover", kContributor, on(roll_keys)});
}

}  // namespace hf::control
