#include "launcher/tree/state_tree.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "launcher/process/unit.h"
#include "launcher/test_site.h"

namespace hf::launcher {
namespace {

// Names, modes and contents of the whole tree.
std::string fingerprint(const TestSite& site) {
  std::string command =
      "cd " + site.path() +
      " && { find . -printf '%p %m %u %s\\n' | sort; "
      "find . -type f -print0 | sort -z | xargs -0 sha256sum; } > /tmp/hf-print-" +
      std::to_string(::getpid());
  HF_ASSERT(std::system(command.c_str()) == 0);
  std::ostringstream text;
  std::string file = "/tmp/hf-print-" + std::to_string(::getpid());
  text << std::ifstream(file).rdbuf();
  ::unlink(file.c_str());
  return text.str();
}

void expect_refusal(const TestSite& site, ErrorCode code, const std::string& cause_part,
                    const std::string& mend_part) {
  std::string before = fingerprint(site);
  auto tree = StateTree::open(site.path());
  ASSERT_FALSE(tree.ok());
  EXPECT_EQ(tree.error().code, code);
  EXPECT_NE(tree.error().cause.find(cause_part), std::string::npos) << tree.error().cause;
  EXPECT_FALSE(tree.error().effect.empty());
  EXPECT_NE(tree.error().mend.find(mend_part), std::string::npos) << tree.error().mend;
  EXPECT_EQ(fingerprint(site), before);
}

TEST(StateTree, an_uninitialised_directory_names_the_command_that_makes_a_site) {
  TestSite site;
  ::unlink(site.file("site.json").c_str());
  expect_refusal(site, ErrorCode::kNotFound, "its site.json is missing",
                 "put " + site.path() + "/site.json back");
  ::rmdir(site.file("vault").c_str());
  expect_refusal(site, ErrorCode::kNotFound, "not the state directory",
                 "holdfast --state " + site.path() + " site init");
  EXPECT_NE(StateTree::open("/nonexistent/x").error().mend.find("site init"), std::string::npos);
}

TEST(StateTree, refuses_directories_open_to_others_and_changes_nothing) {
  {
    TestSite site;
    ::chmod(site.file("vault").c_str(), 0750);
    expect_refusal(site, ErrorCode::kPermission, "vault is open to other users (mode 0750)",
                   "chmod 0700");
  }
  {
    TestSite site;
    ::chmod(site.path().c_str(), 0777);
    expect_refusal(site, ErrorCode::kPermission, "open to other users", "chmod go-w");
  }
  {
    TestSite site;
    std::string vm = "vms/" + test_vm(1).hex();
    ::mkdir(site.file("vms").c_str(), 0711);
    ::mkdir(site.file(vm).c_str(), 0700);
    ::mkdir(site.file(vm + "/journal").c_str(), 0755);
    ::chmod(site.file(vm + "/journal").c_str(), 0755);
    auto tree = StateTree::open(site.path());
    ASSERT_TRUE(tree.ok()) << "the other VMs go on";
    ASSERT_TRUE(tree->prepare().ok());
    auto prepared = tree->prepare_vm(test_vm(1), 1);
    ASSERT_FALSE(prepared.ok());
    EXPECT_EQ(prepared.error().code, ErrorCode::kPermission);
    EXPECT_NE(prepared.error().cause.find("journal is open to other users"), std::string::npos);
    EXPECT_EQ(prepared.error().mend, "chmod 0700 " + site.file(vm + "/journal"));
    EXPECT_TRUE(tree->prepare_vm(test_vm(2), 2).ok());
  }
  {
    TestSite site;
    ::chmod(site.file("site.json").c_str(), 0666);
    expect_refusal(site, ErrorCode::kPermission, "site.json", "chmod 0644");
  }
}

TEST(StateTree, refuses_a_broken_site_file) {
  TestSite site;
  site.write("site.json", "{\"version\":1,");
  expect_refusal(site, ErrorCode::kInvalidArgument, "site.json: not JSON", "site.json");
  site.write("site.json", "{\"version\":1}");
  expect_refusal(site, ErrorCode::kUnsupported, "an older build of Holdfast", "site init");
  site.write("site.json", "{\"version\":9}");
  expect_refusal(site, ErrorCode::kUnsupported, "version 9", "newer build");
}

TEST(StateTree, sets_a_journal_aside_once_where_it_outlives_its_vm) {
  TestSite site;
  auto tree = StateTree::open(site.path());
  ASSERT_TRUE(tree.ok() && tree->prepare().ok());
  const std::string journal = site.file("vms/" + test_vm(1).hex() + "/journal");
  EXPECT_TRUE(tree->set_aside(test_vm(1), "one").ok()) << "of a VM that is not there: nothing";
  ASSERT_TRUE(tree->prepare_vm(test_vm(1), 1).ok());
  std::ofstream(journal + "/MANIFEST") << "first";
  ASSERT_TRUE(tree->set_aside(test_vm(1), "one").ok());
  std::string kept;
  std::ifstream(site.file("aside/one/MANIFEST")) >> kept;
  EXPECT_EQ(kept, "first");
  EXPECT_NE(::access(journal.c_str(), F_OK), 0);
  // Its answer was lost, and what comes next has begun.
  ASSERT_TRUE(tree->prepare_vm(test_vm(1), 1).ok());
  std::ofstream(journal + "/MANIFEST") << "second";
  ASSERT_TRUE(tree->set_aside(test_vm(1), "one").ok());
  EXPECT_EQ(::access((journal + "/MANIFEST").c_str(), F_OK), 0);
  std::ifstream(site.file("aside/one/MANIFEST")) >> kept;
  EXPECT_EQ(kept, "first");
  const std::atomic<bool> stop = false;
  ASSERT_TRUE(tree->remove_vm(test_vm(1), stop).ok());
  EXPECT_EQ(::access(site.file("aside/one/MANIFEST").c_str(), F_OK), 0);
  // A link in its place is moved, and not followed.
  ASSERT_TRUE(tree->prepare_vm(test_vm(2), 2).ok());
  const std::string other = site.file("vms/" + test_vm(2).hex() + "/journal");
  ::rmdir(other.c_str());
  ASSERT_EQ(::symlink(site.file("vault").c_str(), other.c_str()), 0);
  EXPECT_FALSE(tree->set_aside(test_vm(2), "two").ok());
  struct stat vault{};
  ASSERT_EQ(::stat(site.file("vault").c_str(), &vault), 0);
  EXPECT_EQ(vault.st_mode & 0777, 0700U);
}

TEST(StateTree, a_missing_vault_is_named) {
  TestSite site;
  ::rmdir(site.file("vault").c_str());
  expect_refusal(site, ErrorCode::kNotFound, "/vault cannot be opened",
                 "put " + site.file("vault") + " back from a backup");
}

TEST(StateTree, a_second_launcher_on_one_state_directory_is_refused_with_the_first_ones_pid) {
  TestSite site;
  auto tree = StateTree::open(site.path());
  ASSERT_TRUE(tree.ok());
  auto lock = tree->lock();
  ASSERT_TRUE(lock.ok());
  auto second = tree->lock();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_TRUE(second.error().cause.contains("runs already (launcher: process " +
                                            std::to_string(::getpid())))
      << second.error().cause;
  EXPECT_TRUE(second.error().mend.starts_with("holdfast --state " + site.path() + " site show"))
      << second.error().mend;
  lock->reset();
  EXPECT_TRUE(tree->lock().ok());
}

TEST(StateTree, a_lost_catalog_is_no_new_site) {
  TestSite site;
  auto tree = StateTree::open(site.path());
  ASSERT_TRUE(tree.ok());
  ASSERT_TRUE(tree->prepare().ok());
  EXPECT_TRUE(tree->check_catalog().ok()) << "a site before its first start";
  ASSERT_TRUE(tree->prepare_vm(test_vm(1), 1).ok());
  const auto check_named = [&](const std::string& how) {
    const Status lost = tree->check_catalog();
    ASSERT_FALSE(lost.ok());
    EXPECT_EQ(lost.error().code, ErrorCode::kCorrupt);
    for (const std::string& word : {test_vm(1).hex(), how, std::string("catalog.sqlite")})
      EXPECT_NE(lost.error().cause.find(word), std::string::npos) << lost.error().cause;
    EXPECT_NE(lost.error().mend.find("site start"), std::string::npos);
  };
  check_named("not there");
  site.write("daemon/catalog.sqlite", "");
  check_named("empty");
  site.write("daemon/catalog.sqlite", "SQLite format 3");
  EXPECT_TRUE(tree->check_catalog().ok());
}

// A small file system in a mount namespace of its own.
TEST(StateTree, writes_down_what_runs_on_a_full_disk_in_the_room_that_it_keeps) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  TestSite site;
  const pid_t child = ::fork();
  if (child == 0) {
    const auto must = [](bool done) {
      if (!done) ::_exit(2);
    };
    if (::unshare(CLONE_NEWNS) != 0) ::_exit(77);
    must(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    must(::mkdir(site.file("run").c_str(), 0755) == 0);
    must(::mount("none", site.file("run").c_str(), "tmpfs", 0, "size=4M,mode=0755") == 0);
    auto tree = StateTree::open(site.path());
    must(tree.ok() && tree->prepare().ok());
    sys::UniqueFd ballast(::open(site.file("run/ballast").c_str(), O_WRONLY | O_CREAT, 0600));
    const Bytes page(4096);
    while (::write(ballast.get(), page.data(), page.size()) > 0) {
    }
    for (int i = 0; i < 100; ++i) {
      if (!tree->write_pid_file("unit-" + std::to_string(i), "1 2 3").ok()) ::_exit(1);
    }
    ::_exit(tree->read_pid_files()->size() == 100 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no mount namespace is to be had";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(StateTree, wants_the_vault_to_be_the_vault_users) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  TestSite site(3'000'000);
  ASSERT_EQ(::chown(site.file("vault").c_str(), 0, 0), 0);
  expect_refusal(site, ErrorCode::kPermission, "vault belongs to user 0",
                 "chown -R 3000000:3000000 " + site.file("vault"));
}

// What a user who is not the site's is told: nothing of it is to be given to him.
TEST(StateTree, names_the_user_whose_a_site_is) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const TestSite roots(3'000'000);
  const TestSite anothers;
  ASSERT_EQ(std::system(("chown -R 70001:70001 " + anothers.path()).c_str()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setresuid(65534, 65534, 65534) != 0) ::_exit(9);
    const auto first = StateTree::open(roots.path());
    const auto second = StateTree::open(anothers.path());
    const bool good =
        !first.ok() && first.error().cause.contains("is user 0's, and this is user 65534") &&
        first.error().mend == "sudo holdfast --state " + roots.path() + " site start" &&
        !second.ok() &&
        second.error().mend ==
            "sudo -u '#70001' holdfast --state " + anothers.path() + " site start";
    if (!good) std::fprintf(stderr, "%s\n", (first.ok() ? "" : first.error().describe()).c_str());
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(SiteConfig, survives_its_own_text) {
  SiteConfig config{.name = "alpha", .listen = "127.0.0.1:7443", .uid_base = 70000};
  config.site_id.bytes[3] = std::byte{9};
  auto back = parse_site_config(to_text(config));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->name, "alpha");
  EXPECT_EQ(back->site_id, config.site_id);
  EXPECT_EQ(back->uid_base, 70000u);
  EXPECT_FALSE(parse_site_config(R"({"version":3,"name":"a","site_id":"00","listen":"x",
      "uid_base":0})")
                   .ok());
}

TEST(SiteConfig, has_addresses_that_are_ones) {
  SiteConfig config{.name = "alpha", .listen = "127.0.0.1:7443"};
  EXPECT_EQ(config.reached_at(), "127.0.0.1:7443");
  for (const char* listen : {"127.0.0.1:70000", "host:99999", "::1:7443", "[::1]", ""}) {
    config.listen = listen;
    const auto refused = parse_site_config(to_text(config));
    ASSERT_FALSE(refused.ok()) << listen;
    EXPECT_TRUE(refused.error().cause.starts_with("listen: ")) << refused.error().cause;
  }
  config.listen = "[::]:7443";
  EXPECT_EQ(parse_site_config(to_text(config))->reached_at(), "[::]:7443");
  config.advertise = "north.example:7443";
  EXPECT_EQ(parse_site_config(to_text(config))->reached_at(), "north.example:7443");
  config.advertise = "0.0.0.0:7443";
  EXPECT_FALSE(parse_site_config(to_text(config)).ok());
}

TEST(Backoff, restarts_at_once_five_times_then_ever_more_slowly) {
  Backoff backoff(RestartLimits{});
  TimePoint now{};
  for (int i = 0; i < 5; ++i) EXPECT_EQ(backoff.next_delay(now).count(), 0);
  EXPECT_EQ(backoff.next_delay(now).count(), 1000);
  EXPECT_EQ(backoff.next_delay(now).count(), 2000);
  for (int i = 0; i < 10; ++i) (void)backoff.next_delay(now);
  EXPECT_EQ(backoff.next_delay(now).count(), 30000);
  // After a time of peace it starts again.
  EXPECT_EQ(backoff.next_delay(now + std::chrono::seconds(60)).count(), 0);
}

}  // namespace
}  // namespace hf::launcher
