// Mode `replica`: a keeper without a key, which receives the peer's journal and checks what can be
// checked of it without one.
//
// One thread, one loop; nothing wakes it while nothing comes. Files are read and written on that
// thread: a ring's worker threads for files outlive their work, and each keeper would keep one. A
// stream whose data do not check ends
// with an error that the other side is told and that status shows; what was taken before stays. A
// journal that fails for want of space is opened anew with the next stream; one that fails
// otherwise ends the process, which whoever started it starts again: what is durable is recovered.
//
//   state        ship stream                   control
//   open         taken into the journal        seal → sealed
//   sealed       refused ("busy")              unseal → open
//   no journal   refused ("storage"), tried    as open
//                again with the next
//   full         refused ("storage") until     limit_store → open
//                its bound is raised
//
// Full is one that would hold more than it may (limit_store): what the source's site may place here
// is this site's to say, and a source that sends without end fills no more of the disk than that.
#pragma once

#include <memory>
#include <vector>

#include "journal/replica.h"
#include "keeper/service/control.h"
#include "keeper/ship/session_vault.h"
#include "keeper/ship/ship_socket.h"
#include "keeper_protocol/config.h"
#include "replication/receiver.h"
#include "sys/directory.h"
#include "sys/inherited_fds.h"
#include "sys/reactor.h"

namespace hf::keeper {

class ReplicaKeeper final : private ControlHandler, private ShipHandler, private sys::Timer {
 public:
  explicit ReplicaKeeper(const keeper_protocol::ReplicaConfig& config);
  ~ReplicaKeeper();

  // Opens the journal (makes an empty one if told to), and gives up all other files and calls.
  Status start(sys::InheritedFds& fds);
  // Until asked to stop, with all durable; or the journal's failure.
  Status run_until_stopped();

 private:
  class Turn final : public sys::Task {
   public:
    explicit Turn(ReplicaKeeper& owner) : owner_(owner) {}
    void run() override { owner_.on_turn(); }

   private:
    ReplicaKeeper& owner_;
  };
  struct SealFlushed final : Completion {
    explicit SealFlushed(ReplicaKeeper& owner) : owner(owner) {}
    void on_complete(Status status) override { owner.on_seal_flushed(std::move(status)); }
    ReplicaKeeper& owner;
  };

  void handle(keeper_protocol::Question question, ControlReply reply) override;
  void on_ship_open() override;
  void on_ship_frame(const replication::Frame& frame) override;
  void on_ship_closed(Error reason) override;

  Result<std::unique_ptr<journal::ReplicaJournal>> open_or_create();
  uint64_t stored_bytes() const { return journal_ == nullptr ? 0 : journal_->stored().bytes; }
  // Gives back what is only cut when a journal is opened, if that is what it lacks.
  Status make_room();
  // It may hold so many bytes more.
  Status room_for(size_t bytes);
  Status open_journal();
  Status settle_journal();
  Status reopen_if_gone();
  void on_timer() override {}  // it only ends the loop's wait: on_turn() follows
  void on_turn();
  Status turn();
  Status on_journal_failed();
  void apply_effects();
  void ask_vault(const replication::SignStatement& question);
  void ask_vault(const replication::CheckStatement& question);
  void refuse(replication::Refusal refusal, Error error);
  void end_stream();
  void show_line(ControlReply reply);
  void seal(ControlReply reply);
  void flush_for_seal();
  void on_seal_flushed(Status status);
  void answer_seals(const Status& status);
  Status stop();
  void trim_when_idle();
  keeper_protocol::ReplicaStatus status() const;
  Epoch epoch() const;
  Micros next_deadline() const;

  const keeper_protocol::ReplicaConfig& config_;
  sys::SystemClock clock_;
  crypto::SystemRng rng_;
  sys::UniqueFd lock_;
  std::unique_ptr<sys::Reactor> reactor_;
  std::unique_ptr<sys::PosixStorage> storage_;
  std::unique_ptr<journal::ReplicaJournal> journal_;  // null: it failed, and is not open again
  std::unique_ptr<replication::Receiver> receiver_;   // with the journal
  uint64_t receiver_number_ = 0;  // what the vault answers may be for an earlier one
  std::unique_ptr<SessionVault> vault_;
  std::unique_ptr<SessionVault> witness_;
  std::unique_ptr<ShipSocket> ship_;
  std::unique_ptr<ControlServer> control_;

  Epoch learned_;             // the highest a source said
  journal::LineEnd durable_;  // last known, for when there is no journal
  Micros durable_time_;
  std::optional<Error> error_;
  std::optional<uint64_t> stored_max_;
  bool told_ = false;  // how much that is, if it is limited at all
  bool sealed_ = false;
  bool seal_flushing_ = false;
  SealFlushed seal_flushed_{*this};
  std::vector<ControlReply> seals_;
  bool stop_requested_ = false;
  Micros trim_at_{UINT64_MAX};   // monotonic, as the next
  Micros patience_{UINT64_MAX};  // of a stop
  Status ended_;
  Turn turn_{*this};
};

}  // namespace hf::keeper
