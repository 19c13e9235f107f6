#include "vaultd/server.h"

#include <sys/socket.h>

#include <thread>

#include "sys/system_clock.h"
#include "sys/unix_socket.h"
#include "vault/core/testing.h"
#include "vault/core/wrap.h"
#include "vault/protocol/client.h"

namespace hf::vaultd {
namespace {

using namespace vault::testing;  // NOLINT
using vault::AdminClient;
using vault::KeyClient;

// A served vault: the real server, sockets and clients; only the process is missing.
class Served : public ::testing::Test {
 protected:
  void start(ServerLimits limits = {}, uint32_t admin_uid = ::getuid()) {
    Server::Listeners listeners{
        .admin = std::move(sys::listen_unix(admin_path(), sys::SocketType::kStream)).value(),
        .keys = std::move(sys::listen_unix(keys_path(), sys::SocketType::kStream)).value()};
    sys::SocketPair stop = std::move(sys::socket_pair(sys::SocketType::kStream)).value();
    stop_ = std::move(stop.first);
    server_ = std::make_unique<Server>(*site_.vault, clock_, std::move(listeners),
                                       std::move(stop.second), admin_uid, limits);
    thread_ = std::thread([this] { result_ = server_->run(); });
  }
  void TearDown() override {
    if (!thread_.joinable()) return;
    stop_.reset();
    thread_.join();
    EXPECT_TRUE(result_.ok());
  }
  std::string admin_path() const { return site_.temp.sub("admin.sock"); }
  std::string keys_path() const { return site_.temp.sub("keys.sock"); }
  AdminClient admin() const { return AdminClient({.socket_path = admin_path()}); }
  KeyClient keys() const { return KeyClient({.socket_path = keys_path()}); }
  sys::UniqueFd raw_connection(const std::string& path) const {
    sys::UniqueFd fd = std::move(sys::connect_unix(path, sys::SocketType::kStream)).value();
    HF_ASSERT(sys::set_socket_timeouts(fd.get(), 3000).ok());
    return fd;
  }

  TestVault site_{"a"};
  sys::SystemClock clock_;
  sys::UniqueFd stop_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
  Status result_;
};

bool closed_by_peer(int fd) {
  std::byte byte;
  return ::recv(fd, &byte, 1, 0) == 0;
}

TEST_F(Served, a_vm_lives_through_both_clients) {
  start();
  const VmId vm = vm_of(1);
  const vault::SiteIdentity self = *admin().site_identity();
  EXPECT_EQ(self.name, "a");
  const vault::KeyInfo made = *admin().create_key(vm);
  EXPECT_EQ(admin().create_key(vm).error().code, ErrorCode::kExists);
  EXPECT_EQ(keys().fetch_key(vm).error().code, ErrorCode::kPermission);
  ASSERT_TRUE(admin().release(vm, ::getuid()).ok());
  const vault::FetchedKey key = *keys().fetch_key(vm);
  EXPECT_EQ(vault::key_id_of(key.key), made.key_id);

  EXPECT_EQ(*keys().get_freshness(vm), std::nullopt);
  const vault::Freshness fresh{
      .position = {.incarnation = {}, .sequence = Sequence(4)}, .chain = {}, .time = Micros(3)};
  ASSERT_TRUE(keys().put_freshness(vm, fresh).ok());
  EXPECT_EQ(*keys().get_freshness(vm), fresh);
  EXPECT_EQ(*admin().read_freshness(vm), fresh);

  const crypto::KeyPair ek = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP384);
  const Bytes certificate =
      *keys().issue_ek_certificate(vm, vault::EkKind::kEccP384, ek.public_key().to_der());
  EXPECT_TRUE(crypto::Certificate::from_der(certificate).ok());
  EXPECT_TRUE(
      admin().issue_tls({.common_name = "daemon", .key_pem = ek.public_key().to_pem()}).ok());

  ASSERT_TRUE(admin().revoke(vm).ok());
  EXPECT_EQ(keys().fetch_key(vm).error().code, ErrorCode::kPermission);
  ASSERT_TRUE(admin().delete_key(vm).ok());
  const Error gone = admin().key_info(vm).error();
  EXPECT_EQ(gone.code, ErrorCode::kNotFound);
  EXPECT_FALSE(gone.cause.empty() || gone.effect.empty() || gone.mend.empty());
}

TEST_F(Served, two_vaults_exchange_a_key_through_clients) {
  start();
  TestVault b("b");
  ASSERT_TRUE(admin().add_recipient(b->identity()).ok());
  EXPECT_EQ(*admin().recipients(), std::vector<vault::SiteIdentity>{b->identity()});
  ASSERT_TRUE(b->add_recipient(*admin().site_identity(), kDaemon).ok());
  ASSERT_TRUE(admin().create_key(vm_of(1)).ok());
  const Bytes wrap = *admin().wrap_for(vm_of(1), b->identity().site);
  EXPECT_EQ(*b->import_wrap(vm_of(1), wrap, kDaemon), vault::ImportOutcome::kStored);
  const Bytes back = *b->wrap_for(vm_of(1), site_->identity().site, kDaemon);
  EXPECT_EQ(*admin().import_wrap(vm_of(1), back), vault::ImportOutcome::kAlreadyThere);
  ASSERT_TRUE(admin().remove_recipient(b->identity().site).ok());
}

TEST_F(Served, each_socket_offers_its_own_operations_only) {
  start();
  AdminClient wrong_admin({.socket_path = keys_path()});
  EXPECT_EQ(wrong_admin.create_key(vm_of(1)).error().code, ErrorCode::kPermission);
  KeyClient wrong_keys({.socket_path = admin_path()});
  EXPECT_EQ(wrong_keys.fetch_key(vm_of(1)).error().code, ErrorCode::kPermission);
}

TEST_F(Served, another_uid_gets_no_word_on_the_admin_socket) {
  start({}, ::getuid() + 1);
  EXPECT_EQ(admin().site_identity().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(keys().fetch_key(vm_of(1)).error().code, ErrorCode::kPermission);
}

TEST_F(Served, garbage_and_oversized_frames_end_the_connection_and_nothing_else) {
  start();
  for (const char* frame :
       {"GET / HTTP/1.1\r\n\r\n", "HFVP\x01\0\x01\x01\0\0\0\0\xff\xff\xff\xff"}) {
    const sys::UniqueFd fd = raw_connection(admin_path());
    ASSERT_EQ(::send(fd.get(), frame, 16, MSG_NOSIGNAL), 16);
    EXPECT_TRUE(closed_by_peer(fd.get()));
  }
  EXPECT_TRUE(admin().site_identity().ok());
}

TEST_F(Served, a_peer_that_stalls_is_dropped_and_holds_nobody_up) {
  start({.idle_max = Micros(100'000)});
  const sys::UniqueFd silent = raw_connection(keys_path());
  const sys::UniqueFd half = raw_connection(keys_path());
  ASSERT_EQ(::send(half.get(), "HFVP", 4, MSG_NOSIGNAL), 4);
  EXPECT_TRUE(admin().site_identity().ok());
  EXPECT_TRUE(closed_by_peer(silent.get()));
  EXPECT_TRUE(closed_by_peer(half.get()));
}

TEST_F(Served, connections_are_bounded) {
  start({.connections_max = 8, .connections_per_uid_max = 2});
  const sys::UniqueFd first = raw_connection(keys_path());
  const sys::UniqueFd second = raw_connection(keys_path());
  const sys::UniqueFd third = raw_connection(keys_path());
  EXPECT_TRUE(closed_by_peer(third.get()));
}

TEST_F(Served, one_connection_takes_many_requests_in_small_pieces) {
  start();
  const sys::UniqueFd fd = raw_connection(admin_path());
  for (uint32_t id = 1; id <= 3; ++id) {
    for (const std::byte byte : vault::encode_request(vault::Op::kSiteIdentity, id, {})) {
      ASSERT_EQ(::send(fd.get(), &byte, 1, MSG_NOSIGNAL), 1);
    }
    std::byte raw[vault::kHeaderSize];
    ASSERT_EQ(::recv(fd.get(), raw, sizeof raw, MSG_WAITALL), static_cast<ssize_t>(sizeof raw));
    const vault::FrameHeader header = *vault::decode_header(raw);
    EXPECT_EQ(header.request_id, id);
    Bytes body(header.body_length);
    ASSERT_EQ(::recv(fd.get(), body.data(), body.size(), MSG_WAITALL),
              static_cast<ssize_t>(body.size()));
  }
}

TEST(Client, is_bounded_in_time_whatever_the_vault_does) {
  TempDir temp;
  const std::string path = temp.sub("s");
  AdminClient nobody({.socket_path = path});
  const Error absent = nobody.site_identity().error();
  EXPECT_EQ(absent.code, ErrorCode::kUnavailable);
  EXPECT_FALSE(absent.effect.empty() || absent.mend.empty());
  const auto mute = std::move(sys::listen_unix(path, sys::SocketType::kStream)).value();
  const auto before = std::chrono::steady_clock::now();
  AdminClient client({.socket_path = path, .timeout = std::chrono::milliseconds(150)});
  EXPECT_EQ(client.site_identity().error().code, ErrorCode::kTimeout);
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(2));
  EXPECT_EQ(AdminClient({.socket_path = std::string(200, 'x')}).site_identity().error().code,
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace hf::vaultd
