#include "vault_server/server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "crypto/session_statement.h"
#include "launcher/vault_binding.h"
#include "sys/system_clock.h"
#include "sys/testing.h"
#include "sys/unix_socket.h"
#include "vault/core/testing.h"
#include "vault/core/wrap.h"
#include "vault/protocol/operator_client.h"
#include "vault/protocol/pairing_token.h"

namespace hf::vault_server {
namespace {

using namespace vault::testing;  // NOLINT
using vault::AdminClient;
using vault::KeyClient;
using vault::OperatorClient;

// A served vault: the real server, sockets and clients; only the process is missing.
class Served : public ::testing::Test {
 protected:
  void start(ServerLimits limits = {},
             Server::Users users = {
                 .admin = ::getuid(), .launcher = ::getuid(), .operators = ::getuid()}) {
    const auto listen = [](const std::string& path) {
      sys::UniqueFd fd = std::move(sys::listen_unix(path, sys::SocketType::kStream)).value();
      HF_ASSERT(::chmod(path.c_str(), 0666) == 0);  // whatever the umask
      return fd;
    };
    Server::Listeners listeners{.admin = listen(admin_path()),
                                .keys = listen(keys_path()),
                                .launcher = listen(launcher_path()),
                                .operators = listen(operators_path())};
    sys::SocketPair stop = std::move(sys::socket_pair(sys::SocketType::kStream)).value();
    stop_ = std::move(stop.first);
    server_ = std::make_unique<Server>(*site_.vault, clock_, std::move(listeners),
                                       std::move(stop.second), users, limits);
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
  std::string launcher_path() const { return site_.temp.sub("launcher.sock"); }
  std::string operators_path() const { return site_.temp.sub("operators.sock"); }
  OperatorClient operators() const { return OperatorClient({.socket_path = operators_path()}); }
  // As two operators and two daemons do it: the served site issues the token.
  void pair(TestVault& other) {
    const vault::PairingOffer offer = *operators().offer_pairing(60);
    const auto ca = *crypto::Certificate::from_pem(offer.identity.ca_certificate_pem);
    const vault::PairingTokenId token =
        *other->confirm_pairing({.site = offer.identity.site,
                                 .ca_fingerprint = ca.fingerprint(),
                                 .identity = vault::identity_digest(offer.identity),
                                 .secret = offer.secret.clone(),
                                 .name = ""},
                                kOperator);
    const Digest context = crypto::sha256(as_bytes("one connection"));
    const vault::PairingProof bearer{.token = token,
                                     .context = context,
                                     .peer = other->identity(),
                                     .proof = *other->prove_pairing(token, context)};
    ASSERT_TRUE(admin().check_pairing(bearer).ok());
    const vault::PairingProof issuer{.token = token,
                                     .context = context,
                                     .peer = *admin().site_identity(),
                                     .proof = *admin().prove_pairing(token, context)};
    ASSERT_TRUE(other->accept_pairing(issuer, kDaemon).ok());
    ASSERT_TRUE(admin().accept_pairing(bearer).ok());
    EXPECT_EQ(admin().accept_pairing(bearer).error().code, ErrorCode::kConflict);
  }
  // As the launcher does it, with its own code.
  void bind(const std::vector<launcher::BoundKeeper>& keepers) {
    const Status told = launcher_.tell(keepers);
    ASSERT_TRUE(told.ok()) << told.error().describe();
  }
  // VM 1, over the socket.
  vault::KeyInfo make() {
    const Result<vault::KeyInfo> made = admin().create_vm();
    HF_ASSERT(made.ok());
    made_vms()[1] = made->vm;
    return *made;
  }
  void bind_self() { bind({{.vm = vm_of(1), .uid = ::getuid(), .keeper = true}}); }
  AdminClient admin() const { return AdminClient({.socket_path = admin_path()}); }
  KeyClient keys() const { return KeyClient({.socket_path = keys_path()}); }
  sys::UniqueFd raw_connection(const std::string& path) const {
    sys::UniqueFd fd = std::move(sys::connect_unix(path, sys::SocketType::kStream)).value();
    HF_ASSERT(sys::set_socket_timeouts(fd.get(), 3000).ok());
    return fd;
  }

  TestVault site_{"a", std::nullopt};
  launcher::VaultBinding launcher_{launcher_path()};
  sys::SystemClock clock_;
  sys::UniqueFd stop_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
  Status result_;
};

// Also a reset counts: what was sent before had not been read.
bool closed_by_peer(int fd) {
  std::byte byte;
  const ssize_t got = ::recv(fd, &byte, 1, 0);
  return got == 0 || (got < 0 && errno == ECONNRESET);
}

TEST_F(Served, a_vm_lives_through_both_clients) {
  start();
  const vault::SiteIdentity self = *admin().site_identity();
  EXPECT_EQ(self.name, "a");
  const vault::KeyInfo made = make();
  const VmId vm = made.vm;
  EXPECT_EQ(admin().release(vm).error().code, ErrorCode::kConflict);
  bind_self();
  EXPECT_EQ(keys().fetch_key(vm).error().code, ErrorCode::kUnavailable);
  ASSERT_TRUE(admin().release(vm).ok());
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
  EXPECT_EQ(keys().fetch_key(vm).error().code, ErrorCode::kUnavailable);
  ASSERT_TRUE(admin().delete_key(vm).ok());
  const Error gone = admin().key_info(vm).error();
  EXPECT_EQ(gone.code, ErrorCode::kNotFound);
  EXPECT_FALSE(gone.cause.empty() || gone.effect.empty() || gone.mend.empty());
}

TEST_F(Served, two_vaults_exchange_a_key_through_clients) {
  start();
  TestVault b("b");
  pair(b);
  EXPECT_EQ(*admin().recipients(), std::vector<vault::SiteIdentity>{b->identity()});
  make();
  ASSERT_TRUE(operators().add_member(vm_of(1), b->identity().site).ok());
  const Bytes wrap = *admin().wrap_for(vm_of(1), b->identity().site);
  EXPECT_EQ(*b->import_wrap(vm_of(1), wrap, kDaemon), vault::ImportOutcome::kStored);
  ASSERT_TRUE(b->add_member(vm_of(1), site_->identity().site, kOperator).ok());
  const Bytes back = *b->wrap_for(vm_of(1), site_->identity().site, kDaemon);
  EXPECT_EQ(*admin().import_wrap(vm_of(1), back), vault::ImportOutcome::kAlreadyThere);
  ASSERT_TRUE(operators().remove_recipient(b->identity().site).ok());
}

TEST_F(Served, each_socket_offers_its_own_operations_only) {
  start();
  bind_self();  // who is no keeper has no word at the keepers' socket
  AdminClient wrong_admin({.socket_path = keys_path()});
  EXPECT_EQ(wrong_admin.create_vm().error().code, ErrorCode::kPermission);
  KeyClient wrong_keys({.socket_path = admin_path()});
  EXPECT_EQ(wrong_keys.fetch_key(vm_of(1)).error().code, ErrorCode::kPermission);
  for (const std::string& path : {admin_path(), keys_path(), operators_path()}) {
    launcher::VaultBinding elsewhere(path);
    EXPECT_EQ(elsewhere.tell({}).error().code, ErrorCode::kPermission) << path;
  }
  for (const std::string& path : {admin_path(), keys_path(), launcher_path()}) {
    OperatorClient elsewhere({.socket_path = path});
    EXPECT_EQ(elsewhere.offer_pairing(60).error().code, ErrorCode::kPermission) << path;
    EXPECT_EQ(elsewhere.remove_recipient({}).error().code, ErrorCode::kPermission) << path;
  }
  AdminClient at_the_launchers({.socket_path = launcher_path()});
  EXPECT_EQ(at_the_launchers.release(vm_of(1)).error().code, ErrorCode::kPermission);
}

TEST_F(Served, another_uid_gets_no_word_on_the_daemons_and_the_launchers_socket) {
  start({}, {.admin = ::getuid() + 1, .launcher = ::getuid() + 1});
  EXPECT_EQ(admin().site_identity().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(launcher_.tell({}).error().code, ErrorCode::kUnavailable);
}

TEST_F(Served, without_descriptors_left_it_does_not_burn_the_processor) {
  start();
  sys::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::chrono::milliseconds spent{0};
  {
    const sys::testing::NoDescriptorsLeft none;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    admin_path().copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const auto before = sys::testing::processor_time();
    std::this_thread::sleep_for(std::chrono::milliseconds(1000));
    spent = sys::testing::processor_time() - before;
  }
  EXPECT_LT(spent, std::chrono::milliseconds(200));
  EXPECT_TRUE(admin().site_identity().ok()) << "it only paused";
}

TEST_F(Served, who_is_no_operator_gets_no_word_on_the_operators_socket) {
  start({}, {.admin = ::getuid(), .launcher = ::getuid(), .operators = ::getuid() + 1});
  const Result<vault::PairingOffer> offer = operators().offer_pairing(60);
  if (::getuid() == 0) {  // root is one wherever
    EXPECT_TRUE(offer.ok());
  } else {
    EXPECT_EQ(offer.error().code, ErrorCode::kUnavailable);
  }
}

TEST_F(Served, who_is_no_keeper_gets_no_word_on_the_keys_socket) {
  start();
  const sys::UniqueFd early = raw_connection(keys_path());
  EXPECT_TRUE(closed_by_peer(early.get()));
  bind_self();
  const sys::UniqueFd keeper = raw_connection(keys_path());
  EXPECT_EQ(keys().fetch_key(vm_of(2)).error().code, ErrorCode::kPermission);
  // Its VM's keeper has ended: also what it left open is closed.
  bind({});
  EXPECT_TRUE(closed_by_peer(keeper.get()));
  EXPECT_EQ(keys().fetch_key(vm_of(1)).error().code, ErrorCode::kUnavailable);
}

TEST_F(Served, a_launcher_is_told_what_its_list_is_refused_for) {
  start();
  const Error error =
      launcher_.tell({{.vm = vm_of(1), .uid = ::getuid() + 5, .keeper = true}}).error();
  EXPECT_EQ(error.code, ErrorCode::kPermission);
  EXPECT_NE(error.cause.find("is not one that keepers run as"), std::string::npos) << error.cause;
  EXPECT_FALSE(error.effect.empty() || error.mend.empty());
  // As many as there can be, one user for all of them.
  std::vector<launcher::BoundKeeper> all(launcher::kBoundKeepersMax);
  for (size_t i = 0; i < all.size(); ++i) {
    all[i] = {.vm = vm_of(1), .uid = ::getuid(), .keeper = true};
    store_le<uint32_t>(all[i].vm.bytes.data(), static_cast<uint32_t>(i));
  }
  bind(all);
  EXPECT_TRUE(site_.vault->is_keeper(::getuid()));
  all.push_back({.vm = vm_of(2), .uid = ::getuid(), .keeper = true});
  EXPECT_EQ(launcher_.tell(all).error().code, ErrorCode::kLimit);
}

TEST_F(Served, a_keeper_that_is_ahead_of_its_release_waits_for_it) {
  start();
  make();
  bind_self();
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(keys().await_key(vm_of(1), std::chrono::milliseconds(50)).error().code,
            ErrorCode::kUnavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(2));
  std::jthread keeper(
      [this] { EXPECT_TRUE(keys().await_key(vm_of(1), std::chrono::seconds(20)).ok()); });
  ASSERT_TRUE(admin().release(vm_of(1)).ok());
}

TEST_F(Served, a_session_begins_with_two_signatures_over_the_sockets) {
  start();
  bind_self();
  TestVault peer("b");
  pair(peer);
  crypto::SessionStatement statement;
  statement.vm = vm_of(1);
  statement.home = admin().site_identity()->site;
  statement.replica = peer->identity().site;
  const auto home = crypto::encode(statement);
  const crypto::Signature ours = *keys().session_sign(vm_of(1), home);
  EXPECT_TRUE(peer->session_check(vm_of(1), statement.home, home, ours, kKeeper).ok());
  statement.signer = crypto::SessionRole::kReplica;
  const auto replica = crypto::encode(statement);
  const crypto::Signature theirs = *peer->session_sign(vm_of(1), replica, kKeeper);
  EXPECT_TRUE(keys().session_check(vm_of(1), statement.replica, replica, theirs).ok());
  EXPECT_EQ(keys().session_check(vm_of(1), statement.replica, replica, ours).error().code,
            ErrorCode::kWrongKey);
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
  start({.request_max = Micros(100'000)});
  bind_self();
  const sys::UniqueFd silent = raw_connection(keys_path());
  const sys::UniqueFd half = raw_connection(keys_path());
  ASSERT_EQ(::send(half.get(), "HFVP", 4, MSG_NOSIGNAL), 4);
  EXPECT_TRUE(admin().site_identity().ok());
  EXPECT_TRUE(closed_by_peer(silent.get()));
  EXPECT_TRUE(closed_by_peer(half.get()));
}

// A byte now and then keeps no place: the whole request must have come.
TEST_F(Served, a_request_that_trickles_is_dropped_all_the_same) {
  start({.request_max = Micros(300'000)});
  bind_self();
  const sys::UniqueFd fd = raw_connection(keys_path());
  const Bytes request = vault::encode_request(vault::Op::kFetchKey, 1, vm_of(1).span());
  const auto before = std::chrono::steady_clock::now();
  for (const std::byte byte : request) {
    if (::send(fd.get(), &byte, 1, MSG_NOSIGNAL) != 1) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  EXPECT_TRUE(closed_by_peer(fd.get()));
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(3));
}

TEST_F(Served, connections_are_bounded_for_each_listener_by_itself) {
  start({.admin_max = 2, .keys_max = 8, .keys_per_uid_max = 3});
  bind_self();
  std::vector<sys::UniqueFd> keys;
  for (int i = 0; i < 3; ++i) keys.push_back(raw_connection(keys_path()));
  EXPECT_TRUE(closed_by_peer(raw_connection(keys_path()).get()));
  std::vector<sys::UniqueFd> admins;
  for (int i = 0; i < 2; ++i) admins.push_back(raw_connection(admin_path()));
  EXPECT_TRUE(closed_by_peer(raw_connection(admin_path()).get()));
  bind_self();  // the launcher has places of its own
}

// As another user, for this thread only: the kernel notes who connects.
class AsUser {
 public:
  explicit AsUser(uint32_t uid) { set(uid); }
  ~AsUser() { set(0); }
  AsUser(const AsUser&) = delete;
  AsUser& operator=(const AsUser&) = delete;

 private:
  static void set(uint32_t uid) { HF_ASSERT(::syscall(SYS_setresuid, -1, uid, -1) == 0); }
};

// A vault whose keepers have users of their own.
class ServedApart : public Served {
 protected:
  ServedApart() {
    site_.keepers = kKeeperUids;
    site_.reopen();
    HF_ASSERT(launcher_.for_start({}).ok());  // the list that a TestVault begins with
  }
  void SetUp() override {
    if (::getuid() != 0) GTEST_SKIP() << "only root can be several users";
    ASSERT_EQ(::chmod(site_.temp.sub(".").c_str(), 0711), 0);
    made_vms()[kGood] = site_.vault->create_vm(kDaemon)->vm;
  }
  // Keeper n of VM n.
  static uint32_t uid_of(uint8_t number) { return kKeeperUid + 2 * number; }
  std::vector<launcher::BoundKeeper> keepers_to(uint8_t last) const {
    std::vector<launcher::BoundKeeper> all;
    for (uint8_t n = 1; n <= last; ++n)
      all.push_back({.vm = vm_of(n), .uid = uid_of(n), .keeper = true});
    return all;
  }
  // As many as the vault takes, each with a byte of a request that never comes.
  std::vector<sys::UniqueFd> crowd(uint32_t uid, int count) const {
    const AsUser other(uid);
    std::vector<sys::UniqueFd> all;
    for (int i = 0; i < count; ++i) {
      all.push_back(raw_connection(keys_path()));
      (void)::send(all.back().get(), "H", 1, MSG_NOSIGNAL);
    }
    return all;
  }
  static size_t open_ones(const std::vector<sys::UniqueFd>& all) {
    return static_cast<size_t>(std::ranges::count_if(all, [](const sys::UniqueFd& fd) {
      std::byte byte;
      return ::recv(fd.get(), &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
    }));
  }
  void expect_quick_answers() {
    const auto before = std::chrono::steady_clock::now();
    EXPECT_TRUE(admin().site_identity().ok());
    ASSERT_NO_FATAL_FAILURE(bind(keepers_to(kGood)));
    const AsUser good(uid_of(kGood));
    EXPECT_TRUE(keys().fetch_key(vm_of(kGood)).ok());
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(1));
  }

  static constexpr uint8_t kGood = 10;
};

TEST_F(ServedApart, strangers_take_no_place) {
  start();
  ASSERT_NO_FATAL_FAILURE(bind(keepers_to(kGood)));
  ASSERT_TRUE(admin().release(vm_of(kGood)).ok());
  std::vector<std::vector<sys::UniqueFd>> crowds;
  for (const uint32_t uid : {71001u, 71002u, 71003u, 71004u}) crowds.push_back(crowd(uid, 200));
  expect_quick_answers();
  for (const auto& one : crowds) EXPECT_EQ(open_ones(one), 0u);
}

// Taken over, all of them; each keeps what it can get and sends a byte of it now and then.
TEST_F(ServedApart, keepers_that_crowd_it_leave_room_for_daemon_launcher_and_each_other) {
  const ServerLimits limits;
  start(limits);
  ASSERT_NO_FATAL_FAILURE(bind(keepers_to(kGood)));
  ASSERT_TRUE(admin().release(vm_of(kGood)).ok());
  std::vector<std::vector<sys::UniqueFd>> crowds;
  for (uint8_t n = 1; n <= 8; ++n) crowds.push_back(crowd(uid_of(n), 50));
  expect_quick_answers();
  size_t open = 0;
  for (const auto& one : crowds) {
    EXPECT_LE(open_ones(one), limits.keys_per_uid_max);
    open += open_ones(one);
  }
  EXPECT_LE(open, limits.keys_max);
  EXPECT_GE(open, limits.keys_max - 8);  // so it was full as the good one came
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

TEST_F(ServedApart, who_is_in_the_operators_group_is_an_operator_unless_he_has_another_office) {
  constexpr uint32_t kGroup = 64'123;
  constexpr uint32_t kDaemonUid = 71'000;
  constexpr uint32_t kSomeone = 72'000;
  start({}, {.admin = kDaemonUid, .launcher = 0, .operators = 0, .operators_group = kGroup});
  const auto offers = [&](uint32_t uid, uint32_t group) {
    bool done = false;
    // The system calls themselves are a thread's alone.
    std::thread([&] {
      HF_ASSERT(::syscall(SYS_setgroups, 1, &group) == 0);
      const AsUser other(uid);
      done = operators().offer_pairing(60).ok();
    }).join();
    return done;
  };
  EXPECT_TRUE(offers(kSomeone, kGroup));
  EXPECT_FALSE(offers(kSomeone, kGroup + 1));
  EXPECT_FALSE(offers(kDaemonUid, kGroup)) << "it would have the operators' word";
  EXPECT_FALSE(offers(uid_of(1), kGroup)) << "one day a keeper";
  EXPECT_TRUE(offers(0, kGroup + 1));
}

}  // namespace
}  // namespace hf::vault_server
