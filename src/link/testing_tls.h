// For the tests of the link: TLS by hand. What it says is made in memory, record by record, and
// sent as it is, as much of it at a time as the test likes.
#pragma once

#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "link/testing.h"

namespace hf::link::testing {

class RawTls {
 public:
  // A client on `socket`, which is non-blocking.
  RawTls(const Authority& authority, sys::UniqueFd socket, std::string_view alpn)
      : key_(crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256)), socket_(std::move(socket)) {
    const crypto::Certificate leaf = authority.issue(key_.public_key());
    identity_.emplace(std::move(TlsIdentity::make(key_, leaf, authority.ca)).value());
    ssl_.reset(SSL_new(identity_->client()));
    const std::string entry = std::string(1, static_cast<char>(alpn.size())) + std::string(alpn);
    SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(entry.data()),
                        static_cast<unsigned>(entry.size()));
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(ssl_.get()), -1);
    SSL_set_connect_state(ssl_.get());
  }

  // The next of the handshake, as far as what came says; not sent yet.
  Bytes advance() {
    take_in();
    done_ = SSL_do_handshake(ssl_.get()) == 1;
    return taken();
  }
  bool done() const { return done_; }
  // All of it, with a server that is another process.
  bool connect(Millis limit = 5s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!done_ && std::chrono::steady_clock::now() < end) {
      if (!send(advance())) return false;
      if (!done_) static_cast<void>(sys::wait_ready(socket_.get(), POLLIN, 20ms));
    }
    return done_;
  }

  // `data` in records of so many bytes.
  Bytes records(ByteSpan data, size_t of_each) {
    while (!data.empty()) {
      const ByteSpan piece = data.first(std::min(of_each, data.size()));
      HF_ASSERT(SSL_write(ssl_.get(), piece.data(), static_cast<int>(piece.size())) > 0);
      data = data.subspan(piece.size());
    }
    return taken();
  }
  Bytes key_updates(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      HF_ASSERT(SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1 &&
                SSL_do_handshake(ssl_.get()) == 1);
    }
    return taken();
  }

  // False: it was closed, or did not take all in that time.
  bool send(ByteSpan bytes, Millis limit = 5s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!bytes.empty()) {
      bytes = bytes.subspan(send_some(bytes));
      if (bytes.empty()) break;
      if (broken_ || std::chrono::steady_clock::now() > end) return false;
      static_cast<void>(sys::wait_ready(socket_.get(), POLLOUT, 20ms));
    }
    return true;
  }
  // What goes without waiting.
  size_t send_some(ByteSpan bytes) {
    const ssize_t put =
        ::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put >= 0) return static_cast<size_t>(put);
    broken_ = errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
    return 0;
  }
  // The other side has gone, or goes while it is sent to.
  bool broken() const { return broken_; }

 private:
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  void take_in() {
    std::byte buffer[16384];
    ssize_t got = 0;
    while ((got = ::recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT)) > 0)
      BIO_write(SSL_get_rbio(ssl_.get()), buffer, static_cast<int>(got));
  }
  Bytes taken() {
    Bytes out(BIO_ctrl_pending(SSL_get_wbio(ssl_.get())));
    if (!out.empty()) BIO_read(SSL_get_wbio(ssl_.get()), out.data(), static_cast<int>(out.size()));
    return out;
  }

  crypto::KeyPair key_;
  std::optional<TlsIdentity> identity_;
  sys::UniqueFd socket_;
  std::unique_ptr<SSL, Free> ssl_;
  bool done_ = false;
  bool broken_ = false;
};

}  // namespace hf::link::testing
