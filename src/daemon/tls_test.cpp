#include "daemon/tls.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <signal.h>
#include <sys/socket.h>

#include <future>
#include <thread>

#include "crypto/key_pair.h"
#include "daemon/catalog_inner.h"
#include "daemon/peer_message.h"
#include "sys/unix_socket.h"

namespace hf::daemon {
namespace {

using namespace std::chrono_literals;

std::string pem_of(const crypto::KeyPair& key) {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PKCS8PrivateKey(bio, key.handle(), nullptr, nullptr, 0, nullptr, nullptr);
  char* data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  std::string pem(data, static_cast<size_t>(size));
  BIO_free(bio);
  return pem;
}

// A site's authority and the identity it gave its daemon.
struct Site {
  explicit Site(uint8_t number)
      : ca_key(crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256)),
        ca(crypto::make_ca(ca_key, {.common_name = "ca", .now = catalog_now(), .valid_days = 10})) {
    id.bytes[0] = std::byte{number};
    auto key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
    crypto::LeafOptions options{.common_name = "site",
                                .dns_names = {},
                                .ip_addresses = {},
                                .uris = {"holdfast:site:" + id.hex()},
                                .now = catalog_now(),
                                .valid_days = 10};
    auto leaf = crypto::issue_leaf(ca, ca_key, key.public_key(), options);
    identity.emplace(
        std::move(TlsIdentity::make(pem_of(key), leaf->to_pem(), ca.to_pem())).value());
  }
  SiteId id;
  crypto::KeyPair ca_key;
  crypto::Certificate ca;
  std::optional<TlsIdentity> identity;
};

// A listener on the loopback device.
struct Listener {
  Listener() {
    fd.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof any), 0);
    EXPECT_EQ(::listen(fd.get(), 4), 0);
    socklen_t size = sizeof any;
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&any), &size);
    address = "127.0.0.1:" + std::to_string(ntohs(any.sin_port));
  }
  sys::UniqueFd accept() const {
    return sys::UniqueFd(::accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  sys::UniqueFd fd;
  std::string address;
};

struct Connected {
  std::unique_ptr<TlsStream> client;
  std::unique_ptr<TlsStream> server;
};

Connected connect(const Site& client, const Site& server, std::string_view alpn = kAlpnRequests) {
  Listener listener;
  auto accepted = std::async(std::launch::async, [&] {
    return TlsStream::accept(*server.identity, listener.accept(), 5s);
  });
  auto stream = TlsStream::connect(*client.identity, listener.address, alpn, 5s);
  auto other = accepted.get();
  EXPECT_TRUE(stream.ok() && other.ok());
  return {std::move(stream).value(), std::move(other).value()};
}

TEST(Tls, both_sides_see_each_others_certificate_and_protocol) {
  Site a(1);
  Site b(2);
  Connected both = connect(a, b);
  EXPECT_EQ(both.server->alpn(), kAlpnRequests);
  EXPECT_TRUE(verify_peer(*both.client->peer_chain(), b.ca, b.id).ok());
  EXPECT_TRUE(verify_peer(*both.server->peer_chain(), a.ca, a.id).ok());
  EXPECT_EQ(both.client->exporter(), both.server->exporter());
}

TEST(Tls, another_authority_or_another_site_is_refused) {
  Site a(1);
  Site b(2);
  Site forged(2);  // the same site id under an authority of its own
  Connected both = connect(a, forged);
  Status refused = verify_peer(*both.client->peer_chain(), b.ca, b.id);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kWrongKey);
  Connected real = connect(a, b);
  EXPECT_FALSE(verify_peer(*real.client->peer_chain(), b.ca, a.id).ok());
}

TEST(Tls, each_connection_has_keying_material_of_its_own) {
  Site a(1);
  Site b(2);
  EXPECT_NE(connect(a, b).client->exporter(), connect(a, b).client->exporter());
}

TEST(Tls, an_unknown_protocol_is_refused_in_the_handshake) {
  Site a(1);
  Site b(2);
  Listener listener;
  auto accepted = std::async(std::launch::async,
                             [&] { return TlsStream::accept(*b.identity, listener.accept(), 5s); });
  static_cast<void>(TlsStream::connect(*a.identity, listener.address, "other/9", 5s));
  EXPECT_FALSE(accepted.get().ok());
}

TEST(Tls, a_silent_peer_costs_no_more_than_the_limit) {
  Site a(1);
  Site b(2);
  Connected both = connect(a, b);
  std::byte buffer[16];
  Result<size_t> nothing = both.client->read_some(buffer, 30ms);
  ASSERT_FALSE(nothing.ok());
  EXPECT_EQ(nothing.error().code, ErrorCode::kTimeout);
  both.server.reset();
  Result<size_t> closed = both.client->read_some(buffer, 1s);
  EXPECT_TRUE(closed.ok() && *closed == 0);
}

TEST(Tls, a_sender_learns_at_once_that_the_peer_stopped_reading) {
  ::signal(SIGPIPE, SIG_IGN);  // as holdfastd does
  Site a(1);
  Site b(2);
  Connected both = connect(a, b);
  ASSERT_TRUE(both.server->write_all(Bytes(100), 1s).ok());
  auto sent =
      std::async(std::launch::async, [&] { return both.client->write_all(Bytes(64 << 20), 2s); });
  // More than its kernel's buffers hold: only then does nothing but the FIN tell.
  ASSERT_EQ(sent.wait_for(200ms), std::future_status::timeout);
  both.server->shut_down();
  const Status ended = sent.get();
  ASSERT_FALSE(ended.ok());
  EXPECT_EQ(ended.error().code, ErrorCode::kUnavailable) << ended.error().describe();
  Bytes words(100);
  EXPECT_TRUE(both.client->read_exact(words, 1s).ok()) << "what it had said before is still there";
}

TEST(PeerMessage, arrives_and_an_error_arrives_as_one) {
  Site a(1);
  Site b(2);
  Connected both = connect(a, b);
  ASSERT_TRUE(send_message(*both.client, {{"op", "ping"}}, 1s).ok());
  EXPECT_EQ(receive_message(*both.server, 1s)->at("op").as_string(), "ping");
  Error error{.code = ErrorCode::kConflict, .cause = "c", .effect = "e", .mend = "m"};
  ASSERT_TRUE(send_message(*both.server, error_message(error), 1s).ok());
  Result<sys::JsonObject> got = receive_message(*both.client, 1s);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, ErrorCode::kConflict);
  EXPECT_EQ(got.error().mend, "m");
}

TEST(PeerMessage, a_length_beyond_the_limit_is_refused_unread) {
  Site a(1);
  Site b(2);
  Connected both = connect(a, b);
  std::byte head[4] = {std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0x7f}};
  ASSERT_TRUE(both.client->write_all(head, 1s).ok());
  Result<sys::JsonObject> got = receive_message(*both.server, 1s);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, ErrorCode::kLimit);
}

}  // namespace
}  // namespace hf::daemon
