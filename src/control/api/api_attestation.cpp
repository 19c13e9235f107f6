// Routes of attestation.
#include "base/base64.h"
#include "control/api/api_routes.h"
#include "control/attest/attestation.h"

namespace hf::control {
namespace {

using Answer = Result<Response>;

Result<VmRow> vm_of(Services& services, const Request& request) {
  return services.catalog->vm_named(request.captures.at(0));
}

Result<Bytes> nonce_of(std::string_view text) {
  Result<Bytes> nonce = base64url_decode(text);
  if (nonce.ok() && nonce->size() >= attestation::kNonceMin &&
      nonce->size() <= attestation::kNonceMax) {
    return nonce;
  }
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "the nonce is not 8 to 64 bytes in base64url",
               .effect = "nothing was checked",
               .mend = "make a fresh one, 32 random bytes, for instance"};
}

Answer show_attestation(Services& services, const Request& request) {
  return Response::json(TRY(services.attestation->show(TRY(vm_of(services, request)))));
}

Answer check_attestation(Services& services, const Request& request) {
  sys::JsonObject body = TRY(request.json());
  CheckRequest check{.ask_guest = TRY(sys::get_bool_or(body, "ask_guest", true)),
                     .actor = request.actor};
  if (sys::has_member(body, "nonce"))
    check.nonce = TRY(nonce_of(TRY(sys::get_string(body, "nonce"))));
  return Response::json(
      attestation::to_json(TRY(services.attestation->check(TRY(vm_of(services, request)), check))));
}

Answer show_evidence(Services& services, const Request& request) {
  Bytes nonce = TRY(nonce_of(request.query_or("nonce", "")));
  return Response::json(TRY(services.attestation->evidence(TRY(vm_of(services, request)), nonce)));
}

Answer forget_key(Services& services, const Request& request) {
  VmRow row = TRY(vm_of(services, request));
  TRY(services.attestation->forget_key(row, request.actor));
  return Response::json(sys::JsonObject{{"vm", row.name}});
}

Answer show_policy(Services& services, const Request& request) {
  return Response::json(TRY(services.attestation->show_policy(TRY(vm_of(services, request)))));
}

Answer put_policy(Services& services, const Request& request) {
  return Response::json(TRY(services.attestation->set_policy(TRY(vm_of(services, request)),
                                                             TRY(request.json()), request.actor)));
}

Answer show_baseline(Services& services, const Request& request) {
  VmRow row = TRY(vm_of(services, request));
  if (request.query_or("diff", "0") == "1") {
    return Response::json(TRY(services.attestation->diff_baseline(row)));
  }
  return Response::json(TRY(services.attestation->show_baseline(row)));
}

Answer post_baseline(Services& services, const Request& request) {
  VmRow row = TRY(vm_of(services, request));
  sys::JsonObject body = TRY(request.json());
  std::string action = TRY(sys::get_string(body, "action"));
  Attestation& attestation = *services.attestation;
  using attestation::AcceptMode;
  if (action == "learn" || action == "accept") {
    bool beside = action == "accept" && TRY(sys::get_bool_or(body, "beside", false));
    if (action == "accept" && !services.units->running(qemu_unit(row.id))) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = "VM \"" + row.name + "\" does not run: there is no boot to accept",
                   .effect = "the baseline is as it was",
                   .mend = "holdfast vm start " + row.name};
    }
    return Response::json(TRY(attestation.accept_boot(
        row, beside ? AcceptMode::kAdd : AcceptMode::kReplace, request.actor)));
  }
  if (action == "announce") {
    attestation::PlannedChange change =
        TRY(attestation::planned_change_from(*TRY(sys::get_object(body, "change"))));
    return Response::json(TRY(attestation.announce(row, std::move(change), request.actor)));
  }
  if (action == "withdraw") {
    TRY(attestation.withdraw(row, TRY(sys::get_string(body, "change")), request.actor));
    return Response::json(TRY(attestation.show_baseline(row)));
  }
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "\"" + action + "\" cannot be done with a baseline",
               .effect = "the baseline is as it was",
               .mend = "use learn, accept, announce or withdraw"};
}

Answer show_keys(Services& services, const Request&) {
  return Response::json(TRY(services.attestation->keys()));
}

Answer appraise_evidence(Services& services, const Request& request) {
  sys::JsonObject body =
      TRY(sys::parse_json_object(request.body, {.bytes_max = attestation::kEvidenceTextMax}));
  return Response::json(TRY(services.attestation->appraise_foreign(body)));
}

}  // namespace

void add_attestation_routes(Services& services, std::vector<Route>& routes) {
  auto on = [&services](Answer (*handler)(Services&, const Request&)) -> Handler {
    return [&services, handler](const Request& request) { return handler(services, request); };
  };
  using enum Method;
  using enum Role;
  routes.push_back({kGet, "/v1/vms/{vm}/attestation", kReader, on(show_attestation)});
  routes.push_back({kPost, "/v1/vms/{vm}/attestation/check", kOperator, on(check_attestation)});
  routes.push_back({kGet, "/v1/vms/{vm}/attestation/evidence", kReader, on(show_evidence)});
  routes.push_back({kDelete, "/v1/vms/{vm}/attestation/key", kContributor, on(forget_key)});
  routes.push_back({kGet, "/v1/vms/{vm}/attestation/policy", kReader, on(show_policy)});
  routes.push_back({kPut, "/v1/vms/{vm}/attestation/policy", kContributor, on(put_policy)});
  routes.push_back({kGet, "/v1/vms/{vm}/attestation/baseline", kReader, on(show_baseline)});
  routes.push_back({kPost, "/v1/vms/{vm}/attestation/baseline", kContributor, on(post_baseline)});
  routes.push_back({kGet, "/v1/attestation/keys", kReader, on(show_keys)});
  routes.push_back({kPost, "/v1/attestation/appraise", kReader, on(appraise_evidence)});
}

}  // namespace hf::control
