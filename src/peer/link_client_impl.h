// How LinkClient is made. One connection to the link is a Wire; what was sent over one that is gone
// fails. `mutex_` guards the tables; nothing is sent and no handler runs under it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "peer/link_client.h"
#include "peer/link_protocol.h"
#include "peer/workers.h"

namespace hf::peer {

using SteadyTime = std::chrono::steady_clock::time_point;

// A connection to the link, for whoever has something to send.
class Wire {
 public:
  explicit Wire(sys::UniqueFd socket) : socket_(std::move(socket)) {}
  // kUnavailable: the link is gone; then the reader learns it too.
  Status send(LinkType type, uint64_t id, ByteSpan body, uint8_t flags = 0, int fd = -1);
  Status send_text(LinkType type, uint64_t id, std::string_view text);
  // A question or an answer: the head's message, then the rest. One at a time.
  Status send_parts(LinkType first, LinkType more, uint64_t id, Bytes head, ByteSpan body);
  void close();  // wakes the reader
  int fd() const { return socket_.get(); }

 private:
  Status send_locked(LinkType type, uint64_t id, ByteSpan body, uint8_t flags, int fd);

  sys::UniqueFd socket_;
  std::mutex mutex_;  // of senders
};

// What a PairingSession and the reader share.
struct PairChannel {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<PairUp> up;
  std::deque<Bytes> inbox;  // at most kPairInboxMax
  bool over = false;
  std::optional<Error> error;

  void end(std::optional<Error> why);
};
inline constexpr size_t kPairInboxMax = 8;
inline constexpr size_t kPairingsMax = 2;  // that run at once, of strangers

class LinkClientImpl final : public LinkClient {
 public:
  LinkClientImpl(LinkClientOptions options, std::vector<PeerSettings> peers);
  ~LinkClientImpl() override;

  Status wait_ready(Millis limit) override;
  Status set_peer(const PeerSettings& peer) override;
  void remove_peer(SiteId site) override;
  std::vector<PeerState> peer_states() override;
  Result<Bytes> call(SiteId site, ByteSpan request, Millis limit, Delivery* delivery) override;
  Result<StreamId> open_stream(SiteId site, VmId vm, sys::UniqueFd keeper) override;
  void close_stream(StreamId id) override;
  Result<std::unique_ptr<PairingSession>> pair(const std::string& address, Millis limit) override;

 private:
  using WirePtr = std::shared_ptr<Wire>;

  struct Call {
    SiteId site;
    Bytes gathered;
    PartCounter parts;
    std::optional<Result<Bytes>> result;
    bool unheard = false;  // with an error
  };
  struct Question {  // of another site, as it comes in
    SiteId site;
    Millis limit{0};
    SteadyTime came;
    Bytes gathered;
    PartCounter parts;
  };
  struct Stream {
    StreamId id;
    SiteId site;
    VmId vm;
    bool incoming = false;
  };
  struct Peer {
    PeerSettings settings;
    std::vector<std::string> addresses;
    std::optional<SteadyTime> looked_up;
    bool looking_up = false;
    PeerState state;
  };

  // link_client.cpp: the connection
  void read_loop();
  void pause(Millis time);
  void serve(const WirePtr& wire);
  Status take(const WirePtr& wire, const LinkMessage& message);
  Status configure(const WirePtr& wire, ByteSpan body);
  Status configure_link(const WirePtr& wire);
  void renew_leaf(const WirePtr& wire);
  Status take_configured(const WirePtr& wire, ByteSpan body);
  void fail_all(const Error& error);
  WirePtr current();
  void note(Status status);
  bool post_event(std::move_only_function<void()> event);

  // link_client_peers.cpp
  Status send_peer(const WirePtr& wire, const Peer& peer);
  void look_up(SiteId site);
  Status take_peer_state(ByteSpan body);

  // link_client_calls.cpp: questions and streams
  std::optional<Result<Bytes>> wait_answer(const WirePtr& wire, uint64_t id, Call& call,
                                           SteadyTime give_up, SteadyTime end);
  Status take_answer(const LinkMessage& message);
  Status take_answer_more(const LinkMessage& message);
  void settle(uint64_t id, Result<Bytes> result);
  Status take_ask(const WirePtr& wire, const LinkMessage& message);
  Status take_ask_more(const WirePtr& wire, const LinkMessage& message);
  void take_cancel(uint64_t id);
  Workers& lane_of(ByteSpan request);
  void run_question(const WirePtr& wire, uint64_t id, Question question);
  void answer(const WirePtr& wire, uint64_t id, const Result<Bytes>& answer);
  void answer_unheard(const WirePtr& wire, uint64_t id, const Error& error);
  Status take_stream_ask(const WirePtr& wire, const LinkMessage& message);
  void run_stream_ask(const WirePtr& wire, uint64_t id, const StreamAsk& ask);
  Status take_opened(const LinkMessage& message);
  Status take_ended(const LinkMessage& message);
  bool post_stream_event(StreamEvent event);

  // link_client_pairing.cpp
  Status take_pair_up(const WirePtr& wire, const LinkMessage& message);
  Status take_pair_message(const LinkMessage& message);
  void run_pairing(const WirePtr& wire, uint64_t id, std::shared_ptr<PairChannel> channel,
                   PairUp up);
  std::shared_ptr<PairChannel> forget_pairing(uint64_t id);

  const LinkClientOptions options_;
  std::atomic<bool> stopping_ = false;
  std::atomic<uint64_t> next_id_ = 1;

  std::mutex mutex_;
  std::condition_variable changed_;
  WirePtr wire_;  // connected and configured
  WirePtr connecting_;
  Status status_ =
      Error{.code = ErrorCode::kUnavailable, .cause = "holdfast-link is not there yet"};
  std::map<uint64_t, std::shared_ptr<Call>> calls_;
  std::map<uint64_t, Question> questions_;
  std::map<uint64_t, Stream> streams_;  // by the id on the wire
  std::map<StreamId, uint64_t> wire_ids_;
  std::map<uint64_t, std::shared_ptr<PairChannel>> pairings_;
  size_t pairings_running_ = 0;
  std::map<SiteId, Peer> peers_;

  // Of the reader: the link's key, and its certificate if it has one.
  std::string link_key_pem_;
  std::optional<crypto::Certificate> leaf_;
  SteadyTime leaf_looked_at_;

  std::mutex peers_sending_;  // taken before mutex_: peers go to the link in order

  Workers events_;
  Workers short_;
  Workers orders_;
  Workers long_;
  Workers stream_workers_;
  Workers aside_;
  std::thread reader_;
};

// What is said of anything under way when the link goes.
Error link_gone();

}  // namespace hf::peer
