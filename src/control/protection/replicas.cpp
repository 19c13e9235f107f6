#include "control/protection/replicas.h"

#include <algorithm>
#include <thread>

#include "control/core/log.h"
#include "control/host/keeper_units.h"
#include "control/peers/peer_messages.h"
#include "control/protection/recovery_rules.h"
#include "control/title/title_view.h"
#include "control/title/titles.h"
#include "keeper_protocol/client.h"
#include "keeper_protocol/config.h"
#include "sys/bounded_io.h"

namespace hf::control {

using namespace std::chrono_literals;

namespace {

constexpr auto kServesWithin = 60s;  // it may have to recover a journal
constexpr auto kAskLimit = 2s;
constexpr auto kSealLimit = 20s;  // it syncs what it has taken
constexpr auto kStopLimit = 20s;
constexpr auto kConnectLimit = 500ms;
// A replica that failed for good is opened again no sooner: somebody may have mended it.
constexpr auto kTryAgain = 30s;
// How long whoever asks for a stream waits to hear that a keeper just started cannot serve.
constexpr auto kFailsWithin = 1s;

keeper_protocol::Client client(const Services& services, VmId vm) {
  return keeper_protocol::Client(services.paths.run_file(vm, "control.sock"));
}

Error no_replica_keeper(VmId vm) {
  return {.code = ErrorCode::kUnavailable,
          .cause = "the replica's keeper does not run",
          .effect = "nothing is known of the replica now",
          .mend = "it is started again by itself; holdfast protection show " + vm.hex()};
}

Error failed_for_good(const std::string& directory, const UnitEnd& end) {
  Error error = error_of_end("the replica's keeper", end);
  if (!error.cause.contains(directory)) {
    error = std::move(error).context("the replica " + directory);
  }
  return std::move(error)
      .with_effect(
          "the replica takes nothing and is not failed over to; the VM is still its source's")
      .with_mend(
          "put the file back from a copy, it is tried again by itself; while the source lives, "
          "protect the VM anew there: holdfast protection disable, then enable");
}

peer::StreamReply refuse(ErrorCode code, std::string cause, Epoch epoch) {
  return {.keeper = {},
          .refusal =
              peer::StreamRefusal{.error = {.code = code,
                                            .cause = std::move(cause),
                                            .effect = "nothing was received",
                                            .mend = "holdfast vm show at both sites"},
                                  .detail = sys::encode_json(StreamRefusalDetail{.epoch = epoch})}};
}

}  // namespace

void Replicas::start_all() {
  Result<std::vector<ProtectionRow>> rows = services_.catalog->protections();
  if (!rows.ok()) return log_error(rows.error().describe());
  for (const ProtectionRow& protection : *rows) {
    if (protection.direction != Direction::kIn) continue;
    Result<VmRow> row = services_.catalog->vm(protection.vm);
    if (!row.ok() || row->role != VmRole::kStandby) continue;
    if (Status started = start(*row, protection); !started.ok())
      log_error("replica of " + row->name + ": " + started.error().describe());
  }
}

Status Replicas::create(const VmRow& row, const ProtectionRow& protection) {
  if (!services_.units->running(replica_unit(row.id))) {
    const std::optional<UnitEnd> last = services_.units->ended(replica_unit(row.id));
    if (!last || !last->will_restart) TRY(launch(row, protection, true));
  }
  return wait_serving(row.id);
}

Status Replicas::start(const VmRow& row, const ProtectionRow& protection) {
  if (services_.units->running(replica_unit(row.id))) return {};
  std::optional<UnitEnd> last = services_.units->ended(replica_unit(row.id));
  if (last && last->will_restart) return {};
  return launch(row, protection, false);
}

// One that has failed is not started for each question of a source that asks again and again.
Status Replicas::start_for_stream(const VmRow& row, const ProtectionRow& protection) {
  const std::string unit = replica_unit(row.id);
  if (services_.units->running(unit)) return {};
  const Time now = std::chrono::steady_clock::now();
  {
    std::lock_guard lock(mutex_);
    const std::optional<UnitEnd> last = services_.units->ended(unit);
    Time& tried = tried_[row.id];
    if (last && (last->will_restart || now < tried + kTryAgain)) return why_gone(row.id);
    tried = now;
  }
  TRY(start(row, protection));
  while (std::chrono::steady_clock::now() < now + kFailsWithin) {
    if (status(row.id).ok()) return {};
    if (services_.units->ended(unit)) return why_gone(row.id);
    std::this_thread::sleep_for(5ms);
  }
  return {};  // it has much to read
}

Error Replicas::why_gone(VmId vm) {
  const std::optional<UnitEnd> last = services_.units->ended(replica_unit(vm));
  if (!last || last->will_restart) return no_replica_keeper(vm);
  return failed_for_good(services_.paths.journal(vm), *last);
}

Status Replicas::launch(const VmRow& row, const ProtectionRow& protection, bool create) {
  const Result<PeerRow> peer = services_.catalog->peer(protection.peer);
  // A settled conflict gives the title a new epoch, and the guest that was kept runs on under its
  // own; whose stream is taken, the title says (take_stream).
  const Result<Epoch> tenure = tenure_epoch(services_, row.id);
  keeper_protocol::ReplicaConfig config{
      .vm = row.id,
      .site = services_.site.site_id,
      .epoch = tenure.ok() ? std::min(row.epoch, *tenure) : row.epoch,
      .journal_dir = services_.paths.journal(row.id),
      .vault_socket = services_.paths.vault_keys(),
      .peer_site = protection.peer,
      .public_key = TRY(journal_key_of(protection.journal_public_key)),
      .create = create,
      .limited = peer.ok() && peer->quota_bytes != 0};
  TRY(services_.units->start(
      keyless_keeper_request(row, replica_unit(row.id), keeper_protocol::encode_config(config)),
      {}));
  return {};
}

Status Replicas::wait_serving(VmId vm) {
  auto end = std::chrono::steady_clock::now() + kServesWithin;
  for (;;) {
    Result<keeper_protocol::ReplicaStatus> status = this->status(vm);
    if (status.ok()) return {};
    std::optional<UnitEnd> over = services_.units->ended(replica_unit(vm));
    if (over && !over->will_restart) return failed_for_good(services_.paths.journal(vm), *over);
    if (std::chrono::steady_clock::now() >= end) return std::move(status).error();
    std::this_thread::sleep_for(5ms);
  }
}

Result<keeper_protocol::ReplicaStatus> Replicas::status(VmId vm) {
  if (!services_.units->running(replica_unit(vm))) return why_gone(vm);
  keeper_protocol::AnyStatus status =
      TRY(client(services_, vm).ask(keeper_protocol::GetStatus{}, kAskLimit));
  if (auto* replica = std::get_if<keeper_protocol::ReplicaStatus>(&status)) return *replica;
  return no_replica_keeper(vm);
}

Result<keeper_protocol::StoreUse> Replicas::limit(VmId vm, std::optional<uint64_t> bytes_max) {
  if (!services_.units->running(replica_unit(vm))) return why_gone(vm);
  return client(services_, vm).ask(keeper_protocol::LimitStore{.bytes_max = bytes_max}, kAskLimit);
}

Result<journal::LineEnd> Replicas::held(const VmRow& row, const ProtectionRow& protection) {
  TRY(start(row, protection));
  TRY(wait_serving(row.id));
  return TRY(status(row.id)).durable.line_end();
}

Status Replicas::reopen(const VmRow& row, const ProtectionRow& protection) {
  TRY(stop(row.id));
  TRY(start(row, protection));
  return wait_serving(row.id);
}

Result<journal::LineEnd> Replicas::seal(VmId vm) {
  keeper_protocol::Sealed sealed =
      TRY(client(services_, vm).ask(keeper_protocol::Seal{}, kSealLimit));
  return sealed.durable.line_end();
}

void Replicas::unseal(VmId vm) {
  Result<keeper_protocol::Nothing> done =
      client(services_, vm).ask(keeper_protocol::Unseal{}, kAskLimit);
  if (!done.ok()) log_warning("replica " + vm.hex() + ": " + done.error().describe());
}

Status Replicas::stop(VmId vm) {
  std::string unit = replica_unit(vm);
  if (!services_.units->running(unit)) return services_.units->stop(unit, 9, 5s);
  const int64_t pid = services_.units->pid(unit);
  Result<keeper_protocol::Nothing> told =
      client(services_, vm).ask(keeper_protocol::Stop{}, kAskLimit);
  if (told.ok() && services_.units->wait_over(unit, pid, kStopLimit)) return {};
  // What it has acknowledged is durable, however it ends.
  return services_.units->stop(unit, 9, 5s);
}

peer::StreamReply Replicas::take_stream(const peer::StreamAsk& ask) {
  Result<VmRow> row = services_.catalog->vm(ask.vm);
  Result<ProtectionRow> protection = services_.catalog->protection(ask.vm);
  // The same words whether it is another site's VM or none.
  if (!row.ok() || !may_ask(*row, protection, ask.site)) {
    return refuse(ErrorCode::kNotFound, "this site and the source do not protect this VM together",
                  {});
  }
  if (!is_counterpart(protection, ask.site) || protection->direction != Direction::kIn ||
      row->role != VmRole::kStandby) {
    return refuse(ErrorCode::kConflict,
                  "this site is not a replica of the VM: it has it under epoch " +
                      std::to_string(row->epoch.value) + " as " + std::string(to_string(row->role)),
                  row->epoch);
  }
  // Data follow the title: it is the holder's line that is kept here.
  const Result<vault::TitleView> title = services_.vault.title(ask.vm);
  if (!title.ok()) return refuse(ErrorCode::kUnavailable, title.error().cause, row->epoch);
  if (title->head->statement().holder != ask.site) {
    return refuse(ErrorCode::kConflict, "the source does not hold the VM, by its title here",
                  row->epoch);
  }
  if (Status started = start_for_stream(*row, *protection); !started.ok()) {
    services_.peer_log.line(PeerDoes::kReplica, ask.site,
                            "replica of " + row->name + ": " + started.error().describe());
    return refuse(ErrorCode::kUnavailable, started.error().cause, row->epoch);
  }
  services_.titles->look(ask.vm);  // a take that ended may have left it sealed
  Result<sys::UniqueFd> keeper =
      sys::connect_unix_within(services_.paths.run_file(ask.vm, "ship.sock"), kConnectLimit);
  if (!keeper.ok()) return refuse(ErrorCode::kUnavailable, keeper.error().cause, row->epoch);
  return {.keeper = std::move(keeper).value(), .refusal = std::nullopt};
}

}  // namespace hf::control
