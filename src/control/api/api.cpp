#include "control/api/api.h"

#include <algorithm>

#include "base/version.h"
#include "control/api/api_routes.h"
#include "control/host/accelerator.h"
#include "control/host/console.h"
#include "control/host/packages.h"
#include "control/peers/peer_service.h"
#include "control/protection/protections.h"
#include "control/vm/vm_operations.h"
#include "hypervisor/firmware.h"

namespace hf::control {
namespace {

using Answer = Result<Response>;

// 202 and the job; its subject is what no two jobs may work on at a time.
Answer start_job(Services& services, std::string kind, std::string subject, JobWork work,
                 const std::vector<std::string>& preempts = {}) {
  uint64_t id =
      TRY(services.jobs->submit(std::move(kind), std::move(subject), std::move(work), preempts));
  return Response::json(TRY(services.jobs->view(id)), 202);
}

// ---- Site, host, jobs ----

Answer show_site(Services& services, const Request&) {
  sys::JsonArray stalled;
  for (const VmRow& row : TRY(services.catalog->vms())) {
    if (const std::optional<Error> why = stall_of(services, row.id))
      stalled.push_back(sys::JsonObject{{"vm", row.name}, {"reason", sys::error_to_json(*why)}});
  }
  return Response::json(sys::JsonObject{{"name", services.site.name},
                                        {"site_id", services.site.site_id.hex()},
                                        {"listen", services.site.listen},
                                        {"advertise", services.site.reached_at()},
                                        {"uid_base", services.site.uid_base},
                                        {"state", services.paths.state},
                                        {"ca_fingerprint", services.peers->fingerprint()},
                                        {"stalled", std::move(stalled)},
                                        {"version", HOLDFAST_VERSION}});
}

sys::JsonObject show_firmware(hypervisor::FirmwareKind kind) {
  Result<hypervisor::Firmware> firmware = hypervisor::find_firmware(kind);
  if (!firmware.ok()) return {{"error", sys::error_to_json(firmware.error())}};
  return {{"code", firmware->code_path},
          {"vars_template", firmware->template_path},
          {"build", firmware->build.hex()}};
}

Answer show_host(Services& services, const Request&) {
  const hypervisor::KvmProbe& probe = kvm_probe();
  std::string_view accelerator = probe.usable ? "kvm" : "tcg";
  sys::JsonArray missing;
  for (const std::string& weakness : services.units->weaknesses()) missing.emplace_back(weakness);
  return Response::json(
      sys::JsonObject{{"site", services.site.name},
                      {"accelerator", accelerator},
                      {"kvm",
                       {{"usable", probe.usable},
                        {"runs_guests", probe.runs_guests},
                        {"has_smm", probe.has_smm},
                        {"reason", probe.reason}}},
                      {"packages", package_versions({"qemu-system-x86", "ovmf", "libtpms0"})},
                      {"machine_type", hypervisor::default_machine_type()},
                      {"confinement_missing", std::move(missing)},
                      {"firmware",
                       {{"secure_boot", show_firmware(hypervisor::FirmwareKind::kSecureBoot)},
                        {"plain", show_firmware(hypervisor::FirmwareKind::kPlain)}}},
                      {"version", HOLDFAST_VERSION}});
}

Answer list_jobs(Services& services, const Request&) {
  return Response::json(TRY(services.jobs->list()));
}

constexpr uint64_t kWaitMsMax = 20'000;

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

Answer event_news(Services& services, const Catalog::EventFilter& filter, SteadyTime end) {
  std::shared_ptr<Notice> changed = services.catalog->events_changed();
  uint64_t seen = changed->version();
  sys::JsonArray list;
  for (const EventRow& row : TRY(services.catalog->events(filter))) {
    list.push_back(sys::JsonObject{{"id", row.id},
                                   {"time_us", row.time.value},
                                   {"severity", to_string(row.severity)},
                                   {"kind", row.kind},
                                   {"subject", row.subject},
                                   {"text", row.text}});
  }
  if (!list.empty() || time_left(end).count() == 0) return Response::json(std::move(list));
  return Response::later({.changed = std::move(changed),
                          .seen = seen,
                          .limit = time_left(end),
                          .again = [=, &services] { return event_news(services, filter, end); }});
}

Answer list_events(Services& services, const Request& request) {
  Catalog::EventFilter filter{.subject = request.query_or("vm", ""),
                              .after = TRY(request.query_u64_or("after", 0)),
                              .newest = TRY(request.query_u64_or("newest", 100))};
  filter.newest = std::min<size_t>(filter.newest, 1000);
  return event_news(services, filter, TRY(wait_end(request)));
}

// ---- VMs ----

Answer list_vms(Services& services, const Request&) {
  sys::JsonArray list;
  for (const VmRow& row : TRY(services.catalog->vms()))
    list.push_back(TRY(vm_summary(services, row)));
  return Response::json(std::move(list));
}

Answer show_vm(Services& services, const Request& request) {
  return Response::json(
      TRY(vm_detail(services, TRY(services.catalog->vm_named(request.captures.at(0))))));
}

Answer post_vm(Services& services, const Request& request) {
  vm::CreateRequest create = TRY(vm::parse_create_request(TRY(request.json())));
  // A mistake is told at once and leaves no trace, not even a failed job.
  TRY(check_create(services, create));
  std::string name = create.definition.name;
  return start_job(services, "vm-create", name, [&services, create](Progress& progress) {
    return create_vm(services, create, progress);
  });
}

Answer post_start(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  StartOptions options{
      .without_peer = TRY(sys::get_bool_or(TRY(request.json()), "without_peer", false)),
      .give_up_bad_tail = TRY(sys::get_bool_or(TRY(request.json()), "give_up_bad_tail", false)),
      .actor = request.actor};
  return start_job(services, "vm-start", row.name,
                   [&services, vm = row.id, options](Progress& progress) {
                     return start_vm(services, vm, options, progress);
                   });
}

Answer post_stop(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  sys::JsonObject body = TRY(request.json());
  uint64_t seconds = std::min<uint64_t>(TRY(sys::get_u64_or(body, "timeout_seconds", 60)), 3600);
  StopOptions options{.force = TRY(sys::get_bool_or(body, "force", false)),
                      .guest_limit = std::chrono::seconds(seconds)};
  // A start does not keep anyone from stopping, nor does a stop that waits for the guest keep
  // anyone from stopping at once.
  std::vector<std::string> preempts{"vm-start"};
  if (options.force) preempts.emplace_back("vm-stop");
  return start_job(
      services, "vm-stop", row.name,
      [&services, vm = row.id, options](Progress& progress) {
        return stop_vm(services, vm, options, progress);
      },
      preempts);
}

Answer post_stop_guests(Services& services, const Request& request) {
  const uint64_t seconds =
      std::min<uint64_t>(TRY(sys::get_u64_or(TRY(request.json()), "timeout_seconds", 120)), 3600);
  const StopGuestsOptions options{.limit = std::chrono::seconds(seconds), .actor = request.actor};
  return start_job(services, "site-stop", "the site", [&services, options](Progress& progress) {
    return stop_guests(services, options, progress);
  });
}

Answer remove_vm(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  DeleteOptions options{.without_peer = request.query_or("without_peer", "0") == "1",
                        .actor = request.actor};
  return start_job(services, "vm-delete", row.name,
                   [&services, vm = row.id, options](Progress& progress) {
                     return delete_vm(services, vm, options, progress);
                   });
}

Answer read_console(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  Response response;
  response.stream = TRY(services.consoles->read(row.id, request.query_or("follow", "0") == "1"));
  return response;
}

Answer type_console(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  if (request.body.size() > kConsoleInputMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = "more than 64 KiB typed at once",
                 .effect = "nothing was typed",
                 .mend = "send less at a time"};
  }
  TRY(services.consoles->write(row.id, request.body));
  return Response::json(sys::JsonObject{{"typed", request.body.size()}});
}

// ---- Peers and protection ----

Answer list_peers(Services& services, const Request&) {
  return Response::json(services.peers->show_peers());
}

Answer post_pairing(Services& services, const Request& request) {
  sys::JsonObject body = TRY(request.json());
  PeerService::BornToken token{
      .id = TRY_CONTEXT(vault::PairingTokenId::parse_hex(TRY(sys::get_string(body, "token_id"))),
                        "token_id"),
      .site = TRY_CONTEXT(SiteId::parse_hex(TRY(sys::get_string(body, "site_id"))), "site_id"),
      .ca_fingerprint = TRY_CONTEXT(Digest::parse_hex(TRY(sys::get_string(body, "ca_fingerprint"))),
                                    "ca_fingerprint"),
      .address = TRY(sys::get_string(body, "peer_address"))};
  std::string address = TRY(sys::get_string_or(body, "address", ""));
  // Seconds at most, and a refused token leaves no trace: no job.
  return Response::json(TRY(services.peers->pair(token, address)));
}

Answer list_protections(Services& services, const Request&) {
  return Response::json(TRY(services.protections->show_all()));
}

Answer show_protection(Services& services, const Request& request) {
  return Response::json(
      TRY(services.protections->show(TRY(services.catalog->vm_named(request.captures.at(0))))));
}

Answer post_protection(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  PeerRow peer = TRY(services.catalog->peer_named(TRY(sys::get_string(TRY(request.json()), "to"))));
  return start_job(services, "protection-enable", row.name,
                   [&services, vm = row.id, peer](Progress& progress) {
                     return services.protections->enable(vm, peer, progress);
                   });
}

Answer remove_protection(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  Protections::DisableOptions options{.without_peer = request.query_or("without_peer", "0") == "1",
                                      .actor = request.actor};
  return start_job(services, "protection-disable", row.name,
                   [&services, vm = row.id, options](Progress& progress) {
                     return services.protections->disable(vm, options, progress);
                   });
}

Answer post_failover(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  sys::JsonObject body = TRY(request.json());
  std::string kind = TRY(sys::get_string(body, "kind"));
  if (kind != "unplanned") {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "a failover of kind \"" + kind + "\" is not known",
                 .effect = "nothing was done",
                 .mend = "use \"unplanned\""};
  }
  std::string need = TRY(sys::get_string_or(body, "attestation", "none"));
  if (need != "none" && need != "wait" && need != "require") {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "\"attestation\" cannot be \"" + need + "\"",
                 .effect = "nothing was done",
                 .mend = "use none, wait or require"};
  }
  FailoverRequest failover{.source_is_dead = TRY(sys::get_bool_or(body, "source_is_dead", false)),
                           .attestation = need == "wait"      ? AttestationNeed::kWait
                                          : need == "require" ? AttestationNeed::kRequire
                                                              : AttestationNeed::kNone,
                           .actor = request.actor};
  return start_job(services, "failover", row.name,
                   [&services, vm = row.id, failover](Progress& progress) {
                     return fail_over(services, vm, failover, progress);
                   });
}

}  // namespace

Router make_router(Services& services) {
  auto on = [&services](Answer (*handler)(Services&, const Request&)) -> Handler {
    return [&services, handler](const Request& request) { return handler(services, request); };
  };
  using enum Method;
  using enum Role;
  std::vector<Route> routes{
      {kGet, "/v1/site", kReader, on(show_site)},
      {kPost, "/v1/site/stop-guests", kOperator, on(post_stop_guests)},
      {kGet, "/v1/host", kReader, on(show_host)},
      {kGet, "/v1/jobs", kReader, on(list_jobs)},
      {kGet, "/v1/jobs/{id}", kReader, on(show_job)},
      {kGet, "/v1/events", kReader, on(list_events)},
      {kGet, "/v1/vms", kReader, on(list_vms)},
      {kPost, "/v1/vms", kContributor, on(post_vm)},
      {kGet, "/v1/vms/{vm}", kReader, on(show_vm)},
      {kDelete, "/v1/vms/{vm}", kContributor, on(remove_vm)},
      {kPost, "/v1/vms/{vm}/start", kOperator, on(post_start)},
      {kPost, "/v1/vms/{vm}/stop", kOperator, on(post_stop)},
      {kGet, "/v1/vms/{vm}/console", kOperator, on(read_console)},
      {kPost, "/v1/vms/{vm}/console", kOperator, on(type_console)},
      {kGet, "/v1/vms/{vm}/protection", kReader, on(show_protection)},
      {kPost, "/v1/vms/{vm}/protection", kContributor, on(post_protection)},
      {kDelete, "/v1/vms/{vm}/protection", kContributor, on(remove_protection)},
      {kPost, "/v1/vms/{vm}/failover", kOperator, on(post_failover)},
      {kGet, "/v1/protections", kReader, on(list_protections)},
      {kGet, "/v1/peers", kReader, on(list_peers)},
      {kPost, "/v1/pairing", kOwner, on(post_pairing)},
  };
  add_attestation_routes(services, routes);
  add_secure_boot_routes(services, routes);
  return Router(std::move(routes));
}

}  // namespace hf::control
