// Shipper: sends a VM's durable records to the peer's keeper, from this keeper's own journal.
//
// The journal is read in the process that writes it, on the reactor's thread, as the peer
// acknowledges and as records become durable: turn() after every turn of the loop sees both, so
// nothing is polled. Without a stream nothing happens here but that the age of what the peer lacks
// stays known.
#pragma once

#include <deque>
#include <functional>
#include <optional>

#include "journal/ship/sealed_source.h"
#include "keeper/service/control.h"
#include "keeper/ship/session_vault.h"
#include "keeper/ship/ship_socket.h"
#include "replication/sender.h"

namespace hf::keeper {

struct ShipperOptions {
  VmId vm;
  SiteId site;
  Epoch epoch;
  crypto::PublicKey public_key{};
  std::string vault_socket;  // that stands for this site at a session's beginning
  // The end of what a guest was told is written; empty: what is durable.
  std::function<Sequence()> written = {};
  // The peer has everything up to here durably.
  std::function<void(Sequence)> on_acknowledged = {};
};

class Shipper final : private ShipHandler, private journal::SealedRead, private sys::Timer {
 public:
  Shipper(sys::Reactor& reactor, Clock& clock, sys::UniqueFd listener,
          journal::SealedSource& source, ShipperOptions options);
  ~Shipper();

  // Streams are refused while there is no peer. A new peer is not what the old one was: what that
  // had acknowledged is forgotten.
  void set_peer(std::optional<SiteId> peer);
  const std::optional<SiteId>& peer() const { return peer_; }

  void start() { socket_.start(); }
  void stop();
  bool stopped() const {
    return socket_.stopped() && reading_ == Reading::kNothing && vault_.idle() && witness_.idle();
  }

  // After every turn of the loop.
  void turn();

  // Answered once, at once or later: whether the peer has all that the guest was told is written.
  void drain(uint64_t limit_ms, ControlReply reply);
  // Shows the vault where the line ends, and whether the peer's position `holds` lies on it. Reads
  // a few headers: not for the data path.
  void show_line(const std::optional<journal::LineEnd>& holds, ControlReply reply);
  // The peer has all that is durable here, as it has said in a session.
  bool level() const { return noted_ && *noted_ >= durable(); }
  // The peer is set (asserted).
  keeper_protocol::Shipping status() const;
  // What the peer lacked is merged away; it will be seeded.
  void note_let_go() { let_go_ = true; }

 private:
  enum class Reading : uint8_t { kNothing, kRecords, kSeedBytes, kBacklog };
  struct Drain {
    Sequence target;
    Micros until;
    ControlReply reply;
  };

  void on_ship_open() override;
  void on_ship_frame(const replication::Frame& frame) override;
  void on_ship_closed(Error reason) override;
  void on_sealed(Result<journal::SealedBatch> batch) override;
  void on_timer() override { turn(); }

  std::unique_ptr<replication::Sender> make_sender();
  void apply_effects();
  bool apply(replication::Effect& effect);
  void ask_vault(const replication::SignStatement& question);
  void ask_vault(const replication::CheckStatement& question);
  void note_went_back(const replication::ReplicaWentBack& lost);
  void forget_stream();
  Sequence durable() const { return source_.durable_end().position.sequence; }
  void look_for_records();
  void look_at_backlog();
  void note_acknowledged();
  void answer_drains();
  void arm();
  Micros now() const { return reactor_.now(); }

  sys::Reactor& reactor_;
  Clock& clock_;
  journal::SealedSource& source_;
  const ShipperOptions options_;
  crypto::SystemRng rng_;
  ShipSocket socket_;
  SessionVault vault_;
  SessionVault witness_;
  std::optional<SiteId> peer_;
  std::unique_ptr<replication::Sender> sender_;
  uint64_t sender_number_ = 0;  // what the vault answers may be for an earlier one
  Reading reading_ = Reading::kNothing;
  bool reading_is_stale_ = false;                   // for a sender that is gone
  std::optional<replication::WantRecords> wanted_;  // waits until there is something
  std::optional<replication::Effect> wants_seed_;   // waits until a read under way is done
  Sequence told_;                                   // the sender knows that this is durable here
  std::optional<Sequence> noted_;                   // the source knows that the peer has it
  bool asked_ = false;  // the journal, for records, since the stream began
  bool backlog_known_ = false;
  bool let_go_ = false;
  std::optional<Epoch> peer_epoch_;
  std::optional<Error> error_;
  std::deque<Drain> drains_;
  Micros armed_for_{0};
};

}  // namespace hf::keeper
