// Source and Target: a daemon's two ends of replication, as the real one drives Sender and
// Receiver: frames to and from the network, the feed and the vaults asked over a socket's delay,
// reconnects.
#pragma once

#include <memory>

#include "journal/journal.h"
#include "replication/receiver.h"
#include "replication/sender.h"
#include "sim/world/network.h"

namespace hf::sim {

class Site;

class Source final : public Endpoint, private journal::SealedRead {
 public:
  Source(Site& home, Site& peer, replication::SenderOptions options);
  ~Source();
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  void on_message(ConnectionId connection, ByteSpan message) override;
  void on_closed(ConnectionId connection) override;
  void poll();
  void keeper_gone();  // a question to its journal gets no answer any more

  const replication::Sender& sender() const { return sender_; }
  bool asking() const { return reading_; }

 private:
  void on_sealed(Result<journal::SealedBatch> batch) override;
  void perform();
  void received(const replication::Frame& frame);
  void judge_belief();
  template <typename Question>
  void ask(const Question& question);
  void question(journal::Journal& journal, const replication::WantRecords& want);
  void question(journal::Journal& journal, const replication::WantSeed&);
  void question(journal::Journal& journal, const replication::WantSeedBytes& want);
  void answer(const journal::SealedBatch& batch);
  void hang_up();
  template <typename What>
  void later(uint64_t delay_us, What what);

  Site& home_;
  Site& peer_;
  SimRng session_rng_;
  replication::Sender sender_;
  std::optional<journal::LineEnd> believed_;  // of the replica, as judged so far
  replication::FrameReader reader_;
  std::optional<ConnectionId> connection_;
  bool seed_bytes_asked_ = false;
  bool reading_ = false;  // the journal holds this as its reader
  bool connected_before_ = false;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

class Target final : public Endpoint {
 public:
  Target(Site& site, SimRng session_rng) : site_(site), session_rng_(std::move(session_rng)) {}
  ~Target();
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  void serve(journal::ReplicaJournal& replica, replication::ReceiverOptions options);
  void stop_serving();  // the replica journal is gone already, or goes now
  void hang_up();       // the daemon died
  void on_message(ConnectionId connection, ByteSpan message) override;
  void on_closed(ConnectionId connection) override;
  void poll();
  bool serving() const { return receiver_ != nullptr; }

 private:
  void take_connection(ConnectionId connection);
  void perform();
  void judge_outgoing(const Bytes& frame);
  template <typename Question, typename Answer>
  void ask_vault(const Question& question, Answer answer);

  Site& site_;
  SimRng session_rng_;
  std::unique_ptr<replication::Receiver> receiver_;
  replication::FrameReader reader_;
  std::optional<ConnectionId> connection_;
};

}  // namespace hf::sim
