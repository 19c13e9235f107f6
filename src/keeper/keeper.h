// Keeper: the parts of a serving process, in the order they are started and the reverse of the
// order in which they end. See serve.h.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "keeper/ek_issuer.h"
#include "keeper/freshness.h"
#include "keeper/guest_state/guest_state_io.h"
#include "keeper/guest_state/scratch.h"
#include "keeper/guest_state/tpm_store.h"
#include "keeper/service/attestation_service.h"
#include "keeper/service/control.h"
#include "keeper/ship/shipper.h"
#include "keeper/throw_away_storage.h"
#include "keeper_protocol/config.h"
#include "sys/inherited_fds.h"
#include "sys/uring_storage.h"
#include "volume/flash_volume.h"
#include "volume/nbd_server.h"
#include "vtpm/blob_sealer.h"
#include "vtpm/control_server.h"

namespace hf::keeper {

class Keeper final : private ControlHandler, private GuestStateWriter, private sys::Timer {
 public:
  Keeper(const keeper_protocol::ServeConfig& config, vault::KeyClient& vault)
      : config_(config), vault_(vault), freshness_(config.vm, vault) {}
  ~Keeper();

  Status start(sys::InheritedFds& fds);
  Status run_until_stopped();
  bool told_to_stop() const { return stop_requested_; }

 private:
  // A record of the keeper's own on its way to the journal.
  class DurableWrite final : public volume::Request {
   public:
    void on_done(Status status) override;
    Bytes bytes;
    Completion* done = nullptr;
  };

  Status open_journal();
  Status report_freshness();
  Status take_over_held_bytes(GuestState& state);
  Status finish_reclaim(GuestState& state);
  bool succeeds_a_keeper() const;
  Status on_own_thread(std::move_only_function<void()> work);
  Status start_vtpm(sys::InheritedFds& fds, const GuestState& state);
  Status start_front_ends(sys::InheritedFds& fds, GuestState& state);
  void learn_attestation_key(TpmAttestation& tpm);
  void handle(keeper_protocol::Question question, ControlReply reply) override;
  Result<sys::JsonObject> answer(const keeper_protocol::Question& question);
  keeper_protocol::ServeStatus status() const;
  std::string vtpm_state() const;
  void pin(std::optional<Sequence> peer_durable);
  void set_peer(std::optional<SiteId> peer);
  Status start_shipping(sys::InheritedFds& fds);
  void write_durable(uint64_t offset, ByteSpan data, Completion& done) override;
  // Looks, once a turn, whether the vault or the peer is to hear of a newer durable record.
  class DurableWatch final : public sys::Task {
   public:
    explicit DurableWatch(Keeper& keeper) : keeper_(keeper) {}
    void run() override { keeper_.watch_durable(); }

   private:
    Keeper& keeper_;
  };
  void watch_durable();
  void on_timer() override;
  Status stop();
  Status close_journal();
  void project(const GuestState& state);

  template <typename Condition>
  void turn_until(Condition condition) {
    reactor_->run_until(std::move(condition));
  }

  const keeper_protocol::ServeConfig& config_;
  vault::KeyClient& vault_;
  crypto::SystemRng rng_;
  sys::SystemClock clock_;
  sys::UniqueFd lock_;
  sys::UniqueFd scratch_memory_;
  vault::FetchedKey key_;
  std::unique_ptr<sys::Reactor> reactor_;
  std::unique_ptr<sys::UringStorage> storage_;
  std::unique_ptr<ThrowAwayStorage> view_;
  std::unique_ptr<journal::Journal> journal_;
  std::unique_ptr<volume::JournalFront> front_;
  std::unique_ptr<FlashScratch> scratch_;
  std::unique_ptr<volume::FlashVolume> flash_;
  std::vector<std::unique_ptr<volume::JournalVolume>> disks_;
  std::vector<std::unique_ptr<volume::NbdServer>> nbd_servers_;
  std::unique_ptr<vtpm::ExtendRecorder> recorder_;  // outlives the engine
  std::unique_ptr<TpmStore> tpm_store_;
  std::unique_ptr<vtpm::Engine> engine_;
  std::unique_ptr<vtpm::BlobSealer> sealer_;
  std::unique_ptr<vtpm::ControlServer> vtpm_server_;
  std::unique_ptr<AttestationService> attestation_;
  std::unique_ptr<Shipper> shipper_;
  std::optional<SiteId> peer_;
  std::unique_ptr<ControlServer> control_;
  FreshnessReporter freshness_;
  DurableWatch durable_watch_{*this};
  Sequence reported_durable_;
  Micros reported_at_{0};
  bool stop_requested_ = false;
};

}  // namespace hf::keeper
