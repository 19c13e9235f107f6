// Routes of jobs, events and the audit.
#include "control/api/api_routes.h"
#include "control/vm/vm_operations.h"

namespace hf::control {
namespace {

using Answer = Result<Response>;

constexpr uint64_t kWaitMsMax = 20'000;
constexpr uint64_t kRowsMax = 1'000;

// Why a job of this kind is not cancelled once it has begun. Empty: it is.
std::string_view not_cancelled(std::string_view kind) {
  if (kind == "vm-create" || kind == "vm-start" || kind == "vm-stop" || kind == "site-stop")
    return {};
  if (kind == "vm-delete") return "what it has removed cannot be brought back";
  if (kind == "failover") {
    return "once the source has been asked to stop, the VM may be able to run here alone; vm stop "
           "stops it when it runs";
  }
  if (kind == "protection-enable")
    return "both sites change, and one of them alone must not; protection disable takes it back";
  if (kind == "protection-disable")
    return "both sites change, and one of them alone must not; protection enable begins anew";
  if (kind == "secure-boot-rollover" || kind == "secure-boot-back" || kind == "secure-boot-finish")
    return "keys that are half changed could lock the guest out; secure-boot rollover --back takes "
           "it back";
  return "it takes seconds, and is finished";
}

Answer list_jobs(Services& services, const Request&) {
  return Response::json(TRY(services.jobs->list()));
}

Result<SteadyTime> wait_end(const Request& request) {
  uint64_t wait_ms = std::min(TRY(request.query_u64_or("wait_ms", 0)), kWaitMsMax);
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
}

// The job once its version is above `seen`, or at `end`.
Answer job_news(Services& services, uint64_t id, uint64_t seen, SteadyTime end) {
  JobLook job = TRY(services.jobs->look(id));
  if (job.ended || job.version > seen || time_left(end).count() == 0)
    return Response::json(std::move(job.view));
  return Response::later({.changed = job.changed,
                          .seen = job.version,
                          .limit = time_left(end),
                          .again = [=, &services] { return job_news(services, id, seen, end); }});
}

Answer show_job(Services& services, const Request& request) {
  uint64_t id = TRY(request.capture_u64(0));
  return job_news(services, id, TRY(request.query_u64_or("seen", 0)), TRY(wait_end(request)));
}

Answer cancel_job(Services& services, const Request& request) {
  uint64_t id = TRY(request.capture_u64(0));
  TRY(services.jobs->cancel(id, request.by()));
  return Response::json(TRY(services.jobs->view(id)), 202);
}

sys::JsonObject to_json(const EventRow& row) {
  return {
      {"id", row.id},          {"time_us", row.time.value}, {"severity", to_string(row.severity)},
      {"kind", row.kind},      {"subject", row.subject},    {"text", row.text},
      {"actor", row.by.actor}, {"origin", row.by.origin}};
}

Answer event_news(Services& services, const Catalog::EventFilter& filter, SteadyTime end) {
  std::shared_ptr<Notice> changed = services.catalog->events_changed();
  uint64_t seen = changed->version();
  sys::JsonArray list;
  for (const EventRow& row : TRY(services.catalog->events(filter))) list.push_back(to_json(row));
  if (!list.empty() || time_left(end).count() == 0) return Response::json(std::move(list));
  return Response::later({.changed = std::move(changed),
                          .seen = seen,
                          .limit = time_left(end),
                          .again = [=, &services] { return event_news(services, filter, end); }});
}

// A VM's name or id. One that was deleted is known by what happened to it.
Result<std::string> subject_of(Services& services, const std::string& vm, bool audit) {
  if (vm.empty()) return vm;
  Result<VmRow> row = services.catalog->vm_named(vm);
  if (row.ok()) return row->name;
  if (row.error().code != ErrorCode::kNotFound) return std::move(row).error();
  const Catalog::EventFilter one{.subject = vm, .newest = 1};
  const bool known = audit ? !TRY(services.catalog->audited(one)).empty()
                           : !TRY(services.catalog->events(one)).empty();
  if (known) return vm;
  return Error{.code = ErrorCode::kNotFound,
               .cause = "there is no VM \"" + vm + "\" at this site, and nothing is kept of one",
               .effect = "nothing to show",
               .mend = "holdfast vm list; without a VM's name, all is shown"};
}

Result<Catalog::EventFilter> filter_of(Services& services, const Request& request, bool audit) {
  Catalog::EventFilter filter{
      .subject = TRY(subject_of(services, request.query_or("vm", ""), audit)),
      .after = TRY(request.query_u64_or("after", 0)),
      .newest = TRY(request.query_u64_or("newest", 100)),
      .since = Micros(TRY(request.query_u64_or("since_us", 0)))};
  filter.newest = std::min<size_t>(filter.newest, kRowsMax);
  return filter;
}

Answer list_events(Services& services, const Request& request) {
  return event_news(services, TRY(filter_of(services, request, false)), TRY(wait_end(request)));
}

Answer list_audit(Services& services, const Request& request) {
  sys::JsonArray list;
  for (const AuditRow& row :
       TRY(services.catalog->audited(TRY(filter_of(services, request, true))))) {
    list.push_back(sys::JsonObject{{"id", row.id},
                                   {"time_us", row.time.value},
                                   {"actor", row.actor},
                                   {"act", row.act},
                                   {"subject", row.subject},
                                   {"detail", row.detail}});
  }
  return Response::json(std::move(list));
}

}  // namespace

JobOptions job_options(std::string_view kind, const Request& request) {
  return {.by = request.by(), .not_cancelled = std::string(not_cancelled(kind))};
}

Result<Response> start_job(Services& services, const Request& request, std::string kind,
                           std::string subject, JobWork work, std::vector<std::string> preempts) {
  JobOptions options = job_options(kind, request);
  options.preempts = std::move(preempts);
  uint64_t id = TRY(services.jobs->submit(std::move(kind), std::move(subject), std::move(work),
                                          std::move(options)));
  return Response::json(TRY(services.jobs->view(id)), 202);
}

void tell_refused(Services& services, const Request& request, const Error& error) {
  const bool misspelt = error.code == ErrorCode::kInvalidArgument ||
                        error.code == ErrorCode::kNotFound || error.code == ErrorCode::kUnsupported;
  if (misspelt && request.path != "/v1/pairing") return;
  const bool of_vm = request.path.starts_with("/v1/vms/") && !request.captures.empty();
  services.limited_events->tell(
      Often::kRequest, {.severity = Severity::kWarning,
                        .kind = "request.refused",
                        .subject = of_vm ? request.captures.front() : std::string(kTheSite),
                        .text = std::string(to_string(request.method)) + " " + request.path +
                                " was refused: " + error.cause,
                        .by = request.by()});
}

void add_job_routes(Services& services, std::vector<Route>& routes) {
  auto on = [&services](Answer (*handler)(Services&, const Request&)) -> Handler {
    return [&services, handler](const Request& request) { return handler(services, request); };
  };
  using enum Method;
  using enum Role;
  routes.push_back({kGet, "/v1/jobs", kReader, on(list_jobs)});
  routes.push_back({kGet, "/v1/jobs/{id}", kReader, on(show_job)});
  routes.push_back({kPost, "/v1/jobs/{id}/cancel", kOperator, on(cancel_job)});
  routes.push_back({kGet, "/v1/events", kReader, on(list_events)});
  routes.push_back({kGet, "/v1/audit", kOwner, on(list_audit)});
}

}  // namespace hf::control
