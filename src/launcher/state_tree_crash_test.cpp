// A launcher that is killed at any of its changes to the tree, and the one after it.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "launcher/state_tree.h"
#include "launcher/test_site.h"

namespace {

// How many changes until this process kills itself; 0: never.
int g_changes_left = 0;

void count_change() {
  if (g_changes_left != 0 && --g_changes_left == 0) (void)::kill(::getpid(), SIGKILL);
}

}  // namespace

// In front of libc's, for this program only: dies before the change, or makes it.
extern "C" {
int fchown(int fd, uid_t user, gid_t group) {
  count_change();
  return static_cast<int>(::syscall(SYS_fchown, fd, user, group));
}
int fchmod(int fd, mode_t mode) {
  count_change();
  return static_cast<int>(::syscall(SYS_fchmod, fd, mode));
}
int mkdirat(int directory, const char* name, mode_t mode) {
  count_change();
  return static_cast<int>(::syscall(SYS_mkdirat, directory, name, mode));
}
int renameat(int from_directory, const char* from, int to_directory, const char* to) {
  count_change();
  return static_cast<int>(::syscall(SYS_renameat2, from_directory, from, to_directory, to, 0));
}
}

namespace hf::launcher {
namespace {

constexpr uint32_t kBase = 3'000'000;

void make_replica(const TestSite& site, VmId vm, uid_t daemon) {
  std::string replica = "daemon/replicas/" + vm.hex();
  ::mkdir(site.file("daemon/replicas").c_str(), 0700);
  ::mkdir(site.file(replica).c_str(), 0700);
  ::mkdir(site.file(replica + "/staging").c_str(), 0700);
  for (const char* name : {"", "/staging", "/MANIFEST", "/1.seg", "/2.seg", "/staging/3.seg"}) {
    std::string path = replica + name;
    if (std::string_view(name).contains('.') || std::string_view(name).contains('M')) {
      site.write(path, path);
    }
    ASSERT_EQ(::chown(site.file(path).c_str(), daemon, daemon), 0);
  }
  ASSERT_EQ(::chown(site.file("daemon/replicas").c_str(), daemon, daemon), 0);
}

// What a start of a VM whose replica waits does to the tree.
Status adopt(const TestSite& site, VmId vm, uint32_t number) {
  StateTree tree = TRY(StateTree::open(site.path()));
  TRY(tree.prepare());
  TRY(tree.prepare_vm(vm, number));
  return tree.adopt(vm, number, "daemon/replicas/" + vm.hex());
}

// False: it was done before the `at`-th change came.
bool killed_at(const TestSite& site, VmId vm, uint32_t number, int at) {
  pid_t child = ::fork();
  HF_ASSERT(child >= 0);
  if (child == 0) {
    g_changes_left = at;
    ::_exit(adopt(site, vm, number).ok() ? 0 : 1);
  }
  int status = 0;
  HF_ASSERT(::waitpid(child, &status, 0) == child);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  return WIFSIGNALED(status);
}

void expect_adopted(const TestSite& site, VmId vm, uint32_t number) {
  Users users{.uid_base = kBase};
  for (const char* name : {"", "/MANIFEST", "/1.seg", "/2.seg", "/staging", "/staging/3.seg"}) {
    struct stat status{};
    std::string path = site.file("vms/" + vm.hex() + "/journal" + name);
    ASSERT_EQ(::stat(path.c_str(), &status), 0) << path;
    EXPECT_EQ(status.st_uid, users.keeper(number)) << path;
    EXPECT_EQ(status.st_gid, users.keeper(number)) << path;
  }
  EXPECT_EQ(site.read("vms/" + vm.hex() + "/journal/2.seg"),
            "daemon/replicas/" + vm.hex() + "/2.seg");
}

TEST(StateTreeCrash, a_launcher_killed_in_an_adoption_costs_a_repetition_and_no_other_vm) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  bool died = true;
  int changes = 0;
  while (died) {
    changes += 1;
    TestSite site(kBase);
    make_replica(site, test_vm(1), kBase + 1);
    {
      // What the first start of a site makes is there already.
      auto tree = StateTree::open(site.path());
      ASSERT_TRUE(tree.ok());
      ASSERT_TRUE(tree->prepare().ok());
      ASSERT_TRUE(tree->prepare_vm(test_vm(2), 2).ok());
    }
    died = killed_at(site, test_vm(1), 1, changes);
    SCOPED_TRACE("killed at change " + std::to_string(changes));
    auto tree = StateTree::open(site.path());
    ASSERT_TRUE(tree.ok()) << tree.error().describe();
    ASSERT_TRUE(tree->prepare().ok());
    EXPECT_TRUE(tree->prepare_vm(test_vm(2), 2).ok());
    EXPECT_TRUE(tree->prepare_vm(test_vm(3), 3).ok());
    // As the daemon does: the replica waits, or the start goes on without it.
    if (::access(site.file("daemon/replicas/" + test_vm(1).hex()).c_str(), F_OK) == 0) {
      Status again = adopt(site, test_vm(1), 1);
      ASSERT_TRUE(again.ok()) << again.error().describe();
    } else {
      Status again = tree->prepare_vm(test_vm(1), 1);
      ASSERT_TRUE(again.ok()) << again.error().describe();
    }
    expect_adopted(site, test_vm(1), 1);
  }
  EXPECT_GT(changes, 12) << "each file's change of owner was one of them";
}

TEST(StateTreeCrash, a_foreign_owner_stops_that_vm_alone_and_the_mend_works) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  TestSite site(kBase);
  {
    auto tree = StateTree::open(site.path());
    ASSERT_TRUE(tree.ok());
    ASSERT_TRUE(tree->prepare().ok());
    ASSERT_TRUE(tree->prepare_vm(test_vm(1), 1).ok());
  }
  std::string journal = site.file("vms/" + test_vm(1).hex() + "/journal");
  site.write("vms/" + test_vm(1).hex() + "/journal/MANIFEST", "m");
  ASSERT_EQ(::chown(journal.c_str(), kBase + 1, kBase + 1), 0);
  auto tree = StateTree::open(site.path());
  ASSERT_TRUE(tree.ok()) << tree.error().describe();
  EXPECT_TRUE(tree->prepare_vm(test_vm(2), 2).ok());
  auto refused = tree->prepare_vm(test_vm(1), 1);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kPermission);
  EXPECT_EQ(refused.error().effect, "the VM was not started");
  EXPECT_EQ(std::system(refused.error().mend.c_str()), 0) << refused.error().mend;
  EXPECT_TRUE(tree->prepare_vm(test_vm(1), 1).ok());
}

}  // namespace
}  // namespace hf::launcher
