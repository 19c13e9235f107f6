// TLS 1.3 over a non-blocking socket: OpenSSL behind two small types. Never waits.
//
// Both sides present a certificate and the handshake accepts any; who it is is decided afterwards
// (peer/trust.h), before anything is believed or said.
//
// One loop serves all channels, and OpenSSL goes on reading as long as something comes: records of
// a byte, key updates, a handshake in crumbs. So a channel takes a share a turn from its socket,
// bytes and a price for each record, then it yields; and handshake messages after the handshake,
// of which an honest peer sends hardly any, are few or the end of it.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "crypto/key_pair.h"
#include "crypto/x509.h"
#include "sys/fd.h"

struct ssl_ctx_st;
struct ssl_st;

namespace hf::link {

// This site's key and certificate chain (leaf, then the CA).
class TlsIdentity {
 public:
  // kWrongKey: the leaf is not of that key.
  static Result<TlsIdentity> make(const crypto::KeyPair& key, const crypto::Certificate& leaf,
                                  const crypto::Certificate& ca);
  ssl_ctx_st* server() const { return server_.get(); }
  ssl_ctx_st* client() const { return client_.get(); }

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  std::unique_ptr<ssl_ctx_st, Free> server_;
  std::unique_ptr<ssl_ctx_st, Free> client_;
};

class TlsChannel {
 public:
  // Sockets are non-blocking. `identity` need not outlive the channel.
  static std::unique_ptr<TlsChannel> client(const TlsIdentity& identity, sys::UniqueFd socket,
                                            std::string_view alpn);
  static std::unique_ptr<TlsChannel> server(const TlsIdentity& identity, sys::UniqueFd socket);
  ~TlsChannel();
  TlsChannel(const TlsChannel&) = delete;
  TlsChannel& operator=(const TlsChannel&) = delete;

  // What a call came to. Blocked: again when the socket is ready. Yield: this turn's share is used
  // up; again in the next turn, of which no event tells.
  enum class Step { kDone, kBlocked, kYield, kClosed };
  struct Moved {
    Step step = Step::kBlocked;
    size_t bytes = 0;
  };
  // kDone once; an error ends the channel.
  Result<Step> handshake();
  // One record's bytes at most. kClosed: the peer said that no more comes. kCorrupt: it sends
  // handshake messages without end.
  Result<Moved> read(MutableByteSpan to);
  // May take a part. Never yields. A call that was blocked is repeated with the same bytes.
  Result<Moved> write(ByteSpan from);
  // Says that no more comes, if that can be said without waiting.
  void say_goodbye();

  int fd() const { return socket_.get(); }
  bool is_client() const { return is_client_; }
  std::string alpn() const;
  // Bytes from the socket so far, whatever they were.
  uint64_t received() const { return received_; }
  // From now on larger reads and a larger share: for a paired site.
  void trust();
  // Keying material of this connection alone (RFC 8446, 7.5).
  Digest exporter() const;
  // The other side's certificates as it sent them, leaf first; at most peer::kChainMax.
  Result<std::vector<crypto::Certificate>> peer_chain() const;

 private:
  struct Free {
    void operator()(ssl_st* ssl) const;
  };
  struct Io;  // what OpenSSL calls
  TlsChannel(ssl_st* ssl, sys::UniqueFd socket, bool is_client);
  Result<Step> step(int result, std::string_view doing);
  void spend(size_t cost) { share_left_ -= std::min(share_left_, cost); }
  Step yield();

  sys::UniqueFd socket_;
  std::unique_ptr<ssl_st, Free> ssl_;
  bool is_client_;
  size_t share_;
  size_t share_left_;
  uint64_t received_ = 0;
  bool socket_ended_ = false;
  bool established_ = false;
  uint64_t late_messages_ = 0;  // of a handshake, after it
  bool flooded_ = false;
};

}  // namespace hf::link
