#include "keeper/keeper.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>

#include "keeper/directory_lock.h"
#include "keeper/guest_state/items.h"
#include "keeper/sandbox.h"
#include "keeper/waiter.h"
#include "secure_boot/keys/variable_store.h"

namespace hf::keeper {
namespace {

constexpr uint64_t kReportUs = 500'000;  // the vault is told so often at most
constexpr uint64_t kStopGraceUs = 30'000'000;

// From the vTPM's threads. The launcher keeps what is written here.
void report_vtpm_error(const Error& error) {
  std::fputs(("holdfast-keeper: vTPM: " + error.describe() + "\n").c_str(), stderr);
}

std::vector<std::string> own_directories(const keeper_protocol::ServeConfig& config) {
  std::vector<std::string> directories{config.journal_dir};
  if (!config.vmgs_path.empty()) {
    directories.push_back(std::filesystem::path(config.vmgs_path).parent_path().string());
  }
  return directories;
}

}  // namespace

Keeper::~Keeper() = default;

Status Keeper::start(sys::InheritedFds& fds) {
  lock_ = TRY(lock_directory(config_.journal_dir));
  key_ = TRY_CONTEXT(vault_.await_key(config_.vm), "fetch the VM's key");
  reactor_ = TRY(sys::Reactor::create());
  if (fds.has("scratch")) scratch_memory_ = TRY(fds.take("scratch"));
  const bool under_a_guest = succeeds_a_keeper();
  TRY_CONTEXT(open_journal(), "open the journal " + config_.journal_dir);
  TRY_CONTEXT(confine_to_directories(own_directories(config_)), "give up other files");
  if (!config_.look) TRY(report_freshness());
  front_ = std::make_unique<volume::JournalFront>(*journal_, *reactor_);
  GuestState state = TRY(load_guest_state(*reactor_, *front_));
  TRY(take_over_held_bytes(state));
  if (!under_a_guest) TRY(finish_reclaim(state));
  attestation_ = std::make_unique<AttestationService>(
      *reactor_, *front_, static_cast<GuestStateWriter&>(*this), clock_);
  if (!config_.look) TRY(start_vtpm(fds, state));
  TRY(start_front_ends(fds, state));
  if (!config_.look) {
    freshness_.start();
    reactor_->each_turn(durable_watch_);
  }
  TRY_CONTEXT(confine_to_serving(), "give up system calls");
  return {};
}

// A predecessor has sized the scratch memory, which the host's end or the launcher's takes away.
bool Keeper::succeeds_a_keeper() const {
  struct stat info{};
  return scratch_memory_ && ::fstat(scratch_memory_.get(), &info) == 0 && info.st_size > 0;
}

Status Keeper::open_journal() {
  storage_ = TRY(sys::UringStorage::open_directory(*reactor_, config_.journal_dir));
  Storage* storage = storage_.get();
  if (config_.look) {
    view_ = std::make_unique<ThrowAwayStorage>(
        *storage_, [this](std::function<void()> work) { reactor_->post(std::move(work)); });
    storage = view_.get();
  }
  // Asked first: a journal that is behind it is refused before anything is written to it.
  auto fresh = TRY_CONTEXT(vault_.get_freshness(config_.vm), "read the vault's freshness record");
  std::optional<journal::LineEnd> known;
  if (fresh.has_value()) known = {.position = fresh->position, .chain = fresh->chain};
  // Whoever started this keeper asks the other sites meanwhile.
  TRY_CONTEXT(vault_.await_gate(config_.vm), "ask the vault whether the VM may be opened");
  journal_ = TRY(journal::Journal::open(
      *storage, clock_, rng_, journal::JournalKeys::derive(key_.key, config_.vm, key_.version),
      {.vm = config_.vm,
       .site = config_.site,
       .epoch = config_.epoch,
       // A guest waits for its disk: what its own keeper wrote moments ago is not read once more.
       // Closes, tables and the tail are checked all the same, and each unit as it is read.
       .log = {.segment_bytes = config_.segment_bytes,
               .prepare_next = !config_.look,
               .verify_bytes_max = succeeds_a_keeper() ? 0 : journal::LogOptions{}.verify_bytes_max,
               // Never what this epoch wrote: a keeper that is started again has the same config.
               .bad_tail_given_up = config_.give_up_bad_tail ? config_.epoch : Epoch()},
       .known_durable = known,
       .merge_keep_segments = config_.look ? 0 : config_.merge_keep_segments,
       .pin_bytes_max = config_.backlog_bytes_max}));
  if (scratch_memory_) {
    scratch_ = TRY(FlashScratch::open(std::move(scratch_memory_), key_.key,
                                      journal_->lineage().back().body.salt));
  }
  // Until the daemon says how far the peer is, nothing may be merged away from under it.
  std::optional<Sequence> pinned = scratch_ != nullptr ? scratch_->pin() : std::nullopt;
  peer_ = config_.peer_site;
  if (scratch_ != nullptr) {
    if (const auto noted = scratch_->protection()) peer_ = noted->peer;
  }
  if (peer_ && !pinned) pinned = Sequence(0);
  journal_->pin(pinned);
  return {};
}

Status Keeper::report_freshness() {
  reported_durable_ = journal_->durable_end().position.sequence;
  return freshness_.report_now(journal_->durable_end(), clock_.wall_time());
}

// A predecessor may have died with variable-store bytes that QEMU had been told were written.
Status Keeper::take_over_held_bytes(GuestState& state) {
  if (scratch_ == nullptr || state.uefi_store.empty()) return {};
  auto held = scratch_->left_before(journal_->lineage());
  if (!held.has_value()) return {};
  if (held->offset > state.uefi_store.size() ||
      held->bytes.size() > state.uefi_store.size() - held->offset) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "held flash bytes lie outside the store"};
  }
  std::copy(held->bytes.begin(), held->bytes.end(),
            state.uefi_store.begin() + static_cast<std::ptrdiff_t>(held->offset));
  HF_ASSERT(front_->try_write(kGuestStateVolume, kUefiStoreOffset + held->offset, held->bytes));
  // The note stands until they are appended: this keeper may die as well.
  const Sequence given = journal_->status().accepted;
  turn_until([&] { return journal_->status().appended >= given || journal_->failed() != nullptr; });
  if (const Error* failed = journal_->failed(); failed != nullptr) return *failed;
  scratch_->clear();
  return {};
}

// A guest that was killed while its firmware reclaimed space in the variable store leaves a store
// that edk2 of 2022 may not start from: it erases all variables first, or stops in an exception.
// Before the firmware sees it, the reclaim is carried to its end from the spare block's copy. A
// store that cannot be read is the firmware's to judge.
Status Keeper::finish_reclaim(GuestState& state) {
  const auto store = secure_boot::VariableStore::parse(state.uefi_store);
  if (!store.ok() || !store->recovered()) return {};
  const ByteSpan whole = store->image();
  HF_ASSERT(whole.size() == state.uefi_store.size());
  Waiter written;
  write_durable(kUefiStoreOffset, whole, written);
  turn_until([&] { return written.done; });
  TRY_CONTEXT(std::move(written.result), "end an interrupted reclaim of the UEFI variables");
  state.uefi_store.assign(whole.begin(), whole.end());
  std::fputs("holdfast-keeper: a reclaim of the UEFI variable store was cut off; it was ended\n",
             stderr);
  return {};
}

// What blocks and may wait for the journal, while the reactor turns. A journal that fails meanwhile
// never answers such a wait: the thread is left where it stands, and the process has to end. So
// `work` owns what it uses, or it is the keeper's.
Status Keeper::on_own_thread(std::move_only_function<void()> work) {
  auto done = std::make_shared<std::atomic<bool>>(false);
  std::thread thread([done, reactor = reactor_.get(), work = std::move(work)] mutable {
    work();
    *done = true;
    reactor->post([] {});  // the loop may sleep
  });
  turn_until([&] { return done->load() || journal_->failed() != nullptr; });
  if (*done) {
    thread.join();
    return {};
  }
  thread.detach();
  return *journal_->failed();
}

// libtpms blocks, and its commits wait for the reactor: so it starts on a thread of its own while
// the reactor turns.
Status Keeper::start_vtpm(sys::InheritedFds& fds, const GuestState& state) {
  if (state.tpm_state.empty()) return {};
  tpm_store_ = std::make_unique<TpmStore>(*reactor_, static_cast<GuestStateWriter&>(*this));
  sealer_ = std::make_unique<vtpm::GspBlobSealer>(key_.key, config_.vm, rng_);
  auto started = std::make_shared<Status>();
  const bool lost = scratch_ != nullptr && scratch_->vtpm_was_connected();
  recorder_ = std::make_unique<vtpm::ExtendRecorder>(clock_, rng_);
  auto recover = [this, started, lost, blob = state.tpm_state] mutable {
    auto engine = vtpm::Engine::recover(
        {.store = tpm_store_.get(), .observer = recorder_.get(), .on_fatal = report_vtpm_error},
        blob);
    crypto::wipe(blob);
    if (!engine.ok()) {
      *started = std::move(engine).error();
      return;
    }
    engine_ = *std::move(engine);
    auto tpm = std::make_unique<TpmAttestation>(
        TpmAttestation::Parts{.engine = *engine_,
                              .recorder = *recorder_,
                              .vault = vault::KeyClient({.socket_path = config_.vault_socket,
                                                         .timeout = TpmAttestation::kVaultWithin}),
                              .vm = config_.vm,
                              .rng = rng_});
    // Under a running machine every moment counts; the keys are read when they are asked for.
    if (!lost) learn_attestation_key(*tpm);
    attestation_->set_tpm(std::move(tpm), *recorder_);
  };
  TRY_CONTEXT(on_own_thread(std::move(recover)), "start the vTPM");
  TRY_CONTEXT(std::move(*started), "start the vTPM");
  if (lost) recorder_->note_lost();
  if (!fds.has("tpm")) return {};
  vtpm_server_ = std::make_unique<vtpm::ControlServer>(
      *engine_, vtpm::ControlServerOptions{
                    .listener = TRY(fds.take("tpm")),
                    .sealer = sealer_.get(),
                    .initial = lost ? vtpm::ControlState::kLost : vtpm::ControlState::kReady,
                    .on_state =
                        [this](vtpm::ControlState now) {
                          if (scratch_ != nullptr) {
                            scratch_->note_vtpm_connected(now == vtpm::ControlState::kConnected ||
                                                          now == vtpm::ControlState::kLost);
                          }
                        },
                    .on_error = report_vtpm_error});
  vtpm_server_->start();
  return {};
}

// A TPM whose owner keeps us from its keys still serves its guest.
void Keeper::learn_attestation_key(TpmAttestation& tpm) {
  Status learnt = tpm.learn_identity();
  recorder_->forget();  // that was not the guest's boot
  if (!learnt.ok()) report_vtpm_error(std::move(learnt).error().context("attestation key"));
}

Status Keeper::start_front_ends(sys::InheritedFds& fds, GuestState& state) {
  auto serve = [&](const std::string& name, volume::Volume& volume) -> Status {
    if (!fds.has(name)) return {};
    nbd_servers_.push_back(std::make_unique<volume::NbdServer>(
        *reactor_, TRY(fds.take(name)),
        volume::NbdExport{.name = name, .description = "Holdfast " + name, .volume = &volume}));
    nbd_servers_.back()->start();
    return {};
  };
  for (const keeper_protocol::VolumeConfig& volume : config_.volumes) {
    disks_.push_back(
        std::make_unique<volume::JournalVolume>(*front_, volume.id, volume.size_bytes));
    TRY(serve(volume.name, *disks_.back()));
  }
  if (!state.uefi_store.empty()) {
    flash_ = std::make_unique<volume::FlashVolume>(*front_, kGuestStateVolume, kUefiStoreOffset,
                                                   std::move(state.uefi_store), scratch_.get());
    const size_t before = nbd_servers_.size();
    TRY(serve("vars", *flash_));
    const volume::NbdServer* server =
        nbd_servers_.size() > before ? nbd_servers_.back().get() : nullptr;
    attestation_->set_store(
        *flash_, [server] { return server == nullptr ? size_t{0} : server->connections(); });
    if (!config_.volumes.empty()) {
      const keeper_protocol::VolumeConfig& first = config_.volumes.front();
      attestation_->set_boot_disk(*flash_, first.id, first.size_bytes);
    }
  }
  TRY(start_shipping(fds));
  attestation_->start();
  control_ = std::make_unique<ControlServer>(*reactor_, TRY(fds.take("control")),
                                             static_cast<ControlHandler&>(*this));
  control_->start();
  return {};
}

Status Keeper::start_shipping(sys::InheritedFds& fds) {
  if (!fds.has("ship")) return {};
  shipper_ = std::make_unique<Shipper>(
      *reactor_, clock_, TRY(fds.take("ship")), *journal_,
      ShipperOptions{.vm = config_.vm,
                     .site = config_.site,
                     .epoch = journal_->epoch(),
                     .public_key = journal_->public_key(),
                     .vault_socket = config_.vault_socket,
                     .written = [this] { return journal_->end().position.sequence; },
                     .on_acknowledged = [this](Sequence acknowledged) { pin(acknowledged); }});
  shipper_->set_peer(peer_);
  shipper_->start();
  return {};
}

Status Keeper::run_until_stopped() {
  turn_until([this] { return stop_requested_ || journal_->failed() != nullptr; });
  if (const Error* failed = journal_->failed(); failed != nullptr) {
    return Error(*failed)
        .with_effect("The VM's disks stand still; what it had flushed is safe")
        .with_mend("free space or mend the disk under " + config_.journal_dir +
                   "; the keeper starts again by itself");
  }
  return stop();
}

void Keeper::watch_durable() {
  if (shipper_ != nullptr) shipper_->turn();
  if (const auto released = journal_->take_pin_release()) {
    std::fputs(("holdfast-keeper: what the replica lacks is over " +
                std::to_string(released->bytes_max >> 20) +
                " MiB and is kept for it no longer; it will be seeded\n")
                   .c_str(),
               stderr);
    if (shipper_ != nullptr) shipper_->note_let_go();
  }
  if (armed() || journal_->durable_end().position.sequence <= reported_durable_) return;
  reactor_->arm(*this, std::max(reactor_->now(), Micros(reported_at_.value + kReportUs)));
}

void Keeper::on_timer() {
  const journal::LineEnd durable = journal_->durable_end();
  reported_durable_ = durable.position.sequence;
  reported_at_ = reactor_->now();
  freshness_.report(durable, clock_.wall_time());
}

void Keeper::write_durable(uint64_t offset, ByteSpan data, Completion& done) {
  auto* write = new DurableWrite;  // gone with its completion: a TPM commit is rare
  write->operation = volume::Operation::kWrite;
  write->fua = true;
  write->offset = offset;
  write->bytes.assign(data.begin(), data.end());
  write->length = write->bytes.size();
  write->data = write->bytes.data();
  write->done = &done;
  front_->submit(kGuestStateVolume, *write);
}

void Keeper::DurableWrite::on_done(Status status) {
  crypto::wipe(bytes);
  done->on_complete(std::move(status));
  delete this;
}

void Keeper::handle(keeper_protocol::Question question, ControlReply reply) {
  if (attestation_->takes(question)) {
    return attestation_->handle(std::move(question), std::move(reply));
  }
  if (const auto* drain = std::get_if<keeper_protocol::Drain>(&question);
      drain != nullptr && shipper_ != nullptr) {
    return shipper_->drain(drain->limit_ms, std::move(reply));
  }
  if (const auto* show = std::get_if<keeper_protocol::ShowLine>(&question);
      show != nullptr && shipper_ != nullptr) {
    return shipper_->show_line(show->holds ? std::optional(show->holds->line_end()) : std::nullopt,
                               std::move(reply));
  }
  reply(answer(question));
}

Result<sys::JsonObject> Keeper::answer(const keeper_protocol::Question& question) {
  if (std::holds_alternative<keeper_protocol::GetStatus>(question)) {
    return encode_reply(keeper_protocol::AnyStatus(status()));
  }
  if (const auto* protect = std::get_if<keeper_protocol::Protect>(&question)) {
    set_peer(protect->peer_site);
  } else if (std::holds_alternative<keeper_protocol::Unprotect>(question)) {
    set_peer(std::nullopt);
  } else if (std::holds_alternative<keeper_protocol::Stop>(question)) {
    stop_requested_ = true;
  } else {
    return not_in_this_mode(question, config_.kOp);
  }
  return sys::JsonObject{};
}

void Keeper::pin(std::optional<Sequence> peer_durable) {
  journal_->pin(peer_durable);
  if (scratch_ != nullptr) scratch_->note_pin(peer_durable);
}

void Keeper::set_peer(std::optional<SiteId> peer) {
  // Until it says how far it is, nothing may be merged away from under it.
  if (peer != peer_) pin(peer ? std::optional(Sequence(0)) : std::nullopt);
  peer_ = peer;
  if (scratch_ != nullptr) scratch_->note_peer(peer);
  if (shipper_ != nullptr) shipper_->set_peer(peer);
}

std::string Keeper::vtpm_state() const {
  if (engine_ == nullptr) return "none";
  if (engine_->fatal()) return "failed";
  return vtpm_server_ == nullptr ? "ready" : std::string(vtpm::to_string(vtpm_server_->state()));
}

keeper_protocol::ServeStatus Keeper::status() const {
  const journal::JournalStatus journal = journal_->status();
  const journal::LineEnd end = journal_->durable_end();
  size_t clients = 0;
  for (const auto& server : nbd_servers_) clients += server->connections();
  return {
      .state = journal_->failed() != nullptr ? "failed" : "serving",
      .pid = ::getpid(),
      .epoch = journal_->epoch(),
      .incarnation = journal_->lineage().back().body.salt,
      .appended = journal.appended,
      .durable = journal.durable,
      .durable_incarnation = end.position.incarnation,
      .chain = end.chain,
      .segments = journal.segments,
      .bases = journal.bases,
      .vtpm = vtpm_state(),
      .connections = clients,
      .journal_public_key = journal_->public_key(),
      .shipping = peer_ && shipper_ != nullptr ? std::optional(shipper_->status()) : std::nullopt};
}

Status Keeper::stop() {
  reactor_->end_turns(durable_watch_);
  reactor_->disarm(*this);
  const Micros patience(reactor_->now().value + kStopGraceUs);
  reactor_->arm(*this, patience);  // ends the wait
  // Their threads may wait for a commit: the reactor turns while they end.
  TRY(on_own_thread([this] {
    attestation_->stop();
    if (vtpm_server_ != nullptr) vtpm_server_->stop();
    if (engine_ != nullptr) (void)engine_->power_off().ok();
  }));
  for (auto& server : nbd_servers_) server->stop();
  if (shipper_ != nullptr) shipper_->stop();
  control_->stop();
  turn_until([&] {
    bool stopped = control_->stopped() && (shipper_ == nullptr || shipper_->stopped()) &&
                   front_->idle() && (flash_ == nullptr || flash_->idle());
    for (auto& server : nbd_servers_) stopped = stopped && server->stopped();
    return stopped || reactor_->now() >= patience || journal_->failed() != nullptr;
  });
  reactor_->disarm(*this);
  return config_.look ? Status() : close_journal();
}

Status Keeper::close_journal() {
  if (flash_ != nullptr) {
    turn_until([this] {
      flash_->append_held();
      return flash_->settled() || journal_->failed() != nullptr;
    });
  }
  std::optional<GuestState> state;
  if (!config_.vmgs_path.empty()) state = TRY(load_guest_state(*reactor_, *front_));
  Waiter closed;
  journal_->close(closed);
  turn_until([&] { return closed.done && journal_->idle(); });
  TRY(std::move(closed.result));
  if (state) project(*state);  // on a full disk the close has made room
  freshness_.stop();
  TRY_CONTEXT(freshness_.report_now(journal_->durable_end(), clock_.wall_time()),
              "tell the vault how far the journal is");
  return {};
}

// A copy for other tools, and the journal is what counts: without room for it the VM stops all the
// same. The one from before stays; its generation record says of when it is.
void Keeper::project(const GuestState& state) {
  const Status written = write_projection(config_.vmgs_path, config_.vm, key_.key, state,
                                          journal_->epoch(), journal_->end());
  if (written.ok()) return;
  std::fputs(("holdfast-keeper: the guest state file was not written: " +
              written.error().describe() + "\n")
                 .c_str(),
             stderr);
}

}  // namespace hf::keeper
