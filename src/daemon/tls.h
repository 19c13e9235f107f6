// TLS 1.3 between sites: OpenSSL behind two small types. Blocking, every call with a time limit.
//
// Both sides always present a certificate, and the handshake accepts any: whose it must be depends
// on what the connection is for (a pinned peer, or first contact by a token), so the caller decides
// with verify_peer() before it believes or says anything.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "crypto/x509.h"
#include "sys/fd.h"

struct ssl_ctx_st;
struct ssl_st;

namespace hf::daemon {

// What the connection carries (RFC 7301 protocol names).
inline constexpr std::string_view kAlpnPairing = "holdfast-pair/1";
inline constexpr std::string_view kAlpnRequests = "holdfast-peer/1";
inline constexpr std::string_view kAlpnFrames = "holdfast-frames/1";

using Millis = std::chrono::milliseconds;

// This site's key and certificate chain (leaf, then the CA).
class TlsIdentity {
 public:
  static Result<TlsIdentity> make(const std::string& key_pem, const std::string& leaf_pem,
                                  const std::string& ca_pem);
  ssl_ctx_st* server() const { return server_.get(); }
  ssl_ctx_st* client() const { return client_.get(); }

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  std::unique_ptr<ssl_ctx_st, Free> server_;
  std::unique_ptr<ssl_ctx_st, Free> client_;
};

class TlsStream {
 public:
  // kUnavailable: nobody there. kTimeout.
  static Result<std::unique_ptr<TlsStream>> connect(const TlsIdentity& identity,
                                                    const std::string& address,
                                                    std::string_view alpn, Millis limit);
  static Result<std::unique_ptr<TlsStream>> accept(const TlsIdentity& identity,
                                                   sys::UniqueFd connection, Millis limit);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  // 0: the peer has closed. kTimeout: nothing came.
  Result<size_t> read_some(MutableByteSpan to, Millis limit);
  Status read_exact(MutableByteSpan to, Millis limit);
  Status write_all(ByteSpan from, Millis limit);
  // Also wakes another thread that is in a call on this stream.
  void shut_down();

  int fd() const { return socket_.get(); }
  bool has_pending() const;  // bytes are here that poll() does not see
  std::string alpn() const;
  std::string peer_address() const;
  // Keying material of this connection alone (RFC 8446, 7.5): what is proved with it cannot be
  // relayed.
  Digest exporter() const;

  // The other side's certificates as it sent them, leaf first.
  Result<std::vector<crypto::Certificate>> peer_chain() const;

 private:
  struct Free {
    void operator()(ssl_st* ssl) const;
  };
  TlsStream(ssl_st* ssl, sys::UniqueFd socket) : ssl_(ssl), socket_(std::move(socket)) {}
  Status handshake(bool client, Millis limit);
  Status wait(int ssl_result, std::chrono::steady_clock::time_point end, std::string_view doing);

  std::unique_ptr<ssl_st, Free> ssl_;
  sys::UniqueFd socket_;
};

// "holdfast:site:<hex>", as the vault writes it into each leaf; nullopt: no such name in it.
std::optional<SiteId> site_of(const crypto::Certificate& leaf);
// The chain's leaf is signed by `ca`, valid now, and names `site`. kWrongKey says what is not so.
Status verify_peer(const std::vector<crypto::Certificate>& chain, const crypto::Certificate& ca,
                   SiteId site);

}  // namespace hf::daemon
