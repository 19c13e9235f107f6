// LinkClient: holdfastd's side of holdfast-link. The link carries; what is decided is decided here.
//
// One connection to run/link.sock. The link makes its TLS key at each start and asks for a
// certificate; the client gets one (LinkHandlers::issue_leaf), names the peers and goes on. When
// the link dies, every call, stream and pairing under way fails, and the client connects again by
// itself for as long as it lives.
//
// Threads, however many VMs there are: one reads the link's messages, one runs `on_stream` and
// `on_peer` in order, and each kind of work has workers of its own (the numbers below), so that
// none waits for another: questions by their lane, stream asks, first contacts and look-ups of
// names. Of each kind one site has at most two thirds (at least one) at work, what else it asks
// waits, up to a bound of its own. All methods may be called from any thread, also from handlers.
//
// What comes from another site (texts of errors, requests) is bounded and cleaned here; what it
// means is for the handlers to judge. A link that was taken over can hold back and invent
// messages: no handler may believe more of one than what it proves itself.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "crypto/x509.h"
#include "sys/fd.h"
#include "sys/json.h"

namespace hf::peer {

using Millis = std::chrono::milliseconds;

inline constexpr size_t kRequestMax = size_t{256} << 10;  // bytes of a question
inline constexpr size_t kAnswerMax = size_t{1} << 20;     // bytes of an answer
inline constexpr Millis kQuestionLimitMax{300'000};
inline constexpr size_t kRefusalDetailMax = 2048;   // bytes of JSON
inline constexpr size_t kPairMessageMax = 16'000;   // bytes
inline constexpr size_t kPeersMax = 256;            // paired sites
inline constexpr size_t kStreamsPerPeerMax = 1024;  // each way
inline constexpr size_t kQuestionsPerPeerMax = 32;  // unanswered, each way

inline constexpr size_t kShortWorkers = 3;
inline constexpr size_t kOrderWorkers = 9;
inline constexpr size_t kLongWorkers = 6;
inline constexpr size_t kStreamWorkers = 3;
inline constexpr size_t kAsideWorkers = 4;

// Who this site is. `site` must be the one that the certificates of `issue_leaf` name.
struct LinkIdentity {
  SiteId site;
  std::string name;
  std::string ca_pem;
};

struct PeerSettings {
  SiteId site;
  std::string name;    // for texts
  std::string ca_pem;  // pinned at pairing: who does not verify under it is not this site
  // HOST:PORT. A name is looked up by the client (the link has no files to do it with), again
  // whenever the peer cannot be reached or somebody else answers there, at most once in 30 s.
  std::string address;
  // The link keeps a connection up, with ever longer pauses while there is none. Else it connects
  // when something is asked or a stream is opened.
  bool keep_connected = false;
};

enum class Reach {
  kUnknown,  // nothing was asked yet, or the link itself is not there
  kConnected,
  kUnreachable,
  kWrongCertificate,  // it came, or answered, with a certificate that is not the pinned one
};
std::string_view to_string(Reach reach);  // as `holdfast site peers` shows it

struct PeerState {
  SiteId site;
  Reach reach = Reach::kUnknown;
  std::optional<Micros> last_seen;  // wall time; while connected: now, by at most 15 s
  std::optional<Error> error;       // why it is not connected
  // By how much its clock was ahead of ours when it last told its time; negative: behind.
  std::optional<int64_t> clock_ahead_us = {};
};

// No trust rests on clocks, but a token, a report and a log that are read at another site do.
inline constexpr int64_t kClockOffUs = 60'000'000;
constexpr bool clock_is_off(int64_t ahead_us) {
  return ahead_us >= kClockOffUs || ahead_us <= -kClockOffUs;
}
// "the clock of site south is 1 day 2 h ahead of this one's", or that it is not.
std::string clock_words(std::string_view site, int64_t ahead_us);

using StreamId = StrongNumber<struct StreamIdTag, uint64_t>;  // never used again by a client

// Why a stream is refused. The detail is whatever the two daemons agree on (an epoch, say).
struct StreamRefusal {
  Error error;
  sys::JsonObject detail = {};
};

struct StreamEvent {
  enum class Kind {
    kOpened,  // the other side gave a socket too: bytes pass
    kEnded,   // last event of a stream; the link has closed its end of the keeper's socket
  };
  StreamId id;
  Kind kind = Kind::kEnded;
  SiteId site;
  VmId vm;
  bool incoming = false;  // the other side asked for it
  // kEnded: why. Absent where both keepers closed in order.
  std::optional<Error> error;
  bool refused = false;         // kEnded: the other daemon's refusal, never opened
  sys::JsonObject detail = {};  // with a refusal
};

// What another site's daemon asks: a connected stream socket to the VM's keeper, or a refusal.
struct StreamAsk {
  StreamId id;
  SiteId site;
  VmId vm;
};
struct StreamReply {
  sys::UniqueFd keeper;
  std::optional<StreamRefusal> refusal = {};
};

// First contact with a site that is not trusted yet, by TLS connections of their own. The proofs
// are the caller's business; the link hands over what they are made of. Used by one thread.
class PairingSession {
 public:
  virtual ~PairingSession() = default;  // ends the connection
  virtual bool incoming() const = 0;
  // Keying material of this connection alone (RFC 8446, 7.5).
  virtual const Digest& exporter() const = 0;
  // As the other side sent it, leaf first; nothing of it is verified yet (trust.h).
  virtual const std::vector<crypto::Certificate>& peer_chain() const = 0;
  virtual const std::string& peer_address() const = 0;
  virtual Status send(const sys::JsonObject& message) = 0;
  // The other side's {"error":…} becomes the error. kTimeout; kUnavailable: it has closed.
  virtual Result<sys::JsonObject> receive(Millis limit) = 0;
};

// What a question waits behind: others of its lane.
enum class Lane {
  kShort,  // answered from what is in memory or in the catalog
  kOrder,  // takes seconds, and somebody waits for it: a guest that has to stop
  kLong,   // all others
};

struct LinkHandlers {
  // A certificate for the link's new key (PEM of the public half), naming this site. May block.
  std::function<Result<std::string>(const std::string& public_key_pem)> issue_leaf;
  // Answers another site's question; `limit` is how long it waits. On a worker. At most kRequestMax
  // come in, at most kAnswerMax go out. Not called for one that nobody waits for any more.
  std::function<Result<Bytes>(SiteId site, ByteSpan request, Millis limit)> on_request;
  // On the reader's thread: must not block. Absent: all are kLong.
  std::function<Lane(ByteSpan request)> lane_of;
  // On a worker.
  std::function<StreamReply(const StreamAsk& ask)> on_stream_asked;
  // In order, on the event thread: must not block.
  std::function<void(const StreamEvent& event)> on_stream;
  std::function<void(const PeerState& state)> on_peer;
  // A stranger that wants to pair. On a worker, two at a time at most; may block. The session goes
  // when it returns.
  std::function<void(PairingSession& session)> on_pairing;
};

struct LinkClientOptions {
  std::string socket_path;  // run/link.sock
  LinkIdentity identity;
  LinkHandlers handlers;  // any may be absent: then it is refused
  // Numeric addresses of a HOST:PORT. May block. Absent: the system's resolver.
  std::function<Result<std::vector<std::string>>(const std::string& address)> resolve = {};
  Millis look_up_again{30'000};
  Millis look_at_leaf_again{60'000};  // whether the link's certificate is still one for this time
};

// How far a question comes, for who has to know what a call that failed leaves behind.
struct Delivery {
  // It is taken back if it is not on its way to the other site by then.
  Millis within = kQuestionLimitMax;
  // Set by the call. True: it failed, and the other site's holdfastd does not have the question and
  // will not get it: nothing was asked. False: it was answered, if by an error, or the connection
  // or the time ended when the question had left: it may have been done. As the links say; one
  // that was taken over can lie about either.
  bool unheard = false;
};

class LinkClient {
 public:
  // Starts the threads; connects in the background.
  static std::unique_ptr<LinkClient> start(LinkClientOptions options,
                                           std::vector<PeerSettings> peers);
  virtual ~LinkClient() = default;  // ends everything under way and waits for its handlers
  // Until the link is configured and serves. kUnavailable says what is in the way.
  virtual Status wait_ready(Millis limit) = 0;

  // Adds a peer or changes it; a connection under another CA than the new one is ended.
  virtual Status set_peer(const PeerSettings& peer) = 0;
  // Ends all with it; it is a stranger from now on.
  virtual void remove_peer(SiteId site) = 0;
  virtual std::vector<PeerState> peer_states() = 0;

  // Asks the other site's daemon. Its error, cleaned, becomes the error here. kUnavailable: it was
  // not reached, or was lost while it worked; kTimeout: no answer; kLimit: too many questions are
  // under way. As its own errors may have these codes too, who has to tell "nothing was asked" from
  // "it may have been done" looks at `delivery`, not at the code.
  virtual Result<Bytes> call(SiteId site, ByteSpan request, Millis limit,
                             Delivery* delivery = nullptr) = 0;
  Result<sys::JsonObject> call_json(SiteId site, const sys::JsonObject& request, Millis limit,
                                    Delivery* delivery = nullptr);

  // Carries bytes between `keeper` (a connected stream socket, here) and what the other site's
  // daemon gives for `vm`. Returns at once; on_stream tells the rest. An error here: no event
  // comes.
  virtual Result<StreamId> open_stream(SiteId site, VmId vm, sys::UniqueFd keeper) = 0;
  // No effect on a stream that has ended. kEnded still comes.
  virtual void close_stream(StreamId id) = 0;

  // Connects to `address` for a first contact. kUnavailable; kTimeout.
  virtual Result<std::unique_ptr<PairingSession>> pair(const std::string& address,
                                                       Millis limit) = 0;
};

}  // namespace hf::peer
