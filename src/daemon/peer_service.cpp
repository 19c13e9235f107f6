#include "daemon/peer_service.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <openssl/pem.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>

#include "crypto/key_pair.h"
#include "daemon/catalog_inner.h"
#include "daemon/log.h"
#include "daemon/peer_message.h"
#include "sys/bounded_io.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

constexpr Millis kHandshakeLimit = 10s;

std::string private_key_pem(const crypto::KeyPair& key) {
  BIO* bio = BIO_new(BIO_s_secmem() != nullptr ? BIO_s_secmem() : BIO_s_mem());
  HF_ASSERT(
      PEM_write_bio_PKCS8PrivateKey(bio, key.handle(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  char* data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  std::string pem(data, static_cast<size_t>(size));
  BIO_free(bio);
  return pem;
}

// The daemon's own TLS key: made once, kept in a file of its own.
Result<std::string> load_or_make_key(const std::string& path) {
  sys::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (file) {
    struct stat info{};
    if (::fstat(file.get(), &info) != 0) return errno_error(errno, "look at " + path);
    if (info.st_uid != ::geteuid() || (info.st_mode & 077) != 0) {
      return Error{.code = ErrorCode::kPermission,
                   .cause = path + " can be read by others",
                   .effect = "holdfastd does not start",
                   .mend = "rm " + path + " (a new key is made), then holdfast site start"};
    }
    return std::string(as_text(TRY(sys::read_all(file.get(), 16384))));
  }
  std::string pem = private_key_pem(crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256));
  std::string fresh = path + ".new";
  file.reset(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return errno_error(errno, "write " + fresh);
  TRY(sys::write_all(file.get(), as_bytes(pem)));
  if (::fsync(file.get()) != 0 || ::rename(fresh.c_str(), path.c_str()) != 0) {
    return errno_error(errno, "write " + path);
  }
  return pem;
}

// The public half as the vault takes it.
Result<std::string> public_key_pem(const std::string& private_pem) {
  BIO* in = BIO_new_mem_buf(private_pem.data(), static_cast<int>(private_pem.size()));
  EVP_PKEY* key = PEM_read_bio_PrivateKey(in, nullptr, nullptr, nullptr);
  BIO_free(in);
  if (key == nullptr) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = "daemon/tls.key is not a private key",
                 .effect = "holdfastd does not start",
                 .mend = "remove it (a new one is made), then holdfast site start"};
  }
  return TRY(crypto::SpkiKey::adopt(crypto::EvpHandle(key))).to_pem();
}

std::pair<std::string, std::string> split_address(const std::string& address) {
  size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return {host, colon == std::string::npos ? "" : address.substr(colon + 1)};
}

}  // namespace

PeerService::PeerService(Services& services) : services_(services) {}
PeerService::~PeerService() { stop(); }

Status PeerService::start() {
  TRY(make_identity());
  TRY(listen());
  accepting_ = std::thread([this] { accept_loop(); });
  return {};
}

void PeerService::stop() {
  stopping_ = true;
  if (accepting_.joinable()) accepting_.join();
  std::list<Connection> connections;
  {
    std::lock_guard lock(mutex_);
    connections.swap(connections_);
    for (Connection& connection : connections) {
      if (*connection.socket) ::shutdown(connection.socket->get(), SHUT_RDWR);
    }
  }
  for (Connection& connection : connections) connection.thread.join();
}

Status PeerService::make_identity() {
  identity_ = TRY(services_.vault.site_identity());
  if (identity_.site != services_.site.site_id) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "site.json names site " + services_.site.site_id.hex() +
                          ", the vault belongs to " + identity_.site.hex(),
                 .effect = "holdfastd does not start",
                 .mend = "put back the vault directory or the site.json that belong together"};
  }
  crypto::Certificate ca = TRY(crypto::Certificate::from_pem(identity_.ca_certificate_pem));
  fingerprint_ = ca.fingerprint().hex();
  std::string key = TRY(load_or_make_key(services_.paths.tls_key()));
  vault::TlsRequest request{.common_name = identity_.name,
                            .dns_names = {},
                            .ip_addresses = {},
                            .key_pem = TRY(public_key_pem(key))};
  std::string leaf = TRY(services_.vault.issue_tls(request));
  tls_ = TRY(TlsIdentity::make(key, leaf, identity_.ca_certificate_pem));
  return {};
}

Status PeerService::listen() {
  auto [host, port] = split_address(services_.site.listen);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  if (int failed = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &list); failed != 0) {
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = "cannot listen at " + services_.site.listen + ": " + ::gai_strerror(failed),
        .effect = "holdfastd does not start",
        .mend = "correct \"listen\" in " + services_.paths.site_config()};
  }
  sys::UniqueFd fd(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  bool good = ::bind(fd.get(), list->ai_addr, list->ai_addrlen) == 0 && ::listen(fd.get(), 64) == 0;
  int failed = errno;
  ::freeaddrinfo(list);
  if (!good) {
    return errno_error(failed, "listen at " + services_.site.listen)
        .with_effect("holdfastd does not start")
        .with_mend("end what uses the address (ss -ltnp), or change \"listen\" in " +
                   services_.paths.site_config());
  }
  listener_ = std::move(fd);
  return {};
}

void PeerService::accept_loop() {
  while (!stopping_) {
    Result<bool> ready = sys::wait_ready(listener_.get(), POLLIN, 100ms);
    if (!ready.ok() || !*ready) continue;
    sys::UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) continue;
    std::lock_guard lock(mutex_);
    for (auto at = connections_.begin(); at != connections_.end();) {
      if (!*at->over) {
        ++at;
        continue;
      }
      at->thread.join();
      at = connections_.erase(at);
    }
    if (connections_.size() >= kPeerConnectionsMax) continue;  // closes it
    Result<sys::UniqueFd> copy = socket.duplicate();
    if (!copy.ok()) continue;
    auto over = std::make_shared<std::atomic<bool>>(false);
    auto kept = std::make_shared<sys::UniqueFd>(std::move(copy).value());
    std::thread thread([this, over, kept, raw = socket.release()] {
      serve(sys::UniqueFd(raw));
      // Our copy would keep it open: a peer with much to send would go on sending to nobody.
      std::lock_guard own(mutex_);
      kept->reset();
      *over = true;
    });
    connections_.push_back({std::move(thread), over, kept});
  }
}

void PeerService::serve(sys::UniqueFd socket) {
  Result<std::unique_ptr<TlsStream>> stream =
      TlsStream::accept(*tls_, std::move(socket), kHandshakeLimit);
  if (!stream.ok()) return log_info("a connection was given up: " + stream.error().cause);
  TlsStream& tls = **stream;
  std::string kind = tls.alpn();
  if (kind == kAlpnPairing) return serve_pairing(tls);
  Result<PeerRow> peer = authenticate(tls);
  if (!peer.ok()) {
    log_warning("a connection from " + tls.peer_address() +
                " was refused: " + peer.error().describe());
    if (kind == kAlpnRequests)
      static_cast<void>(send_message(tls, error_message(peer.error()), 2s));
    if (kind == kAlpnFrames) {
      replication::ErrorFrame refusal{.refusal = replication::Refusal::kWrongKey,
                                      .epoch = {},
                                      .cause = peer.error().cause,
                                      .effect = peer.error().effect,
                                      .mend = peer.error().mend};
      static_cast<void>(tls.write_all(replication::encode(VmId(), refusal), 2s));
    }
    return;
  }
  note_seen(peer->site);
  if (kind == kAlpnRequests) return serve_requests(tls, *peer);
  if (kind == kAlpnFrames) return serve_frames(tls, *peer);
}

Result<PeerRow> PeerService::authenticate(TlsStream& stream) {
  std::vector<crypto::Certificate> chain = TRY(stream.peer_chain());
  std::optional<SiteId> site = site_of(chain.front());
  if (!site) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the certificate names no Holdfast site",
                 .effect = "nothing was done for it",
                 .mend = "connect with holdfastd of a paired site"};
  }
  Result<PeerRow> peer = services_.catalog->peer(*site);
  if (!peer.ok()) {
    return Error{.code = ErrorCode::kPermission,
                 .cause = "site " + site->hex() + " is not paired with " + identity_.name,
                 .effect = "nothing was done for it",
                 .mend = "pair the sites: holdfast site pair --new-token"};
  }
  crypto::Certificate ca = TRY(crypto::Certificate::from_pem(peer->ca_pem));
  Status verified = verify_peer(chain, ca, *site);
  if (verified.ok()) return peer;
  Error error{
      .code = ErrorCode::kWrongKey,
      .cause = "site " + peer->name + " is not who it was at pairing: " + verified.error().cause,
      .effect = "it is not trusted and nothing was exchanged",
      .mend =
          "compare the fingerprints (holdfast site show there, holdfast site peers here); if the "
          "site was "
          "made anew, pair again under its new id"};
  note_refused(*site, error);
  return error;
}

void PeerService::note_seen(SiteId site) {
  std::lock_guard lock(mutex_);
  contacts_[site] = Contact{.last_seen = catalog_now(), .refused = std::nullopt};
}

void PeerService::note_refused(SiteId site, const Error& error) {
  std::lock_guard lock(mutex_);
  contacts_[site].refused = error;
}

Result<std::unique_ptr<TlsStream>> PeerService::connect(const PeerRow& peer, std::string_view alpn,
                                                        Millis limit) {
  Result<std::unique_ptr<TlsStream>> reached = TlsStream::connect(*tls_, peer.address, alpn, limit);
  if (!reached.ok()) {
    return std::move(reached)
        .error()
        .context("site " + peer.name)
        .with_effect("it was not reached, and nothing was changed")
        .with_mend("start it: holdfast site start there; holdfast site peers shows its address");
  }
  std::unique_ptr<TlsStream> stream = *std::move(reached);
  crypto::Certificate ca = TRY(crypto::Certificate::from_pem(peer.ca_pem));
  Status verified = verify_peer(TRY(stream->peer_chain()), ca, peer.site);
  if (!verified.ok()) {
    Error error{
        .code = ErrorCode::kWrongKey,
        .cause = "who answers at " + peer.address + " is not site " + peer.name + ": " +
                 verified.error().cause,
        .effect = "nothing was sent to it",
        .mend = "compare the fingerprints: holdfast site peers here, holdfast site show there"};
    log_warning(error.describe());
    note_refused(peer.site, error);
    return error;
  }
  note_seen(peer.site);
  return stream;
}

Result<sys::JsonObject> PeerService::call(SiteId site, const sys::JsonObject& request,
                                          Millis limit) {
  PeerRow peer = TRY(services_.catalog->peer(site));
  std::unique_ptr<TlsStream> stream =
      TRY(connect(peer, kAlpnRequests, std::min<Millis>(limit, 5s)));
  TRY(send_message(*stream, request, limit));
  return receive_message(*stream, limit);
}

sys::JsonArray PeerService::show_peers() {
  sys::JsonArray list;
  Result<std::vector<PeerRow>> peers = services_.catalog->peers();
  if (!peers.ok()) return list;
  for (const PeerRow& peer : *peers) {
    Result<sys::JsonObject> answer = call(peer.site, {{"op", "ping"}}, 2s);
    sys::JsonObject view{
        {"site_id", peer.site.hex()},     {"name", peer.name},
        {"address", peer.address},        {"ca_fingerprint", peer.fingerprint},
        {"paired_us", peer.paired.value}, {"state", answer.ok() ? "reachable" : "unreachable"}};
    std::lock_guard lock(mutex_);
    const Contact& contact = contacts_[peer.site];
    if (contact.last_seen) view["last_seen_us"] = contact.last_seen->value;
    if (!answer.ok()) {
      view["error"] = sys::error_to_json(answer.error());
      if (answer.error().code == ErrorCode::kWrongKey) view["state"] = "wrong certificate";
    } else if (contact.refused) {
      view["state"] = "wrong certificate";
      view["error"] = sys::error_to_json(*contact.refused);
    }
    list.push_back(std::move(view));
  }
  return list;
}

}  // namespace hf::daemon
