#include "daemon/tls.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

namespace hf::daemon {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

Error ssl_error(ErrorCode code, std::string_view doing) {
  char text[200] = "";
  if (unsigned long number = ERR_get_error(); number != 0)
    ERR_error_string_n(number, text, sizeof text);
  ERR_clear_error();
  return {.code = code,
          .cause = std::string(doing) + (text[0] != 0 ? std::string(": ") + text : "")};
}

Millis left_until(SteadyTime end) {
  return std::max(Millis(0),
                  std::chrono::duration_cast<Millis>(end - std::chrono::steady_clock::now()));
}

// Any certificate passes the handshake; verify_peer() decides.
int accept_any(X509_STORE_CTX*, void*) { return 1; }

int choose_alpn(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                unsigned in_size, void*) {
  std::string_view offered(reinterpret_cast<const char*>(in), in_size);
  for (std::string_view known : {kAlpnPairing, kAlpnRequests, kAlpnFrames}) {
    std::string entry(1, static_cast<char>(known.size()));
    entry += known;
    size_t at = offered.find(entry);
    if (at == std::string_view::npos) continue;
    *out = in + at + 1;
    *out_size = static_cast<unsigned char>(known.size());
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

struct PkeyFree {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct BioFree {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
struct StoreFree {
  void operator()(X509_STORE* store) const { X509_STORE_free(store); }
};
struct StoreCtxFree {
  void operator()(X509_STORE_CTX* context) const { X509_STORE_CTX_free(context); }
};

Status set_up(SSL_CTX* context, const std::string& key_pem, const crypto::Certificate& leaf,
              const crypto::Certificate& ca) {
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(context, accept_any, nullptr);
  // A resumed session carries no certificate to look at.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  std::unique_ptr<BIO, BioFree> bio(
      BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size())));
  std::unique_ptr<EVP_PKEY, PkeyFree> key(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  if (!key) return ssl_error(ErrorCode::kCorrupt, "daemon/tls.key is not a private key");
  if (SSL_CTX_use_certificate(context, leaf.handle()) != 1 ||
      SSL_CTX_use_PrivateKey(context, key.get()) != 1 ||
      SSL_CTX_add1_chain_cert(context, ca.handle()) != 1) {
    return ssl_error(ErrorCode::kInternal, "set up TLS");
  }
  return {};
}

}  // namespace

void TlsIdentity::Free::operator()(ssl_ctx_st* context) const { SSL_CTX_free(context); }
void TlsStream::Free::operator()(ssl_st* ssl) const { SSL_free(ssl); }

Result<TlsIdentity> TlsIdentity::make(const std::string& key_pem, const std::string& leaf_pem,
                                      const std::string& ca_pem) {
  crypto::Certificate leaf = TRY(crypto::Certificate::from_pem(leaf_pem));
  crypto::Certificate ca = TRY(crypto::Certificate::from_pem(ca_pem));
  TlsIdentity identity;
  identity.server_.reset(SSL_CTX_new(TLS_server_method()));
  identity.client_.reset(SSL_CTX_new(TLS_client_method()));
  TRY(set_up(identity.server(), key_pem, leaf, ca));
  TRY(set_up(identity.client(), key_pem, leaf, ca));
  SSL_CTX_set_alpn_select_cb(identity.server(), choose_alpn, nullptr);
  return identity;
}

TlsStream::~TlsStream() {
  // Politely, if it can be said without waiting.
  if (ssl_) SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

namespace {

struct AddressesFree {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

Result<sys::UniqueFd> connect_one(const addrinfo& address, SteadyTime end) {
  sys::UniqueFd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno_error(errno, "make a socket");
  if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0 && errno != EINPROGRESS) {
    return errno_error(errno, "connect");
  }
  pollfd wait{fd.get(), POLLOUT, 0};
  int ready = ::poll(&wait, 1, static_cast<int>(left_until(end).count()));
  if (ready == 0) return Error{.code = ErrorCode::kTimeout, .cause = "no answer"};
  int failure = 0;
  socklen_t size = sizeof failure;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &failure, &size);
  if (failure != 0)
    return Error{.code = ErrorCode::kUnavailable, .cause = errno_error(failure, "connect").cause};
  return fd;
}

Result<sys::UniqueFd> connect_to(const std::string& address, SteadyTime end) {
  size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "\"" + address + "\" is not HOST:PORT"};
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* raw = nullptr;
  int failed = ::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &raw);
  std::unique_ptr<addrinfo, AddressesFree> list(raw);
  if (failed != 0) {
    return Error{.code = ErrorCode::kUnavailable, .cause = address + ": " + ::gai_strerror(failed)};
  }
  Error last{.code = ErrorCode::kUnavailable, .cause = address + " has no address"};
  for (addrinfo* one = list.get(); one != nullptr; one = one->ai_next) {
    Result<sys::UniqueFd> fd = connect_one(*one, end);
    if (fd.ok()) return fd;
    last = std::move(fd).error().context(address);
    if (last.code == ErrorCode::kIo) last.code = ErrorCode::kUnavailable;
  }
  return last;
}

void set_options(int fd) {
  int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  int idle = 10;
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof idle);
  int unacknowledged_ms = 30000;
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms, sizeof unacknowledged_ms);
}

}  // namespace

Result<std::unique_ptr<TlsStream>> TlsStream::connect(const TlsIdentity& identity,
                                                      const std::string& address,
                                                      std::string_view alpn, Millis limit) {
  SteadyTime end = std::chrono::steady_clock::now() + limit;
  sys::UniqueFd socket = TRY(connect_to(address, end));
  set_options(socket.get());
  SSL* ssl = SSL_new(identity.client());
  std::unique_ptr<TlsStream> stream(new TlsStream(ssl, std::move(socket)));
  std::string protocols(1, static_cast<char>(alpn.size()));
  protocols += alpn;
  SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(protocols.data()),
                      static_cast<unsigned>(protocols.size()));
  SSL_set_fd(ssl, stream->fd());
  TRY_CONTEXT(stream->handshake(true, left_until(end)), "TLS with " + address);
  return stream;
}

Result<std::unique_ptr<TlsStream>> TlsStream::accept(const TlsIdentity& identity,
                                                     sys::UniqueFd connection, Millis limit) {
  TRY(sys::set_nonblocking(connection.get(), true));
  set_options(connection.get());
  SSL* ssl = SSL_new(identity.server());
  std::unique_ptr<TlsStream> stream(new TlsStream(ssl, std::move(connection)));
  SSL_set_fd(ssl, stream->fd());
  TRY(stream->handshake(false, limit));
  return stream;
}

Status TlsStream::wait(int ssl_result, SteadyTime end, std::string_view doing) {
  int why = SSL_get_error(ssl_.get(), ssl_result);
  if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
    if (why == SSL_ERROR_SYSCALL && errno != 0) {
      Error error = errno_error(errno, doing);
      ERR_clear_error();
      error.code = ErrorCode::kUnavailable;
      return error;
    }
    return ssl_error(ErrorCode::kUnavailable, std::string(doing) + ": the connection was lost");
  }
  // A peer that has closed takes nothing any more, though its kernel may not say so for long.
  const bool sending = why == SSL_ERROR_WANT_WRITE;
  pollfd wait{fd(), static_cast<short>(sending ? POLLOUT | POLLRDHUP : POLLIN), 0};
  int ready = ::poll(&wait, 1, static_cast<int>(left_until(end).count()));
  if (ready < 0 && errno != EINTR) return errno_error(errno, doing);
  if (ready == 0)
    return Error{.code = ErrorCode::kTimeout, .cause = std::string(doing) + ": no answer"};
  if (sending && (wait.revents & POLLRDHUP) != 0) {
    return Error{.code = ErrorCode::kUnavailable,
                 .cause = std::string(doing) + ": the other site closed the connection"};
  }
  return {};
}

Status TlsStream::handshake(bool client, Millis limit) {
  SteadyTime end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    ERR_clear_error();
    int result = client ? SSL_connect(ssl_.get()) : SSL_accept(ssl_.get());
    if (result == 1) return {};
    TRY(wait(result, end, "handshake"));
  }
}

Result<size_t> TlsStream::read_some(MutableByteSpan to, Millis limit) {
  SteadyTime end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    ERR_clear_error();
    size_t got = 0;
    int result = SSL_read_ex(ssl_.get(), to.data(), to.size(), &got);
    if (result == 1) return got;
    if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_ZERO_RETURN) return size_t{0};
    TRY(wait(result, end, "receive"));
  }
}

Status TlsStream::read_exact(MutableByteSpan to, Millis limit) {
  SteadyTime end = std::chrono::steady_clock::now() + limit;
  while (!to.empty()) {
    size_t got = TRY(read_some(to, left_until(end)));
    if (got == 0)
      return Error{.code = ErrorCode::kUnavailable,
                   .cause = "the other site closed the connection"};
    to = to.subspan(got);
  }
  return {};
}

Status TlsStream::write_all(ByteSpan from, Millis limit) {
  SteadyTime end = std::chrono::steady_clock::now() + limit;
  while (!from.empty()) {
    ERR_clear_error();
    size_t put = 0;
    int result = SSL_write_ex(ssl_.get(), from.data(), from.size(), &put);
    if (result == 1) {
      from = from.subspan(put);
      continue;
    }
    TRY(wait(result, end, "send"));
  }
  return {};
}

void TlsStream::shut_down() { ::shutdown(socket_.get(), SHUT_RDWR); }
bool TlsStream::has_pending() const {
  return SSL_has_pending(ssl_.get()) == 1 && SSL_pending(ssl_.get()) > 0;
}

std::string TlsStream::alpn() const {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &size);
  return std::string(reinterpret_cast<const char*>(name), size);
}

std::string TlsStream::peer_address() const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  char host[NI_MAXHOST] = "?";
  char port[NI_MAXSERV] = "?";
  if (::getpeername(fd(), reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV);
  }
  return std::string(host) + ":" + port;
}

Digest TlsStream::exporter() const {
  static constexpr std::string_view kLabel = "EXPORTER-holdfast-pairing";
  Digest out;
  int done =
      SSL_export_keying_material(ssl_.get(), reinterpret_cast<unsigned char*>(out.bytes.data()),
                                 out.bytes.size(), kLabel.data(), kLabel.size(), nullptr, 0, 0);
  HF_ASSERT(done == 1);
  return out;
}

Result<std::vector<crypto::Certificate>> TlsStream::peer_chain() const {
  std::vector<crypto::Certificate> chain;
  X509* leaf = SSL_get0_peer_certificate(ssl_.get());
  if (leaf == nullptr)
    return Error{.code = ErrorCode::kWrongKey, .cause = "the other side sent no certificate"};
  X509_up_ref(leaf);
  chain.push_back(crypto::Certificate::adopt(crypto::X509Handle(leaf)));
  // On a client the chain begins with the leaf, on a server it does not.
  STACK_OF(X509)* others = SSL_get_peer_cert_chain(ssl_.get());
  for (int i = 0; others != nullptr && i < sk_X509_num(others) && i < 8; ++i) {
    X509* one = sk_X509_value(others, i);
    if (X509_cmp(one, leaf) == 0) continue;
    X509_up_ref(one);
    chain.push_back(crypto::Certificate::adopt(crypto::X509Handle(one)));
  }
  return chain;
}

std::optional<SiteId> site_of(const crypto::Certificate& leaf) {
  constexpr std::string_view kPrefix = "holdfast:site:";
  for (const std::string& uri : leaf.uris()) {
    if (!uri.starts_with(kPrefix)) continue;
    Result<SiteId> site = SiteId::parse_hex(std::string_view(uri).substr(kPrefix.size()));
    if (site.ok()) return *site;
  }
  return std::nullopt;
}

Status verify_peer(const std::vector<crypto::Certificate>& chain, const crypto::Certificate& ca,
                   SiteId site) {
  HF_ASSERT(!chain.empty());
  std::unique_ptr<X509_STORE, StoreFree> store(X509_STORE_new());
  std::unique_ptr<X509_STORE_CTX, StoreCtxFree> context(X509_STORE_CTX_new());
  X509_STORE_add_cert(store.get(), ca.handle());
  X509_STORE_CTX_init(context.get(), store.get(), chain.front().handle(), nullptr);
  if (X509_verify_cert(context.get()) != 1) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = std::string("its certificate is not one of the pinned authority: ") +
                          X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get()))};
  }
  if (site_of(chain.front()) != site) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "its certificate names another site than " + site.hex()};
  }
  return {};
}

}  // namespace hf::daemon
