#include "peer/link_client_impl.h"

#include <sys/socket.h>

#include <algorithm>

#include "peer/address.h"
#include "sys/bounded_io.h"

namespace hf::peer {

using namespace std::chrono_literals;

namespace {

constexpr Millis kSendLimit = 5s;
constexpr Millis kConnectLimit = 1s;
constexpr Millis kPauseFirst = 50ms;
constexpr Millis kPauseMax = 2s;
constexpr size_t kEventsMax = 16'384;
// Questions that wait here, of a lane: some sites' at their worst, what the links let one have
// unanswered twice.
constexpr size_t kQuestionsMax = 512;
constexpr size_t kQuestionsPerSiteMax = 64;
static_assert(kQuestionsPerSiteMax == 2 * kQuestionsPerPeerMax);
// A site whose every VM asks for its stream at the same time has to come again with some.
constexpr size_t kStreamAsksMax = 2048;
constexpr size_t kStreamAsksPerSiteMax = 512;
constexpr size_t kAsideMax = 512;

WorkersLimits lane(size_t threads) {
  return {
      .threads = threads, .queue_max = kQuestionsMax, .queue_per_site_max = kQuestionsPerSiteMax};
}

Micros wall_time() {
  return Micros(static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                          std::chrono::system_clock::now().time_since_epoch())
                                          .count()));
}

Error broken(std::string cause) {
  return {.code = ErrorCode::kCorrupt, .cause = "holdfast-link: " + std::move(cause)};
}

}  // namespace

Error link_gone() {
  return {.code = ErrorCode::kUnavailable,
          .cause = "holdfast-link ended; it is started again",
          .effect = "whether the other site did what it was asked is not known",
          .mend = "try again"};
}

// ---- Wire ----

Status Wire::send_locked(LinkType type, uint64_t id, ByteSpan body, uint8_t flags, int fd) {
  std::vector<int> fds;
  if (fd >= 0) fds.push_back(fd);
  Status sent =
      sys::send_message(socket_.get(), encode_link_message(type, id, body, flags), fds, kSendLimit);
  if (sent.ok()) return {};
  close();
  return Error{.code = ErrorCode::kUnavailable,
               .cause = "holdfast-link does not take messages: " + sent.error().cause,
               .mend =
                   "try again: it is started anew by itself; run/log/link.log in the state "
                   "directory says why it ended"};
}

Status Wire::send(LinkType type, uint64_t id, ByteSpan body, uint8_t flags, int fd) {
  const std::lock_guard lock(mutex_);
  return send_locked(type, id, body, flags, fd);
}

Status Wire::send_text(LinkType type, uint64_t id, std::string_view text) {
  if (text.size() > kLinkBodyMax)
    return Error{.code = ErrorCode::kLimit, .cause = "a message to holdfast-link is too long"};
  return send(type, id, as_bytes(text));
}

Status Wire::send_parts(LinkType first, LinkType more, uint64_t id, Bytes head, ByteSpan body) {
  const std::lock_guard lock(mutex_);
  const size_t begin = std::min(body.size(), kPartMax);
  head.insert(head.end(), body.begin(), body.begin() + static_cast<ptrdiff_t>(begin));
  TRY(send_locked(first, id, head, 0, -1));
  for (body = body.subspan(begin); !body.empty();) {
    const ByteSpan part = body.first(std::min(body.size(), kPartMax));
    TRY(send_locked(more, id, part, 0, -1));
    body = body.subspan(part.size());
  }
  return {};
}

void Wire::close() { ::shutdown(socket_.get(), SHUT_RDWR); }

void PairChannel::end(std::optional<Error> why) {
  const std::lock_guard lock(mutex);
  if (over) return;
  over = true;
  error = std::move(why);
  changed.notify_all();
}

// ---- The client ----

std::unique_ptr<LinkClient> LinkClient::start(LinkClientOptions options,
                                              std::vector<PeerSettings> peers) {
  return std::make_unique<LinkClientImpl>(std::move(options), std::move(peers));
}

Result<sys::JsonObject> LinkClient::call_json(SiteId site, const sys::JsonObject& request,
                                              Millis limit, Delivery* delivery) {
  const Bytes answer = TRY(call(site, as_bytes(sys::to_text(request)), limit, delivery));
  return sys::parse_json_object(as_text(answer), {.bytes_max = kAnswerMax});
}

LinkClientImpl::LinkClientImpl(LinkClientOptions options, std::vector<PeerSettings> peers)
    : options_(std::move(options)),
      events_({.threads = 1, .queue_max = kEventsMax}),
      short_(lane(kShortWorkers)),
      orders_(lane(kOrderWorkers)),
      long_(lane(kLongWorkers)),
      stream_workers_({.threads = kStreamWorkers,
                       .queue_max = kStreamAsksMax,
                       .queue_per_site_max = kStreamAsksPerSiteMax}),
      aside_({.threads = kAsideWorkers, .queue_max = kAsideMax}) {
  for (PeerSettings& peer : peers) {
    if (peers_.size() >= kPeersMax) break;
    const SiteId site = peer.site;
    // Known before the link is ready: the first question finds its way.
    std::vector<std::string> addresses;
    if (is_numeric(peer.address)) addresses.push_back(peer.address);
    peers_[site] = Peer{
        .settings = std::move(peer), .addresses = std::move(addresses), .state = {.site = site}};
  }
  reader_ = std::thread([this] { read_loop(); });
}

LinkClientImpl::~LinkClientImpl() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (connecting_) connecting_->close();
    changed_.notify_all();
  }
  reader_.join();
  for (Workers* workers : {&short_, &orders_, &long_, &stream_workers_, &aside_}) workers->finish();
  events_.finish();
}

void LinkClientImpl::pause(Millis time) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, time, [this] { return stopping_.load(); });
}

void LinkClientImpl::note(Status status) {
  const std::lock_guard lock(mutex_);
  status_ = std::move(status);
  changed_.notify_all();
}

LinkClientImpl::WirePtr LinkClientImpl::current() {
  const std::lock_guard lock(mutex_);
  return wire_;
}

// False: whoever takes the events does not keep up with what the link invents.
bool LinkClientImpl::post_event(std::move_only_function<void()> event) {
  return events_.post(std::move(event));
}

void LinkClientImpl::read_loop() {
  Millis wait = kPauseFirst;
  while (!stopping_) {
    Result<sys::UniqueFd> socket =
        sys::connect_unix_within(options_.socket_path, kConnectLimit, sys::SocketType::kSeqPacket);
    if (!socket.ok()) {
      note(std::move(socket).error().context("holdfast-link"));
      pause(wait);
      wait = std::min(wait * 2, kPauseMax);
      continue;
    }
    auto wire = std::make_shared<Wire>(*std::move(socket));
    {
      const std::lock_guard lock(mutex_);
      connecting_ = wire;
      if (stopping_) return;
    }
    serve(wire);
    bool was_ready = false;
    {
      const std::lock_guard lock(mutex_);
      was_ready = wire_ != nullptr;
      wire_.reset();
      connecting_.reset();
      if (status_.ok()) status_ = link_gone();
    }
    fail_all(link_gone());
    wait = was_ready ? kPauseFirst : std::min(wait * 2, kPauseMax);
    if (!stopping_) pause(wait);
  }
}

void LinkClientImpl::serve(const WirePtr& wire) {
  while (!stopping_) {
    Result<sys::Message> message = sys::receive_message(
        wire->fd(), kLinkMessageMax, std::min<Millis>(60s, options_.look_at_leaf_again));
    renew_leaf(wire);
    if (!message.ok() && message.error().code == ErrorCode::kTimeout) continue;
    if (!message.ok()) return note(message.error());
    if (message->data.empty()) return;
    const Result<LinkMessage> decoded = decode_link_message(message->data);
    Status taken = decoded.ok() ? take(wire, *decoded) : decoded.error();
    if (!taken.ok()) {
      wire->close();
      return note(std::move(taken));
    }
  }
}

Status LinkClientImpl::take(const WirePtr& wire, const LinkMessage& message) {
  switch (message.type) {
    case LinkType::kIdentity:
      return configure(wire, message.body);
    case LinkType::kConfigured:
      return take_configured(wire, message.body);
    case LinkType::kPeerState:
      return take_peer_state(message.body);
    case LinkType::kAnswer:
      return take_answer(message);
    case LinkType::kAnswerMore:
      return take_answer_more(message);
    case LinkType::kAsk:
      return take_ask(wire, message);
    case LinkType::kAskMore:
      return take_ask_more(wire, message);
    case LinkType::kCancel:
      take_cancel(message.id);
      return {};
    case LinkType::kOpen:
      return take_stream_ask(wire, message);
    case LinkType::kOpened:
      return take_opened(message);
    case LinkType::kRefuse:
    case LinkType::kEnded:
      return take_ended(message);
    case LinkType::kPairUp:
      return take_pair_up(wire, message);
    case LinkType::kPairMessage:
      return take_pair_message(message);
    default:
      return broken("a message that it does not send");
  }
}

Status LinkClientImpl::configure(const WirePtr& wire, ByteSpan body) {
  const Identity identity = TRY(decode_body<Identity>(body));
  if (identity.version != kLinkProtocolVersion) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "holdfast-link is of another version than holdfastd",
                 .effect = "no other site is reached",
                 .mend = "install Holdfast again: script/bootstrap"};
  }
  link_key_pem_ = identity.public_key_pem;
  const std::lock_guard sending(peers_sending_);
  TRY(configure_link(wire));
  std::map<SiteId, Peer> peers;
  {
    const std::lock_guard lock(mutex_);
    peers = peers_;
  }
  for (const auto& [site, peer] : peers) TRY(send_peer(wire, peer));
  return wire->send(LinkType::kPeersEnd, 0, {});
}

Status LinkClientImpl::configure_link(const WirePtr& wire) {
  if (!options_.handlers.issue_leaf)
    return Error{.code = ErrorCode::kInternal, .cause = "nobody issues the link's certificate"};
  leaf_.reset();
  leaf_looked_at_ = std::chrono::steady_clock::now();
  Result<std::string> leaf = options_.handlers.issue_leaf(link_key_pem_);
  if (!leaf.ok()) return std::move(leaf).error().context("the link's certificate");
  if (auto issued = crypto::Certificate::from_pem(*leaf); issued.ok()) leaf_ = *std::move(issued);
  const Configure configure{.site = options_.identity.site,
                            .name = options_.identity.name,
                            .leaf_pem = *leaf,
                            .ca_pem = options_.identity.ca_pem};
  return wire->send_text(LinkType::kConfigure, 0, sys::encode_json_text(configure));
}

// A clock that was wrong when it was issued has been set, or it has grown old. Nobody refuses it
// for that, so a vault that does not answer is asked again next time.
void LinkClientImpl::renew_leaf(const WirePtr& wire) {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (now - leaf_looked_at_ < options_.look_at_leaf_again || current() != wire) return;
  leaf_looked_at_ = now;
  if (leaf_ && leaf_->valid_at(wall_time())) return;
  static_cast<void>(configure_link(wire));
}

Status LinkClientImpl::take_configured(const WirePtr& wire, ByteSpan body) {
  if (!body.empty()) return decode_error_body(body).error;
  std::vector<SiteId> sites;
  {
    const std::lock_guard lock(mutex_);
    wire_ = wire;
    status_ = {};
    changed_.notify_all();
    for (const auto& [site, peer] : peers_) sites.push_back(site);
  }
  for (const SiteId site : sites) {
    // What was set between the list and here.
    const std::lock_guard sending(peers_sending_);
    std::optional<Peer> peer;
    {
      const std::lock_guard lock(mutex_);
      if (const auto at = peers_.find(site); at != peers_.end()) peer = at->second;
    }
    if (peer) TRY(send_peer(wire, *peer));
  }
  for (const SiteId site : sites) look_up(site);
  return {};
}

Status LinkClientImpl::wait_ready(Millis limit) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, limit, [this] { return wire_ != nullptr || stopping_; });
  if (wire_ != nullptr) return {};
  HF_ASSERT(!status_.ok());
  return status_;
}

void LinkClientImpl::fail_all(const Error& error) {
  // Nobody waits for it any more.
  for (Workers* workers : {&short_, &orders_, &long_, &stream_workers_}) workers->drop_all();
  std::map<uint64_t, Stream> streams;
  std::map<uint64_t, std::shared_ptr<PairChannel>> pairings;
  std::vector<PeerState> states;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [id, call] : calls_) call->result = error;
    calls_.clear();
    questions_.clear();
    streams.swap(streams_);
    wire_ids_.clear();
    pairings.swap(pairings_);
    for (auto& [site, peer] : peers_) {
      peer.state.reach = Reach::kUnknown;
      peer.state.error = error;
      states.push_back(peer.state);
    }
    changed_.notify_all();
  }
  for (auto& [id, channel] : pairings) channel->end(error);
  for (const auto& [id, stream] : streams) {
    post_stream_event({.id = stream.id,
                       .kind = StreamEvent::Kind::kEnded,
                       .site = stream.site,
                       .vm = stream.vm,
                       .incoming = stream.incoming,
                       .error = error});
  }
  if (!options_.handlers.on_peer) return;
  for (PeerState& state : states) {
    post_event([this, state = std::move(state)] { options_.handlers.on_peer(state); });
  }
}

}  // namespace hf::peer
