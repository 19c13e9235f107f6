// What a QEMU that was taken over reaches: a program of the attacker's, started by the launcher in
// QEMU's place, as its user, with its groups, namespaces and filter.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <set>

#include "launcher/test_site.h"
#include "sys/bounded_io.h"

namespace hf::launcher {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kLimit{5000};
constexpr uint32_t kBase = 3'000'000;

std::string reach_program() {
  auto self = std::filesystem::read_symlink("/proc/self/exe");
  return (self.parent_path().parent_path() / "bin/holdfast-reach").string();
}

struct Listener {
  sys::UniqueFd fd;
  std::string name;  // port, or abstract name
};

Listener listen_tcp() {
  Listener listener{.fd = sys::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  HF_ASSERT(::bind(listener.fd.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
  HF_ASSERT(::listen(listener.fd.get(), 16) == 0);
  HF_ASSERT(::getsockname(listener.fd.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
  listener.name = std::to_string(ntohs(address.sin_port));
  return listener;
}

Listener listen_abstract() {
  Listener listener{.fd = sys::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)),
                    .name = "hf-taken-over-" + std::to_string(::getpid())};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(&address.sun_path[1], listener.name.data(), listener.name.size());
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + listener.name.size());
  HF_ASSERT(::bind(listener.fd.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
  HF_ASSERT(::listen(listener.fd.get(), 16) == 0);
  return listener;
}

class TakenOver : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    site_ = std::make_unique<TestSite>(kBase);
    running_ = std::make_unique<RunningSupervisor>(
        *site_, "exec sleep 60",
        Programs{.qemu = reach_program(), .qemu_arguments = {site_->file("attempts")}});
    // The site's own sockets, as start_core() makes them.
    auto tree = StateTree::open(site_->path());
    HF_ASSERT(tree.ok());
    const Users& users = tree->users();
    for (const auto& [name, owner, mode] : std::vector<std::tuple<std::string, uid_t, mode_t>>{
             {"api.sock", users.daemon(), 0660},
             {"vault-admin.sock", users.daemon(), 0600},
             {"vault-operators.sock", ::geteuid(), 0600},
             {"vault-keys.sock", users.vault(), 0666}}) {
      auto socket = tree->listen_core(name, owner, mode);
      HF_ASSERT(socket.ok());
      core_.push_back(std::move(*socket));
    }
    for (uint8_t number : {uint8_t{1}, uint8_t{2}}) start_keeper(number);
  }

  void start_keeper(uint8_t number) {
    StartRequest keeper = running_->keeper(test_vm(number), "keeper-" + std::to_string(number));
    keeper.vm_number = number;
    for (const char* name : {"disk1.nbd", "vars.nbd", "tpm.sock"}) {
      std::string plain = std::string(name).substr(0, std::string(name).find('.'));
      keeper.sockets.push_back({.name = plain, .path = run(number) + "/" + name});
    }
    for (const char* name : {"control", "ship"}) {
      keeper.sockets.push_back({.name = name,
                                .path = run(number) + "/" + name + ".sock",
                                .access = SocketAccess::kDaemon});
    }
    auto pid = running_->client().start(keeper, {}, kLimit);
    ASSERT_TRUE(pid.ok()) << pid.error().describe();
    keepers_.push_back(std::to_string(*pid));
  }

  static std::string run(uint8_t number) { return "run/vms/" + test_vm(number).hex(); }

  // VM 1's QEMU, taken over: which of the attempts it could.
  std::set<std::string> reached(const std::vector<std::string>& attempts, vm::Network network) {
    std::string text;
    for (const std::string& attempt : attempts) text += attempt + "\n";
    site_->write("attempts", text);
    StartRequest qemu = running_->shell(test_vm(1), "");
    qemu.vm_number = 1;
    qemu.machine->definition.nics = {
        {.name = "nic1", .mac = "02:00:00:00:00:01", .network = network}};
    size_t before = running_->event_count();
    auto started = running_->client().start(qemu, {}, kLimit);
    EXPECT_TRUE(started.ok()) << started.error().describe();
    Event event = running_->wait_for(Event::Kind::kExited, "qemu-1", before);
    EXPECT_EQ(event.exit_status, 0) << event.stderr_tail;
    std::istringstream lines(site_->read("run/log/qemu-1.log"));
    std::set<std::string> could;
    size_t answered = 0;
    for (std::string line; std::getline(lines, line);) {
      answered += 1;
      if (line.starts_with("yes ")) could.insert(line.substr(4));
    }
    EXPECT_EQ(answered, attempts.size()) << "every attempt was made";
    std::filesystem::remove(site_->file("run/log/qemu-1.log"));
    return could;
  }

  std::unique_ptr<TestSite> site_;
  std::unique_ptr<RunningSupervisor> running_;
  std::vector<sys::UniqueFd> core_;
  std::vector<std::string> keepers_;
};

TEST_F(TakenOver, reaches_its_own_disks_variables_and_tpm_and_nothing_else) {
  Listener tcp = listen_tcp();
  Listener abstract = listen_abstract();
  std::string mine = site_->file(run(1));
  std::string other = site_->file(run(2));
  std::string self = std::to_string(::getpid());
  std::vector<std::string> allowed;
  for (const char* name : {"/disk1.nbd", "/vars.nbd", "/tpm.sock"}) {
    allowed.push_back("socket " + mine + name);
  }
  // Anyone may ask there; the vault looks at who does.
  allowed.push_back("socket " + site_->file("run/vault-keys.sock"));
  std::vector<std::string> attempts = allowed;
  for (const char* name : {"/control.sock", "/ship.sock", "/qmp.sock", "/console.sock"}) {
    attempts.push_back("socket " + mine + name);
    attempts.push_back("rename " + mine + name);
  }
  for (const char* name : {"/disk1.nbd", "/vars.nbd", "/tpm.sock", "/control.sock", "/ship.sock"}) {
    attempts.push_back("socket " + other + name);
  }
  for (const std::string& directory : {mine, other, site_->file("run"), site_->file("run/vms"),
                                       site_->path(), site_->file("run/new")}) {
    attempts.push_back("create " + directory + "/x");
    attempts.push_back("link " + directory + "/y");
  }
  for (const char* name : {"run", "run/vms", "run/log", "vault", "daemon", "vms"}) {
    attempts.push_back("list " + site_->file(name));
  }
  for (uint8_t number : {uint8_t{1}, uint8_t{2}}) {
    attempts.push_back("list " + site_->file("vms/" + test_vm(number).hex()));
    attempts.push_back("list " + site_->file("vms/" + test_vm(number).hex() + "/journal"));
  }
  for (const char* name : {"run/api.sock", "run/vault-admin.sock", "run/vault-operators.sock"}) {
    attempts.push_back("socket " + site_->file(name));
  }
  attempts.push_back("write " + site_->file("site.json"));
  attempts.push_back("read " + site_->file("run/lock"));
  for (const std::string& pid : {keepers_[0], keepers_[1], self}) {
    for (const char* word : {"signal ", "trace ", "memory "}) attempts.push_back(word + pid);
  }
  for (const char* word : {"userns", "mount", "setuid", "keyring", "netlink"}) {
    attempts.emplace_back(word);
  }
  if (can_empty_network()) {
    attempts.push_back("tcp " + tcp.name);
    attempts.push_back("abstract " + abstract.name);
  }
  EXPECT_EQ(reached(attempts, vm::Network::kNone),
            std::set<std::string>(allowed.begin(), allowed.end()));
  // With user networking QEMU is in the host's network: that much more, and no more.
  std::set<std::string> with_network = reached(attempts, vm::Network::kUser);
  for (const std::string& path : allowed) EXPECT_EQ(with_network.erase(path), 1u) << path;
  with_network.erase("tcp " + tcp.name);
  with_network.erase("abstract " + abstract.name);
  EXPECT_EQ(with_network, std::set<std::string>());
}

// "setsid" leaves session and process group; the shell that started it is gone by then.
constexpr const char* kForks =
    "setsid bash -c 'echo $$ > \"$HOLDFAST_STATE/forked\"; exec sleep 600' & "
    "while [ ! -s \"$HOLDFAST_STATE/forked\" ]; do sleep 0.01; done; exec sleep 600";

// A zombie that nobody has reaped yet does nothing any more.
bool gone(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(stat, text)) return true;
  return text.substr(text.rfind(')')).starts_with(") Z");
}

void expect_forks_end(bool control_groups) {
  TestSite site;
  RunningSupervisor running(site, kForks, {}, control_groups);
  StartRequest keeper = running.keeper(test_vm(1));
  keeper.restart = RestartPolicy::kAlways;
  auto started = running.client().start(keeper, {}, kLimit);
  ASSERT_TRUE(started.ok()) << started.error().describe();
  auto forked = [&] { return std::atoi(site.read("forked").c_str()); };
  ASSERT_TRUE(eventually([&] { return forked() > 0; }));
  pid_t first = forked();
  // A successor does not meet it.
  site.write("forked", "");
  ASSERT_EQ(::kill(static_cast<pid_t>(*started), SIGKILL), 0);
  EXPECT_GT(running.wait_for(Event::Kind::kStarted, "keeper-1").pid, 0);
  EXPECT_TRUE(gone(first));
  ASSERT_TRUE(eventually([&] { return forked() > 0; }));
  pid_t second = forked();
  ASSERT_FALSE(gone(second));
  ASSERT_TRUE(running.client().stop({.unit = "keeper-1", .signal = 9}, kLimit).ok());
  EXPECT_TRUE(gone(second)) << "when the stop is answered";
}

TEST(Forks, end_with_their_unit_by_its_control_group) {
  struct stat status{};
  ASSERT_EQ(::stat("/tmp", &status), 0);
  status.st_ino += 1'000'000;
  if (!SiteCgroup::open(status).usable()) GTEST_SKIP() << "no control groups here";
  expect_forks_end(true);
}

TEST(Forks, end_with_their_unit_without_control_groups) { expect_forks_end(false); }

TEST(Weaknesses, are_told_with_the_status) {
  TestSite site;
  RunningSupervisor running(site, "true", {}, false);
  auto status = running.client().status(kLimit);
  ASSERT_TRUE(status.ok());
  EXPECT_FALSE(status->weaknesses.empty());
}

}  // namespace
}  // namespace hf::launcher
