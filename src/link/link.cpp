#include "link/link.h"

#include <algorithm>

#include "peer/trust.h"

namespace hf::link {

using peer::LinkType;

namespace {

constexpr size_t kPairingsMax = 4;  // of strangers at once
constexpr size_t kPairingDialsMax = 4;

Error broken(std::string cause) {
  return {.code = ErrorCode::kCorrupt, .cause = "holdfastd: " + std::move(cause)};
}

Bytes error_body(const Error& error) { return peer::encode_error_body({.error = error}); }

}  // namespace

Link::Link(EventLoop& loop, Log& log, crypto::KeyPair key, LinkOptions options)
    : loop_(loop),
      log_(log),
      key_(std::move(key)),
      daemon_(loop, std::move(options.daemon_listener),
              {.connected = [this] { daemon_connected(); },
               .gone = [this] { daemon_gone(); },
               .message =
                   [this](const peer::LinkMessage& message, std::vector<sys::UniqueFd> fds) {
                     return take(message, std::move(fds));
                   }}),
      lobby_(loop, log, std::move(options.peer_listener), options.lobby,
             [this](std::unique_ptr<TlsChannel> channel, const SocketAddress& address) {
               arrived(std::move(channel), address);
             }) {}

Link::~Link() = default;

Status Link::start() { return daemon_.start(); }

void Link::send(LinkType type, uint64_t id, ByteSpan body, uint8_t flags) {
  if (configured_) daemon_.send(type, id, body, flags);
}

uint64_t Link::new_id(SiteId site) {
  routes_[++next_id_] = site;
  return next_id_;
}

PeerLine* Link::line_of(uint64_t id) {
  const auto route = routes_.find(id);
  if (route == routes_.end()) return nullptr;
  const auto at = peers_.find(route->second);
  return at == peers_.end() ? nullptr : at->second.get();
}

// ---- holdfastd ----

void Link::daemon_connected() {
  for (const auto& [site, line] : peers_) line->daemon_new();
  const peer::Identity identity{.public_key_pem = key_.public_key().to_pem()};
  daemon_.send(LinkType::kIdentity, 0, as_bytes(sys::encode_json_text(identity)), 0);
}

// What is connected stays so; what waits for an answer of it is told.
void Link::daemon_gone() {
  configured_ = false;
  log_.line(LogKind::kDaemon, "holdfastd is gone");
  for (const auto& [site, line] : peers_) line->daemon_gone();
  while (!pairings_.empty())
    pairings_.begin()->second->end({.code = ErrorCode::kUnavailable, .cause = "holdfastd is gone"});
  pairing_dials_.clear();
}

Status Link::take(const peer::LinkMessage& message, std::vector<sys::UniqueFd> fds) {
  switch (message.type) {
    case LinkType::kConfigure:
      return take_configure(message.body);
    case LinkType::kPeer:
      return take_peer(message.body);
    case LinkType::kPeersEnd:
      return take_peers_end();
    case LinkType::kForget:
      forget(TRY(peer::decode_site(message.body)));
      return {};
    default:
      break;
  }
  if (!configured_) return broken("a message before the link is configured");
  switch (message.type) {
    case LinkType::kAsk:
      return take_ask(message);
    case LinkType::kOpen:
      return take_open(message, std::move(fds));
    case LinkType::kPairDial:
      return take_pair_dial(message);
    case LinkType::kPairMessage:
      if (const auto at = pairings_.find(message.id); at != pairings_.end())
        at->second->send(message.body);
      return {};
    default:
      return take_of_session(message, std::move(fds));
  }
}

Status Link::take_configure(ByteSpan body) {
  const peer::Configure wanted = TRY(peer::decode_body<peer::Configure>(body));
  // A new certificate, and nothing else: all that is connected goes on.
  if (configured_) return configure(wanted);
  named_.clear();
  configured_ = false;
  Status done = configure(wanted);
  if (done.ok()) return {};
  daemon_.send(LinkType::kConfigured, 0, error_body(done.error()), 0);
  return {};
}

Status Link::configure(const peer::Configure& wanted) {
  if (site_ && *site_ != wanted.site)
    return Error{.code = ErrorCode::kConflict, .cause = "the link serves another site already"};
  const crypto::Certificate leaf = TRY(crypto::Certificate::from_pem(wanted.leaf_pem));
  const crypto::Certificate ca = TRY(crypto::Certificate::from_pem(wanted.ca_pem));
  // What would be refused everywhere is refused here.
  std::vector<crypto::Certificate> chain;
  chain.push_back(TRY(crypto::Certificate::from_pem(wanted.leaf_pem)));
  TRY_CONTEXT(peer::verify_peer(chain, ca, wanted.site), "the link's own certificate");
  // Whoever is connecting now goes on with the old one.
  identity_ = std::make_shared<const TlsIdentity>(TRY(TlsIdentity::make(key_, leaf, ca)));
  lobby_.use(identity_);
  site_ = wanted.site;
  name_ = wanted.name;
  return {};
}

Status Link::take_peer(ByteSpan body) {
  const peer::PeerRecord record = TRY(peer::decode_body<peer::PeerRecord>(body));
  if (!identity_) return {};  // it could not be configured, and was told
  if (record.site == *site_) return broken("this site as a peer of its own");
  crypto::Certificate ca = TRY(crypto::Certificate::from_pem(record.ca_pem));
  named_.insert(record.site);
  if (const auto at = peers_.find(record.site); at != peers_.end()) {
    at->second->set(record, std::move(ca));
  } else {
    if (peers_.size() >= peer::kPeersMax) return broken("too many peers");
    auto line = std::make_unique<PeerLine>(
        *this, *site_, [this] { return identity_; }, record, std::move(ca));
    if (configured_) line->keep_connected();
    peers_[record.site] = std::move(line);
  }
  note_origins();
  return {};
}

Status Link::take_peers_end() {
  if (!identity_ || configured_) return {};
  std::vector<SiteId> unnamed;
  for (const auto& [site, line] : peers_) {
    if (!named_.contains(site)) unnamed.push_back(site);
  }
  for (const SiteId site : unnamed) forget(site);
  TRY(lobby_.open());
  configured_ = true;
  send(LinkType::kConfigured, 0, {});
  for (const auto& [site, line] : peers_) {
    line->report();
    line->keep_connected();
  }
  return {};
}

void Link::forget(SiteId site) {
  const auto at = peers_.find(site);
  if (at == peers_.end()) return;
  at->second->end({.code = ErrorCode::kPermission,
                   .cause = "site " + at->second->record().name + " is not paired any more"});
  loop_.bury(std::move(at->second));
  peers_.erase(at);
  note_origins();
}

void Link::note_origins() {
  std::set<Origin> origins;
  for (const auto& [site, line] : peers_) {
    for (const std::string& text : line->record().addresses) {
      if (const Result<SocketAddress> address = parse_address(text); address.ok())
        origins.insert(origin_of(*address));
    }
  }
  lobby_.set_known(std::move(origins));
}

Status Link::take_ask(const peer::LinkMessage& message) {
  const SiteId site = TRY(peer::decode_site(message.body));
  const peer::Ask ask = TRY(peer::decode_ask(message.body.subspan(16)));
  if (ask.part.size() > peer::kPartMax) return broken("a part that is too long");
  if (message.id == 0 || (message.id & peer::kLinkIdBit) != 0 || routes_.contains(message.id))
    return broken("an id that it cannot give");
  const auto at = peers_.find(site);
  if (at == peers_.end()) {
    send(LinkType::kAnswer, message.id,
         error_body({.code = ErrorCode::kNotFound,
                     .cause = "site " + site.hex() + " is not paired with this one",
                     .effect = "nothing was sent",
                     .mend = "holdfast site peers"}),
         peer::kFlagError | peer::kFlagUnheard);
    return {};
  }
  routes_[message.id] = site;
  at->second->ask(message.id, ask);
  return {};
}

Status Link::take_open(const peer::LinkMessage& message, std::vector<sys::UniqueFd> fds) {
  const peer::OpenBody open = TRY(peer::decode_open_body(message.body));
  if (fds.size() != 1) return broken("a stream without its socket");
  if (message.id == 0 || (message.id & peer::kLinkIdBit) != 0 || routes_.contains(message.id))
    return broken("an id that it cannot give");
  const auto at = peers_.find(open.site);
  if (at == peers_.end()) {
    send(LinkType::kEnded, message.id,
         error_body({.code = ErrorCode::kNotFound,
                     .cause = "site " + open.site.hex() + " is not paired with this one",
                     .mend = "holdfast site peers"}));
    return {};
  }
  routes_[message.id] = open.site;
  at->second->open(message.id, open.vm, std::move(fds.front()));
  return {};
}

// What names something that is under way; it may have ended while the message was.
Status Link::take_of_session(const peer::LinkMessage& message, std::vector<sys::UniqueFd> fds) {
  if (message.type == LinkType::kClose) {
    pairing_dials_.erase(message.id);
    if (const auto at = pairings_.find(message.id); at != pairings_.end()) at->second->close();
  }
  PeerLine* line = line_of(message.id);
  if (line == nullptr) return {};
  switch (message.type) {
    case LinkType::kAskMore:
      if (message.body.size() > peer::kPartMax) return broken("a part that is too long");
      line->ask_more(message.id, message.body);
      return {};
    case LinkType::kCancel:
      line->cancel(message.id);
      return {};
    case LinkType::kGiveUp:
      line->give_up(message.id);
      return {};
    case LinkType::kClose:
      line->close(message.id);
      return {};
    default:
      break;
  }
  Session* session = line->session_of(message.id);
  if (session == nullptr) return {};
  switch (message.type) {
    case LinkType::kAnswer:
      session->answer(message.id, message.body, message.flags);
      return {};
    case LinkType::kAnswerMore:
      session->answer_more(message.id, message.body);
      return {};
    case LinkType::kAccept:
      if (fds.size() != 1) return broken("a stream without its socket");
      session->accept(message.id, std::move(fds.front()));
      return {};
    case LinkType::kRefuse:
      session->refuse(message.id, message.body);
      return {};
    default:
      return broken("a message that it does not send");
  }
}

// ---- The network ----

void Link::arrived(std::unique_ptr<TlsChannel> channel, const SocketAddress& address) {
  if (channel->alpn() == peer::kAlpnPairing) return arrived_to_pair(std::move(channel), address);
  Result<PeerLine*> line = authenticate(*channel);
  if (line.ok()) {
    static_cast<void>((*line)->adopt(std::move(channel)));
    return;
  }
  log_.line(LogKind::kRefused,
            "a connection from " + to_text(address) + " was refused: " + line.error().describe());
  lobby_.refuse(std::move(channel), address,
                peer::encode_frame(peer::FrameType::kGoodbye, 0, error_body(line.error())));
}

Result<PeerLine*> Link::authenticate(const TlsChannel& channel) {
  const std::vector<crypto::Certificate> chain = TRY(channel.peer_chain());
  const std::optional<SiteId> site = peer::site_of(chain.front());
  if (!site) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the certificate names no Holdfast site",
                 .effect = "nothing was done for it",
                 .mend = "connect with Holdfast of a paired site"};
  }
  const auto at = peers_.find(*site);
  if (at == peers_.end()) {
    return Error{.code = ErrorCode::kPermission,
                 .cause = "site " + site->hex() + " is not paired with " + name_,
                 .effect = "nothing was done for it",
                 .mend = "pair the sites: holdfast site pair --new-token"};
  }
  PeerLine& line = *at->second;
  Status verified = peer::verify_peer(chain, line.ca(), *site);
  if (verified.ok()) return &line;
  Error error{.code = ErrorCode::kWrongKey,
              .cause = "site " + line.record().name +
                       " is not who it was at pairing: " + verified.error().cause,
              .effect = "it is not trusted and nothing was exchanged",
              .mend =
                  "compare the fingerprints (holdfast site show there, holdfast site peers "
                  "here); if the site was made anew, pair again under its new id"};
  line.note_refused(error);
  return error;
}

void Link::arrived_to_pair(std::unique_ptr<TlsChannel> channel, const SocketAddress& address) {
  const auto strangers =
      std::ranges::count_if(pairings_, [](auto& item) { return item.second->incoming(); });
  if (!configured_ || strangers >= static_cast<ptrdiff_t>(kPairingsMax)) {
    log_.line(LogKind::kPairing, "a first contact from " + to_text(address) +
                                     " was closed: too many are under way, or holdfastd is not "
                                     "there");
    return;
  }
  log_.line(LogKind::kPairing, "a first contact from " + to_text(address));
  const uint64_t id = ++next_id_;
  begin_pairing(id, std::move(channel), to_text(address));
}

void Link::begin_pairing(uint64_t id, std::unique_ptr<TlsChannel> channel, std::string address) {
  auto line =
      std::make_unique<PairingLine>(*this, *this, id, std::move(channel), std::move(address));
  PairingLine& started = *line;
  pairings_[id] = std::move(line);
  if (Status status = started.start(); !status.ok()) started.end(status.error());
}

void Link::pairing_over(PairingLine& line) {
  const auto at = pairings_.find(line.id());
  loop_.bury(std::move(at->second));
  pairings_.erase(at);
}

Status Link::take_pair_dial(const peer::LinkMessage& message) {
  const peer::PairDial dial = TRY(peer::decode_body<peer::PairDial>(message.body));
  const uint64_t id = message.id;
  if (pairing_dials_.size() >= kPairingDialsMax || pairing_dials_.contains(id)) {
    send(LinkType::kEnded, id,
         error_body({.code = ErrorCode::kLimit, .cause = "too many first contacts at once"}));
    return {};
  }
  pairing_dials_[id] = std::make_unique<Dialer>(
      loop_, identity_,
      Dialer::Options{
          .addresses = dial.addresses, .alpn = peer::kAlpnPairing, .limit = millis(dial.limit_ms)},
      [this, id](Result<std::unique_ptr<TlsChannel>> channel) {
        const auto at = pairing_dials_.find(id);
        std::string address = at->second->address();
        loop_.bury(std::move(at->second));
        pairing_dials_.erase(at);
        if (channel.ok()) return begin_pairing(id, *std::move(channel), std::move(address));
        send(LinkType::kEnded, id, error_body(channel.error()));
      });
  return {};
}

}  // namespace hf::link
