// A launcher that is killed at any of its changes to the tree, and the one after it.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "launcher/test_site.h"
#include "launcher/tree/state_tree.h"

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

// What a start of a VM does to the tree.
Status prepare(const TestSite& site, VmId vm, uint32_t number) {
  StateTree tree = TRY(StateTree::open(site.path()));
  TRY(tree.prepare());
  return tree.prepare_vm(vm, number);
}

// False: it was done before the `at`-th change came.
bool killed_at(const TestSite& site, VmId vm, uint32_t number, int at) {
  pid_t child = ::fork();
  HF_ASSERT(child >= 0);
  if (child == 0) {
    g_changes_left = at;
    ::_exit(prepare(site, vm, number).ok() ? 0 : 1);
  }
  int status = 0;
  HF_ASSERT(::waitpid(child, &status, 0) == child);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  return WIFSIGNALED(status);
}

void expect_prepared(const TestSite& site, VmId vm, uint32_t number) {
  uid_t keeper = Users{.uid_base = kBase}.keeper(number);
  struct Wanted {
    std::string name;
    uid_t owner;
    mode_t mode;
  };
  for (const Wanted& wanted : {Wanted{"vms/" + vm.hex(), keeper, 0700},
                               Wanted{"vms/" + vm.hex() + "/journal", keeper, 0700},
                               Wanted{"run/vms/" + vm.hex(), 0, 0711}}) {
    struct stat status{};
    ASSERT_EQ(::stat(site.file(wanted.name).c_str(), &status), 0) << wanted.name;
    EXPECT_EQ(status.st_uid, wanted.owner) << wanted.name;
    EXPECT_EQ(status.st_gid, wanted.owner) << wanted.name;
    EXPECT_EQ(status.st_mode & 07777, wanted.mode) << wanted.name;
  }
}

TEST(StateTreeCrash, a_launcher_killed_in_a_vms_first_start_costs_a_repetition_and_no_other_vm) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  bool died = true;
  int changes = 0;
  while (died) {
    changes += 1;
    TestSite site(kBase);
    // What the first start of a site makes is there already.
    ASSERT_TRUE(prepare(site, test_vm(2), 2).ok());
    died = killed_at(site, test_vm(1), 1, changes);
    SCOPED_TRACE("killed at change " + std::to_string(changes));
    for (uint8_t number : {uint8_t{2}, uint8_t{3}, uint8_t{1}}) {
      Status again = prepare(site, test_vm(number), number);
      ASSERT_TRUE(again.ok()) << again.error().describe();
      expect_prepared(site, test_vm(number), number);
    }
  }
  EXPECT_GT(changes, 20) << "each directory's making, owner and mode was one of them";
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
