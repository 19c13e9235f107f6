#include "control/protection/protections.h"

#include "control/core/log.h"
#include "control/peers/peer_service.h"
#include "control/protection/consent.h"
#include "control/protection/protection_view.h"
#include "control/vm/vm_operations.h"
#include "keeper_protocol/client.h"

namespace hf::control {

using namespace std::chrono_literals;

Protections::Protections(Services& services)
    : services_(services),
      replicas_(services),
      room_(services, replicas_),
      caretakers_(services, [&services](SiteId site) { return services.peers->connected(site); }),
      settlements_(services),
      streams_(services, caretakers_, [this](VmId vm) { withdraw_again(vm); }) {}
Protections::~Protections() { stop(); }

void Protections::start() {
  replicas_.start_all();
  room_.start();
  streams_.start();
}

void Protections::stop() {
  room_.stop();
  streams_.stop();
}

void Protections::on_event(const launcher::Event& event) {
  if (vm_of_unit(event.unit, "replica-") && event.kind == launcher::Event::Kind::kStarted)
    room_.look();
  if (std::optional<VmId> vm = vm_of_unit(event.unit, "keeper-")) streams_.look(*vm);
  if (std::optional<VmId> vm = vm_of_unit(event.unit, "caretaker-")) {
    caretakers_.on_unit(*vm, event);
    streams_.look(*vm);
  }
}

void Protections::end_stream(VmId vm) {
  streams_.remove(vm);
  caretakers_.end(vm);
}

namespace {

// Why there is no stream, as whoever asks for the protection reads it.
Error falls_behind(const Error& error) {
  return Error(error)
      .with_effect("the replica falls behind; the guest goes on")
      .with_mend("it is tried again by itself; if it lasts: holdfast site peers");
}

}  // namespace

std::optional<uint64_t> Protections::lacks(VmId vm) {
  const Result<VmRow> row = services_.catalog->vm(vm);
  if (!row.ok()) return std::nullopt;
  const Result<std::optional<keeper_protocol::Shipping>> now = shipping(*row);
  if (!now.ok() || !*now || !(*now)->acknowledged) return std::nullopt;
  return (*now)->lag_records;
}

// As the keeper that ships says it; nothing: none runs.
Result<std::optional<keeper_protocol::Shipping>> Protections::shipping(const VmRow& row) {
  const bool runs = services_.units->running(keeper_unit(row.id)) ||
                    services_.units->running(caretaker_unit(row.id));
  if (!runs) return std::optional<keeper_protocol::Shipping>();
  keeper_protocol::Client keeper(services_.paths.run_file(row.id, "control.sock"));
  keeper_protocol::AnyStatus status = TRY(keeper.ask(keeper_protocol::GetStatus{}, 2s));
  if (auto* serving = std::get_if<keeper_protocol::ServeStatus>(&status)) return serving->shipping;
  if (auto* caretaker = std::get_if<keeper_protocol::CaretakerStatus>(&status))
    return std::optional(caretaker->shipping);
  return std::optional<keeper_protocol::Shipping>();
}

// Begun or ended here, and not known to be so at the other site.
Result<sys::JsonObject> Protections::show_unsettled(const VmRow& row,
                                                    const ProtectionRow& protection) {
  const std::string peer = peer_name(protection.peer);
  if (protection.state == ProtectionState::kOffered) {
    const Error error{.code = ErrorCode::kUnavailable,
                      .cause = "site " + peer + " has not said that it took the offer",
                      .effect = "the VM is not protected",
                      .mend = "holdfast protection enable " + row.name + " --to " + peer};
    return sys::JsonObject{{"state", "offered"}, {"error", sys::error_to_json(error)}};
  }
  const Error error{
      .code = ErrorCode::kUnavailable,
      .cause = "site " + peer + " has not said that its replica is gone",
      .effect = "replication has ended; until then site " + peer + " may take the VM over",
      .mend = "it is removed by itself when site " + peer +
              " is back; if that never comes: holdfast protection disable " + row.name +
              " --without-peer"};
  return sys::JsonObject{{"state", "withdrawing"}, {"error", sys::error_to_json(error)}};
}

Result<sys::JsonObject> Protections::show_stream(const VmRow& row) {
  const Streams::View stream = streams_.view(row.id);
  const bool stopped = !services_.units->running(keeper_unit(row.id));
  const bool level = stopped && caretakers_.level(row.id);
  Result<std::optional<keeper_protocol::Shipping>> said = shipping(row);
  sys::JsonObject show{{"state", stopped ? "vm stopped" : "waiting"}};
  if (stopped) {
    show["caught_up"] = level;
    show["lag_records"] = level ? sys::JsonValue(0) : sys::JsonValue(nullptr);  // nobody counts it
  }
  if (level) return show;
  bool halted = false;
  if (said.ok() && *said) {
    show = shipping_view(**said);
    halted = (*said)->state == keeper_protocol::ShippingState::kHalted;
  } else if (!said.ok()) {
    show["error"] = sys::error_to_json(falls_behind(said.error()));
  }
  if (stream.open || halted) return show;
  if (show.at("state").as_string() == "waiting") show["state"] = "connecting";
  // What ends streams at the other site is known there, and told with the refusal.
  if (!stream.error) return show;
  const Result<ProtectionRow> protection = services_.catalog->protection(row.id);
  const bool gone = stream.error->code == ErrorCode::kNotFound && protection.ok();
  show["error"] = sys::error_to_json(gone ? no_replica_there(row.name, peer_name(protection->peer))
                                          : falls_behind(*stream.error));
  return show;
}

Result<sys::JsonObject> Protections::show_replica(const VmRow& row) {
  Result<keeper_protocol::ReplicaStatus> status = replicas_.status(row.id);
  if (!status.ok())
    return sys::JsonObject{{"state", "waiting"}, {"error", sys::error_to_json(status.error())}};
  return replica_view(*status);
}

Result<sys::JsonObject> Protections::show(const VmRow& row) {
  ProtectionRow protection = TRY(services_.catalog->protection(row.id));
  const bool out = protection.direction == Direction::kOut;
  const bool stands = protection.state == ProtectionState::kStands;
  sys::JsonObject show = TRY(!stands ? show_unsettled(row, protection)
                             : out   ? show_stream(row)
                                     : show_replica(row));
  const Result<vault::TitleView> title = services_.vault.title(row.id);
  const SiteId standby = out ? protection.peer : services_.site.site_id;
  show["stands_by"] = title.ok() && title->head->statement().is_standby(standby);
  show["vm"] = row.name;
  show["vm_id"] = row.id.hex();
  show["epoch"] = row.epoch.value;
  show["direction"] = out ? "out" : "in";
  show["peer"] = peer_name(protection.peer);
  show["peer_site_id"] = protection.peer.hex();
  return show;
}

Result<sys::JsonArray> Protections::show_all() {
  sys::JsonArray all;
  for (const ProtectionRow& protection : TRY(services_.catalog->protections())) {
    all.push_back(TRY(show(TRY(services_.catalog->vm(protection.vm)))));
  }
  return all;
}

Result<sys::JsonArray> Protections::show_replicas() {
  sys::JsonArray replicas;
  for (const ProtectionRow& protection : TRY(services_.catalog->protections())) {
    if (protection.direction != Direction::kIn) continue;
    replicas.push_back(TRY(show(TRY(services_.catalog->vm(protection.vm)))));
  }
  for (const OfferRow& offer : TRY(services_.catalog->offers()))
    replicas.push_back(TRY(show_offer(*services_.catalog, offer)));
  return replicas;
}

}  // namespace hf::control
