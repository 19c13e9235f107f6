#include "control/api/api.h"

#include <algorithm>

#include "base/version.h"
#include "control/api/api_routes.h"
#include "control/host/accelerator.h"
#include "control/host/console.h"
#include "control/host/packages.h"
#include "control/peers/peer_service.h"
#include "control/protection/consent.h"
#include "control/protection/protections.h"
#include "control/title/title_view.h"
#include "control/vm/vm_operations.h"
#include "hypervisor/firmware.h"

namespace hf::control {
namespace {

using Answer = Result<Response>;

// ---- Site, host ----

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
  return start_job(services, request, "vm-create", name, [&services, create](Progress& progress) {
    return create_vm(services, create, progress);
  });
}

Answer show_title(Services& services, const Request& request) {
  const VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  return Response::json(sys::JsonObject{{"vm", row.name},
                                        {"vm_id", row.id.hex()},
                                        {"title", TRY(title_view(services, row))},
                                        {"chain", TRY(title_chain(services, row))}});
}

Answer post_start(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  StartOptions options{
      .without_peer = TRY(sys::get_bool_or(TRY(request.json()), "without_peer", false)),
      .word = TRY(sys::get_string_or(TRY(request.json()), "word", "")),
      .give_up_bad_tail = TRY(sys::get_bool_or(TRY(request.json()), "give_up_bad_tail", false)),
      .actor = request.actor};
  return start_job(services, request, "vm-start", row.name,
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
      services, request, "vm-stop", row.name,
      [&services, vm = row.id, options](Progress& progress) {
        return stop_vm(services, vm, options, progress);
      },
      preempts);
}

Answer post_stop_guests(Services& services, const Request& request) {
  const uint64_t seconds =
      std::min<uint64_t>(TRY(sys::get_u64_or(TRY(request.json()), "timeout_seconds", 120)), 3600);
  const StopGuestsOptions options{.limit = std::chrono::seconds(seconds), .actor = request.actor};
  return start_job(services, request, "site-stop", kTheSite,
                   [&services, options](Progress& progress) {
                     return stop_guests(services, options, progress);
                   });
}

Answer remove_vm(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  DeleteOptions options{.without_peer = request.query_or("without_peer", "0") == "1",
                        .actor = request.actor};
  return start_job(services, request, "vm-delete", row.name,
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
  return Response::json(TRY(services.peers->pair(token, address, request.by())));
}

std::vector<std::string> split_names(std::string_view list) {
  std::vector<std::string> names;
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (comma > 0) names.emplace_back(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return names;
}

Answer remove_peer(Services& services, const Request& request) {
  PeerRow peer = TRY(services.catalog->peer_named(request.captures.at(0)));
  std::vector<VmId> evict;
  for (const std::string& name : split_names(request.query_or("evict", "")))
    evict.push_back(TRY(services.catalog->vm_named(name)).id);
  return start_job(services, request, "site-unpair", "site " + peer.name,
                   [&services, peer, evict, actor = request.actor](Progress& progress) {
                     return services.peers->unpair(peer, evict, actor, progress);
                   });
}

constexpr uint64_t kQuotaMax = uint64_t{1} << 52;  // 4096 TiB

Result<sys::JsonObject> decline(Services& services, const OfferRow& offer,
                                const std::string& actor) {
  TRY(services.catalog->audit(actor, "replica offer declined", offer.name, offer.vm.hex()));
  TRY(services.catalog->remove_offer(offer.vm, offer.peer));
  return sys::JsonObject{{"vm", offer.name}, {"vm_id", offer.vm.hex()}, {"evicted", true}};
}

// What is left out stays.
Answer put_peer(Services& services, const Request& request) {
  const PeerRow peer = TRY(services.catalog->peer_named(request.captures.at(0)));
  const sys::JsonObject body = TRY(request.json());
  const Accept accept =
      TRY(parse_accept(TRY(sys::get_string_or(body, "accept", to_string(peer.accept)))));
  const uint64_t quota = TRY(sys::get_u64_or(body, "quota_bytes", peer.quota_bytes));
  if (quota > kQuotaMax) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "a quota of " + std::to_string(quota) + " bytes",
                 .effect = "nothing was changed",
                 .mend = "use at most 4096 TiB, or none"};
  }
  TRY(services.catalog->audit(
      request.actor, "site peer set", peer.name,
      "accept " + std::string(to_string(accept)) + ", quota " + std::to_string(quota)));
  TRY(services.catalog->set_peer_policy(peer.site, accept, quota));
  services.protections->room().look();
  sys::JsonObject done{
      {"peer", peer.name}, {"peer_site_id", peer.site.hex()}, {"accept", to_string(accept)}};
  if (quota != 0) done["quota_bytes"] = quota;
  return Response::json(done);
}

Answer accept_replica(Services& services, const Request& request) {
  const std::string of = TRY(sys::get_string_or(TRY(request.json()), "of", ""));
  const OfferRow offer = TRY(offer_named(*services.catalog, request.captures.at(0), of));
  TRY(services.catalog->audit(request.actor, "replica accept", offer.name, offer.vm.hex()));
  TRY(services.catalog->accept_offer(offer.vm, offer.peer));
  return Response::json(sys::JsonObject{{"vm", offer.name},
                                        {"vm_id", offer.vm.hex()},
                                        {"peer", services.protections->peer_name(offer.peer)},
                                        {"accepted", true}});
}

Answer list_replicas(Services& services, const Request&) {
  return Response::json(TRY(services.protections->show_replicas()));
}

// One that is not here yet is an offer, which is declined so.
Answer remove_replica(Services& services, const Request& request) {
  Result<VmRow> known = services.catalog->vm_named(request.captures.at(0));
  if (!known.ok() && known.error().code == ErrorCode::kNotFound) {
    const Result<OfferRow> offer =
        offer_named(*services.catalog, request.captures.at(0), request.query_or("of", ""));
    if (!offer.ok() && offer.error().code == ErrorCode::kNotFound) return std::move(known).error();
    return start_job(services, request, "replica-evict", TRY(offer).name,
                     [&services, offer = *offer, actor = request.actor](Progress&) {
                       return decline(services, offer, actor);
                     });
  }
  const VmRow row = TRY(std::move(known));
  return start_job(services, request, "replica-evict", row.name,
                   [&services, vm = row.id, actor = request.actor](Progress& progress) {
                     return services.protections->evict_replica(vm, actor, progress);
                   });
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
  return start_job(services, request, "protection-enable", row.name,
                   [&services, vm = row.id, peer](Progress& progress) {
                     return services.protections->enable(vm, peer, progress);
                   });
}

Answer remove_protection(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  Protections::DisableOptions options{.without_peer = request.query_or("without_peer", "0") == "1",
                                      .word = request.query_or("word", ""),
                                      .actor = request.actor};
  return start_job(services, request, "protection-disable", row.name,
                   [&services, vm = row.id, options](Progress& progress) {
                     return services.protections->disable(vm, options, progress);
                   });
}

Answer show_failover(Services& services, const Request& request) {
  return Response::json(
      TRY(preview_failover(services, TRY(services.catalog->vm_named(request.captures.at(0))))));
}

Answer post_distrust(Services& services, const Request& request, const VmRow& row,
                     const sys::JsonObject& body) {
  const PeerRow site = TRY(services.catalog->peer_named(TRY(sys::get_string(body, "distrust"))));
  Protections::DisableOptions said{.word = TRY(sys::get_string_or(body, "word", "")),
                                   .actor = request.actor};
  return start_job(services, request, "failover-settle", row.name,
                   [&services, vm = row.id, site, said](Progress& progress) {
                     return services.protections->take_back_from(vm, site, said, progress);
                   });
}

// `keep`: this site's name, or that of another one.
Answer post_settle(Services& services, const Request& request, const VmRow& row,
                   const sys::JsonObject& body) {
  const std::string keep = TRY(sys::get_string(body, "keep"));
  SiteId site = services.site.site_id;
  if (keep != services.site.name && keep != site.hex())
    site = TRY(services.catalog->peer_named(keep)).site;
  return start_job(services, request, "failover-settle", row.name,
                   [&services, vm = row.id, site, actor = request.actor](Progress& progress) {
                     return services.protections->settlements().settle(vm, site, actor, progress);
                   });
}

Answer post_failover(Services& services, const Request& request) {
  VmRow row = TRY(services.catalog->vm_named(request.captures.at(0)));
  sys::JsonObject body = TRY(request.json());
  std::string kind = TRY(sys::get_string(body, "kind"));
  if (kind == "settle") {
    return body.contains("distrust") ? post_distrust(services, request, row, body)
                                     : post_settle(services, request, row, body);
  }
  if (kind != "unplanned") {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "a failover of kind \"" + kind + "\" is not known",
                 .effect = "nothing was done",
                 .mend = "use \"unplanned\" or \"settle\""};
  }
  std::string need = TRY(sys::get_string_or(body, "attestation", "none"));
  if (need != "none" && need != "wait" && need != "require") {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "\"attestation\" cannot be \"" + need + "\"",
                 .effect = "nothing was done",
                 .mend = "use none, wait or require"};
  }
  const uint64_t tail_s = TRY(sys::get_u64_or(body, "wait_for_tail_seconds", 10));
  if (tail_s < 1 || tail_s > kTailMsMax / 1000) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "a source cannot be given " + std::to_string(tail_s) + " s for its tail",
                 .effect = "nothing was done",
                 .mend = "use 1 to " + std::to_string(kTailMsMax / 1000) + " s"};
  }
  FailoverRequest failover{.source_is_off = TRY(sys::get_bool_or(body, "source_is_off", false)),
                           .word = TRY(sys::get_string_or(body, "word", "")),
                           .wait_for_tail = std::chrono::seconds(tail_s),
                           .attestation = need == "wait"      ? AttestationNeed::kWait
                                          : need == "require" ? AttestationNeed::kRequire
                                                              : AttestationNeed::kNone,
                           .actor = request.actor};
  return start_job(services, request, "failover", row.name,
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
      {kGet, "/v1/vms", kReader, on(list_vms)},
      {kPost, "/v1/vms", kContributor, on(post_vm)},
      {kGet, "/v1/vms/{vm}", kReader, on(show_vm)},
      {kGet, "/v1/vms/{vm}/title", kReader, on(show_title)},
      {kDelete, "/v1/vms/{vm}", kContributor, on(remove_vm)},
      {kPost, "/v1/vms/{vm}/start", kOperator, on(post_start)},
      {kPost, "/v1/vms/{vm}/stop", kOperator, on(post_stop)},
      {kGet, "/v1/vms/{vm}/console", kOperator, on(read_console)},
      {kPost, "/v1/vms/{vm}/console", kOperator, on(type_console)},
      {kGet, "/v1/vms/{vm}/protection", kReader, on(show_protection)},
      {kPost, "/v1/vms/{vm}/protection", kContributor, on(post_protection)},
      {kDelete, "/v1/vms/{vm}/protection", kContributor, on(remove_protection)},
      {kGet, "/v1/vms/{vm}/failover", kReader, on(show_failover)},
      {kPost, "/v1/vms/{vm}/failover", kOperator, on(post_failover)},
      {kGet, "/v1/protections", kReader, on(list_protections)},
      {kGet, "/v1/replicas", kReader, on(list_replicas)},
      {kDelete, "/v1/replicas/{vm}", kContributor, on(remove_replica)},
      {kPost, "/v1/replicas/{vm}/accept", kOperator, on(accept_replica)},
      {kGet, "/v1/peers", kReader, on(list_peers)},
      {kPut, "/v1/peers/{peer}", kOwner, on(put_peer)},
      {kDelete, "/v1/peers/{peer}", kOwner, on(remove_peer)},
      {kPost, "/v1/pairing", kOwner, on(post_pairing)},
  };
  add_job_routes(services, routes);
  add_attestation_routes(services, routes);
  add_secure_boot_routes(services, routes);
  return Router(std::move(routes), [&services](const Request& request, const Error& error) {
    tell_refused(services, request, error);
  });
}

}  // namespace hf::control
