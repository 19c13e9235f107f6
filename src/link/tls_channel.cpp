#include "link/tls_channel.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>

#include "peer/trust.h"

namespace hf::link {
namespace {

// Of a peer's certificates, before anything is known of it: two of ours are 1.2 KiB.
constexpr long kCertificatesBytesMax = 8192;
constexpr size_t kReadAheadSize = size_t{64} << 10;
// Taken in a turn, each byte at one. A stranger's handshake has some KiB, a first contact's message
// 16; a paired site's streams come in full records, of which this is some 30.
constexpr size_t kStrangerShare = size_t{16} << 10;
constexpr size_t kTrustedShare = size_t{512} << 10;
// What a record costs beside its bytes, in the time that so many bytes take.
constexpr size_t kRecordPrice = 512;
// Handshake messages after the handshake. We send none; RFC 8446 (5.5) wants a key update after
// some 2^24 records.
constexpr uint64_t kLateMessagesMax = 8;
constexpr uint64_t kBytesALateMessage = uint64_t{1} << 20;

Error ssl_error(ErrorCode code, std::string_view doing) {
  char text[200] = "";
  if (const unsigned long number = ERR_get_error(); number != 0)
    ERR_error_string_n(number, text, sizeof text);
  ERR_clear_error();
  return {.code = code,
          .cause = std::string(doing) + (text[0] != 0 ? std::string(": ") + text : "")};
}

// Any certificate passes the handshake; verify_peer() decides.
int accept_any(X509_STORE_CTX*, void*) { return 1; }

std::string protocol_entry(std::string_view name) {
  return std::string(1, static_cast<char>(name.size())) + std::string(name);
}

int choose_alpn(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                unsigned in_size, void*) {
  for (const std::string_view known : {peer::kAlpnSites, peer::kAlpnPairing}) {
    const std::string entry = protocol_entry(known);
    // Entry by entry: a name inside another one is not offered.
    for (unsigned at = 0; at < in_size && at + in[at] < in_size; at += 1 + in[at]) {
      if (std::string_view(reinterpret_cast<const char*>(in + at), 1 + in[at]) != entry) continue;
      *out = in + at + 1;
      *out_size = static_cast<unsigned char>(known.size());
      return SSL_TLSEXT_ERR_OK;
    }
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

Status set_up(SSL_CTX* context, const crypto::KeyPair& key, const crypto::Certificate& leaf,
              const crypto::Certificate& ca) {
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(context, accept_any, nullptr);
  SSL_CTX_set_max_cert_list(context, kCertificatesBytesMax);
  // A resumed session carries no certificate to look at.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
  if (SSL_CTX_use_certificate(context, leaf.handle()) != 1 ||
      SSL_CTX_use_PrivateKey(context, key.handle()) != 1 || SSL_CTX_check_private_key(context) != 1)
    return ssl_error(ErrorCode::kWrongKey, "the certificate is not one for the link's key");
  if (SSL_CTX_add1_chain_cert(context, ca.handle()) != 1)
    return ssl_error(ErrorCode::kInternal, "set up TLS");
  return {};
}

}  // namespace

void TlsIdentity::Free::operator()(ssl_ctx_st* context) const { SSL_CTX_free(context); }
void TlsChannel::Free::operator()(ssl_st* ssl) const { SSL_free(ssl); }

Result<TlsIdentity> TlsIdentity::make(const crypto::KeyPair& key, const crypto::Certificate& leaf,
                                      const crypto::Certificate& ca) {
  TlsIdentity identity;
  identity.server_.reset(SSL_CTX_new(TLS_server_method()));
  identity.client_.reset(SSL_CTX_new(TLS_client_method()));
  HF_ASSERT(identity.server() != nullptr && identity.client() != nullptr);
  TRY(set_up(identity.server(), key, leaf, ca));
  TRY(set_up(identity.client(), key, leaf, ca));
  SSL_CTX_set_alpn_select_cb(identity.server(), choose_alpn, nullptr);
  return identity;
}

struct TlsChannel::Io {
  static TlsChannel& channel_of(BIO* bio) { return *static_cast<TlsChannel*>(BIO_get_data(bio)); }

  static bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK; }

  static int read(BIO* bio, char* to, int size) {
    TlsChannel& channel = channel_of(bio);
    BIO_clear_retry_flags(bio);
    if (channel.share_left_ == 0) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const size_t wanted = std::min(static_cast<size_t>(size), channel.share_left_);
    ssize_t got = 0;
    do {
      got = ::recv(channel.fd(), to, wanted, 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && would_block()) BIO_set_retry_read(bio);
    if (got == 0) channel.socket_ended_ = true;
    if (got > 0) {
      channel.received_ += static_cast<uint64_t>(got);
      channel.spend(static_cast<size_t>(got));
    }
    return static_cast<int>(got);
  }

  static int write(BIO* bio, const char* from, int size) {
    BIO_clear_retry_flags(bio);
    ssize_t put = 0;
    do {
      put = ::send(channel_of(bio).fd(), from, static_cast<size_t>(size), MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    if (put < 0 && would_block()) BIO_set_retry_write(bio);
    return static_cast<int>(put);
  }

  static long control(BIO* bio, int command, long, void*) {
    if (command == BIO_CTRL_EOF) return channel_of(bio).socket_ended_ ? 1 : 0;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
  }

  // Of records, also those that wait in a larger read, and of what is in them.
  static void on_message(int sent, int, int type, const void*, size_t, SSL* ssl, void* argument) {
    TlsChannel& channel = *static_cast<TlsChannel*>(argument);
    if (sent != 0) return;
    if (type == SSL3_RT_HEADER) channel.spend(kRecordPrice);
    if (type != SSL3_RT_HANDSHAKE || !channel.established_) return;
    if (++channel.late_messages_ <= kLateMessagesMax + channel.received_ / kBytesALateMessage)
      return;
    channel.flooded_ = true;
    // Else OpenSSL would go through all that it holds before it returns.
    SSL_set_shutdown(ssl, SSL_get_shutdown(ssl) | SSL_RECEIVED_SHUTDOWN);
  }

  static const BIO_METHOD* method() {
    static const BIO_METHOD* const made = [] {
      BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "link socket");
      HF_ASSERT(method != nullptr && BIO_meth_set_read(method, read) == 1 &&
                BIO_meth_set_write(method, write) == 1 && BIO_meth_set_ctrl(method, control) == 1);
      return method;
    }();
    return made;
  }
};

TlsChannel::TlsChannel(ssl_st* ssl, sys::UniqueFd socket, bool is_client)
    : socket_(std::move(socket)),
      ssl_(ssl),
      is_client_(is_client),
      share_(kStrangerShare),
      share_left_(kStrangerShare) {
  BIO* bio = BIO_new(Io::method());
  HF_ASSERT(ssl_ != nullptr && bio != nullptr);
  BIO_set_data(bio, this);
  SSL_set_bio(ssl, bio, bio);
  SSL_set_msg_callback(ssl, Io::on_message);
  SSL_set_msg_callback_arg(ssl, this);
}

TlsChannel::~TlsChannel() { ERR_clear_error(); }

std::unique_ptr<TlsChannel> TlsChannel::client(const TlsIdentity& identity, sys::UniqueFd socket,
                                               std::string_view alpn) {
  SSL* ssl = SSL_new(identity.client());
  std::unique_ptr<TlsChannel> channel(new TlsChannel(ssl, std::move(socket), true));
  const std::string entry = protocol_entry(alpn);
  SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(entry.data()),
                      static_cast<unsigned>(entry.size()));
  SSL_set_connect_state(ssl);
  return channel;
}

std::unique_ptr<TlsChannel> TlsChannel::server(const TlsIdentity& identity, sys::UniqueFd socket) {
  SSL* ssl = SSL_new(identity.server());
  std::unique_ptr<TlsChannel> channel(new TlsChannel(ssl, std::move(socket), false));
  SSL_set_accept_state(ssl);
  return channel;
}

Result<TlsChannel::Step> TlsChannel::step(int result, std::string_view doing) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      return Step::kBlocked;
    case SSL_ERROR_ZERO_RETURN:
      return Step::kClosed;
    case SSL_ERROR_SYSCALL:
      if (errno != 0) {
        Error error = errno_error(errno, doing);
        ERR_clear_error();
        error.code = ErrorCode::kUnavailable;
        return error;
      }
      [[fallthrough]];
    default:
      return ssl_error(ErrorCode::kUnavailable, std::string(doing) + ": the connection was lost");
  }
}

// What the share has stopped is no waiting for the socket.
TlsChannel::Step TlsChannel::yield() {
  if (share_left_ > 0) return Step::kBlocked;
  share_left_ = share_;
  return Step::kYield;
}

Result<TlsChannel::Step> TlsChannel::handshake() {
  ERR_clear_error();
  errno = 0;
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    established_ = true;
    return Step::kDone;
  }
  const Step came_to = TRY(step(result, "TLS handshake"));
  if (came_to == Step::kBlocked) return yield();
  return Error{.code = ErrorCode::kUnavailable, .cause = "TLS handshake: it was ended"};
}

Result<TlsChannel::Moved> TlsChannel::read(MutableByteSpan to) {
  // Also before what a larger read has brought already.
  if (share_left_ == 0) return Moved{.step = yield()};
  ERR_clear_error();
  errno = 0;
  size_t got = 0;
  const int result = SSL_read_ex(ssl_.get(), to.data(), to.size(), &got);
  if (flooded_) {
    return Error{.code = ErrorCode::kCorrupt,
                 .cause = "receive: TLS handshake messages without end"};
  }
  if (result == 1) return Moved{.step = Step::kDone, .bytes = got};
  const Step came_to = TRY(step(result, "receive"));
  return Moved{.step = came_to == Step::kBlocked ? yield() : came_to};
}

Result<TlsChannel::Moved> TlsChannel::write(ByteSpan from) {
  ERR_clear_error();
  errno = 0;
  size_t put = 0;
  const int result = SSL_write_ex(ssl_.get(), from.data(), from.size(), &put);
  if (result == 1) return Moved{.step = Step::kDone, .bytes = put};
  return Moved{.step = TRY(step(result, "send"))};
}

void TlsChannel::say_goodbye() {
  if (SSL_is_init_finished(ssl_.get()) == 1) static_cast<void>(SSL_shutdown(ssl_.get()));
  ERR_clear_error();
}

std::string TlsChannel::alpn() const {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &size);
  return name == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(name), size);
}

void TlsChannel::trust() {
  share_ = share_left_ = kTrustedShare;
  SSL_set_default_read_buffer_len(ssl_.get(), kReadAheadSize);
  SSL_set_read_ahead(ssl_.get(), 1);
}

Digest TlsChannel::exporter() const {
  Digest out;
  const int done = SSL_export_keying_material(
      ssl_.get(), reinterpret_cast<unsigned char*>(out.bytes.data()), out.bytes.size(),
      peer::kExporterLabel.data(), peer::kExporterLabel.size(), nullptr, 0, 0);
  HF_ASSERT(done == 1);
  return out;
}

Result<std::vector<crypto::Certificate>> TlsChannel::peer_chain() const {
  std::vector<crypto::Certificate> chain;
  X509* leaf = SSL_get0_peer_certificate(ssl_.get());
  if (leaf == nullptr)
    return Error{.code = ErrorCode::kWrongKey, .cause = "the other side sent no certificate"};
  X509_up_ref(leaf);
  chain.push_back(crypto::Certificate::adopt(crypto::X509Handle(leaf)));
  // On a client the chain begins with the leaf, on a server it does not.
  STACK_OF(X509)* others = SSL_get_peer_cert_chain(ssl_.get());
  for (int i = 0; others != nullptr && i < sk_X509_num(others); ++i) {
    X509* one = sk_X509_value(others, i);
    if (X509_cmp(one, leaf) == 0 || chain.size() >= peer::kChainMax) continue;
    X509_up_ref(one);
    chain.push_back(crypto::Certificate::adopt(crypto::X509Handle(one)));
  }
  return chain;
}

}  // namespace hf::link
