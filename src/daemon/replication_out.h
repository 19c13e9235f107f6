// Ships one VM's journal to its peer: a thread that carries bytes between the keeper's feed, the
// Sender and a TLS connection. Connects again for ever; the guest never waits for it.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "daemon/feed_client.h"
#include "daemon/forward_clock.h"
#include "daemon/services.h"
#include "daemon/tls.h"
#include "replication/sender.h"
#include "sys/system_clock.h"

namespace hf::daemon {

class OutgoingStream {
 public:
  OutgoingStream(Services& services, VmId vm, SiteId peer);
  ~OutgoingStream();
  OutgoingStream(const OutgoingStream&) = delete;
  OutgoingStream& operator=(const OutgoingStream&) = delete;

  // The VM was started: under a new incarnation, perhaps a new epoch.
  void vm_started() { restart_ = true; }
  // {"state","rpo_ms","acknowledged","home_durable","lag_records","lag_bytes","error"?}; while a
  // seed is under way also {"seed_bytes_done","seed_bytes_total"}
  sys::JsonObject show();
  // Waits until the replica has everything that is durable here; false: it has not.
  bool drain(std::chrono::milliseconds limit);

 private:
  struct View {
    std::string state = "waiting";  // waiting, connecting, seeding, streaming, halted
    bool caught_up = false;
    uint64_t rpo_us = 0;
    uint64_t lag_records = 0;
    uint64_t unacknowledged_bytes = 0;
    Sequence home_durable;
    std::optional<journal::LineEnd> acknowledged;
    std::optional<replication::Sender::SeedProgress> seeding;
    std::optional<Error> error;
    std::chrono::steady_clock::time_point at{};
  };

  void run();
  Result<std::unique_ptr<replication::Sender>> make_sender();
  void serve_connection(replication::Sender& sender);
  Status pump(replication::Sender& sender, TlsStream& tls);
  Status apply(replication::Sender& sender, TlsStream& tls, std::optional<FeedClient>& feed);
  Error last_words(replication::Sender& sender, TlsStream& tls, Error failed);
  Status ask_feed(std::optional<FeedClient>& feed, const replication::Effect& question);
  Status take_from_peer(replication::Sender& sender, TlsStream& tls);
  void take_from_feed(replication::Sender& sender, std::optional<FeedClient>& feed);
  void look_at_backlog(replication::Sender& sender);
  void ask_peer_once();
  void learn_epoch(Epoch epoch);
  void stop_if_superseded();
  void pin_acknowledged(const replication::Sender& sender);
  void publish(const replication::Sender& sender, std::string_view state);
  void publish_error(std::string_view state, const Error& error);
  bool keeper_runs();
  void sleep(std::chrono::milliseconds time);

  Services& services_;
  sys::SystemClock system_clock_;
  ForwardClock clock_{system_clock_};  // the stream's thread alone
  const VmId vm_;
  const SiteId peer_;
  std::string control_;
  std::string feed_path_;
  replication::FrameReader reader_;
  enum class Question : uint8_t { kRecords, kSeed, kSeedBytes };
  bool feed_asked_ = false;
  Question question_ = Question::kRecords;  // the one that is out
  Sequence home_durable_;
  Sequence pinned_;
  std::chrono::steady_clock::time_point pinned_at_{};
  std::chrono::steady_clock::time_point asked_peer_at_{};
  std::chrono::steady_clock::time_point looked_at_{};
  bool peer_knows_us_ = false;

  std::atomic<bool> stopping_ = false;
  std::atomic<bool> restart_ = false;
  std::mutex mutex_;
  View view_;
  std::thread thread_;
};

}  // namespace hf::daemon
