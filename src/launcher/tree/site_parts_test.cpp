#include "launcher/tree/site_parts.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "launcher/protocol/site_config.h"
#include "launcher/tree/host_users.h"

namespace hf::launcher {
namespace {

class SitePartsTest : public testing::Test {
 protected:
  SitePartsTest() { HF_ASSERT(::mkdtemp(directory_.data()) != nullptr); }
  ~SitePartsTest() override { std::filesystem::remove_all(directory_); }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  void make(const std::string& name, mode_t mode) const {
    HF_ASSERT(::mkdir(path(name).c_str(), mode) == 0);
    HF_ASSERT(::chmod(path(name).c_str(), mode) == 0);
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
  }
  std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(path(name)).rdbuf();
    return text.str();
  }
  // Names, modes, owners, inodes and changes of all that is there.
  std::string fingerprint() const {
    std::string list = directory_ + ".list";
    std::string command =
        "cd " + directory_ + " && find . -printf '%p %m %u %g %i %C@\\n' | sort > " + list;
    HF_ASSERT(std::system(command.c_str()) == 0);
    std::ostringstream text;
    text << std::ifstream(list).rdbuf();
    std::filesystem::remove(list);
    return text.str();
  }
  Status make_all(SiteParts& parts) const {
    TRY(parts.make_directory("vault", 0700, ::geteuid(), ::getegid()));
    TRY(parts.make_directory("daemon", 0700, ::geteuid(), ::getegid()));
    TRY(parts.make_directory("daemon/part", 0700, ::geteuid(), ::getegid()));
    return parts.write_file("site.json", 0644, "{}");
  }
  ErrorCode refusal(const std::string& state, bool shared = false) const {
    std::string before = fingerprint();
    auto parts = SiteParts::begin(path(state), shared);
    EXPECT_EQ(fingerprint(), before);
    if (parts.ok()) return ErrorCode::kInternal;
    EXPECT_EQ(parts.error().effect, "no site was made");
    EXPECT_FALSE(parts.error().mend.empty());
    return parts.error().code;
  }

  std::string directory_ = "/tmp/hf-parts-XXXXXX";
};

TEST_F(SitePartsTest, what_it_made_goes_again_with_the_directories_above_it) {
  {
    auto parts = SiteParts::begin(path("a/b/state"), true);
    ASSERT_TRUE(parts.ok()) << parts.error().describe();
    ASSERT_TRUE(make_all(*parts).ok());
    write("a/b/state/vault/key", "k");
    ::mkdir(path("a/b/state/vault/deep").c_str(), 0700);
  }
  EXPECT_FALSE(std::filesystem::exists(path("a")));
}

TEST_F(SitePartsTest, what_it_kept_stays) {
  {
    auto parts = SiteParts::begin(path("state"), true);
    ASSERT_TRUE(parts.ok()) << parts.error().describe();
    ASSERT_TRUE(make_all(*parts).ok());
    parts->keep();
  }
  EXPECT_EQ(read("state/site.json"), "{}");
  EXPECT_TRUE(std::filesystem::exists(path("state/daemon/part")));
  EXPECT_FALSE(std::filesystem::exists(path("state/site.json.new")));
  struct stat status{};
  ASSERT_EQ(::stat(path("state").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755u);
}

TEST_F(SitePartsTest, an_empty_directory_is_taken_as_it_is_and_left_as_it_was) {
  make("state", 0750);
  make("state/lost+found", 0700);
  struct stat before{};
  ASSERT_EQ(::stat(path("state").c_str(), &before), 0);
  {
    auto parts = SiteParts::begin(path("state"), false);
    ASSERT_TRUE(parts.ok()) << parts.error().describe();
    ASSERT_TRUE(make_all(*parts).ok());
  }
  struct stat after{};
  ASSERT_EQ(::stat(path("state").c_str(), &after), 0);
  EXPECT_EQ(after.st_mode, before.st_mode);
  EXPECT_EQ(after.st_uid, before.st_uid);
  EXPECT_EQ(after.st_ino, before.st_ino);
  EXPECT_TRUE(std::filesystem::exists(path("state/lost+found")));
  EXPECT_FALSE(std::filesystem::exists(path("state/vault")));
}

// Somebody's files, of any name, were removed and their directory chowned by a failed init.
TEST_F(SitePartsTest, a_directory_with_anything_in_it_is_refused_and_not_touched) {
  make("state", 0700);
  make("state/run", 0700);
  write("state/run/file", "precious");
  EXPECT_EQ(refusal("state"), ErrorCode::kExists);
  EXPECT_EQ(read("state/run/file"), "precious");
  make("site", 0755);
  write("site/site.json", "{}");
  EXPECT_EQ(refusal("site"), ErrorCode::kExists);
  write("plain", "a file");
  EXPECT_NE(refusal("plain"), ErrorCode::kInternal);
  ASSERT_EQ(::symlink("nowhere", path("link").c_str()), 0);
  EXPECT_NE(refusal("link"), ErrorCode::kInternal);
  EXPECT_NE(refusal("link/deeper"), ErrorCode::kInternal);
}

TEST_F(SitePartsTest, a_directory_with_an_owner_or_mode_that_does_not_fit_is_refused) {
  make("open", 0775);
  EXPECT_EQ(refusal("open"), ErrorCode::kPermission);
  make("closed", 0700);
  EXPECT_EQ(refusal("closed", true), ErrorCode::kPermission);
  if (::geteuid() != 0) GTEST_SKIP() << "the rest needs root";
  make("foreign", 0700);
  ASSERT_EQ(::chown(path("foreign").c_str(), 71001, 71001), 0);
  EXPECT_EQ(refusal("foreign"), ErrorCode::kPermission);
}

TEST_F(SitePartsTest, a_part_that_appears_meanwhile_is_not_taken_and_not_removed) {
  {
    auto parts = SiteParts::begin(path("state"), false);
    ASSERT_TRUE(parts.ok()) << parts.error().describe();
    ASSERT_TRUE(parts->make_directory("vault", 0700, ::geteuid(), ::getegid()).ok());
    make("state/daemon", 0700);
    write("state/daemon/file", "precious");
    auto made = parts->make_directory("daemon", 0700, ::geteuid(), ::getegid());
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().code, ErrorCode::kExists);
    write("state/site.json", "precious too");
    EXPECT_EQ(parts->write_file("site.json", 0644, "{}").error().code, ErrorCode::kExists);
  }
  EXPECT_EQ(read("state/daemon/file"), "precious");
  EXPECT_EQ(read("state/site.json"), "precious too");
  EXPECT_FALSE(std::filesystem::exists(path("state/vault")));
  EXPECT_FALSE(std::filesystem::exists(path("state/site.json.new")));
}

TEST_F(SitePartsTest, a_part_replaced_by_a_link_is_not_followed_when_it_goes) {
  make("victim", 0700);
  write("victim/file", "precious");
  {
    auto parts = SiteParts::begin(path("state"), false);
    ASSERT_TRUE(parts.ok()) << parts.error().describe();
    ASSERT_TRUE(make_all(*parts).ok());
    std::filesystem::remove_all(path("state/daemon"));
    ASSERT_EQ(::symlink("../victim", path("state/daemon").c_str()), 0);
    ASSERT_EQ(::symlink("../../victim", path("state/vault/link").c_str()), 0);
  }
  EXPECT_EQ(read("victim/file"), "precious");
  EXPECT_FALSE(std::filesystem::exists(path("state")));
}

TEST(UserRange, a_range_that_others_use_is_refused_with_one_that_is_free) {
  std::vector<TakenIds> taken = parse_subordinate_ids(
      "alice:100000:65536\n# comment\nbob:200000:x\nbob:200000\n:::\ncarol:300000:100000",
      "/etc/subuid");
  ASSERT_EQ(taken.size(), 2u);
  taken.push_back({.first = 71001, .by = "user dave"});
  const auto check = [&](uint64_t base) {
    return check_user_range(static_cast<uint32_t>(base), taken, {});
  };
  EXPECT_TRUE(check(0).ok());
  EXPECT_TRUE(check(200'000).ok());
  auto error_of = [&](uint32_t base) { return check(base).error(); };
  EXPECT_NE(error_of(165'535).cause.find("165535 is taken by /etc/subuid (alice)"),
            std::string::npos)
      << error_of(165'535).cause;
  EXPECT_TRUE(check(165'536).ok());
  EXPECT_NE(error_of(70'000).cause.find("71001 is taken by user dave"), std::string::npos);
  EXPECT_EQ(error_of(290'000).mend, "use a range that is free: --uid-base 2010000000");
  EXPECT_EQ(error_of(999).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(error_of(4'000'000'001).code, ErrorCode::kInvalidArgument);
  // The last user that a VM of the highest number has is still inside.
  Users users{.uid_base = 200'000};
  EXPECT_EQ(users.qemu(kVmNumberMax), 200'000 + kSiteUsers - 1);
  EXPECT_FALSE(check(71001 - kSiteUsers + 1).ok());
  EXPECT_TRUE(check(71001 - kSiteUsers).ok());
}

// Debian gives each login user 65,536 subordinate ids from 100000 on: the second has 165536 to
// 231071, and the tenth is coming.
TEST(UserRange, is_chosen_where_useradd_will_not_come) {
  std::vector<TakenIds> taken =
      parse_subordinate_ids("alice:100000:65536\nbob:165536:65536\n", "/etc/subuid");
  EXPECT_FALSE(check_user_range(200'000, taken, {}).ok());
  const std::vector<TakenIds> reserved = parse_login_defs("");
  const uint32_t base = choose_uid_base(taken, reserved).value();
  EXPECT_EQ(base, 2'010'000'000U);
  EXPECT_EQ(overlapping(base, reserved), nullptr);
  // Next to another site.
  taken.push_back({.first = base, .count = kSiteUsers, .by = "site north"});
  const uint32_t next = choose_uid_base(taken, reserved).value();
  EXPECT_EQ(next, 2'010'050'000U);
  EXPECT_TRUE(check_user_range(next, taken, reserved).ok());
}

TEST(UserRange, goes_elsewhere_where_that_is_full_or_not_there) {
  const std::vector<TakenIds> reserved = parse_login_defs("");
  std::vector<TakenIds> taken{{.first = 2'000'000'000, .count = 200'000'000, .by = "a domain"}};
  const uint32_t base = choose_uid_base(taken, reserved).value();
  EXPECT_EQ(overlapping(base, taken), nullptr);
  EXPECT_EQ(overlapping(base, reserved), nullptr);
  // A container with a million users.
  taken = parse_unmapped_ids("0 100000 1000000\n", "/proc/self/uid_map");
  const uint32_t inside = choose_uid_base(taken, reserved).value();
  EXPECT_LE(inside + kSiteUsers, 1'000'000U);
  EXPECT_FALSE(check_user_range(2'010'000'000, taken, reserved).ok());
  // One with 65,536 of them has room only among its users who log in.
  taken = parse_unmapped_ids("0 100000 65536\n", "/proc/self/uid_map");
  const Result<uint32_t> nowhere = choose_uid_base(taken, reserved);
  ASSERT_FALSE(nowhere.ok());
  EXPECT_TRUE(nowhere.error().mend.contains("--uid-base 0")) << nowhere.error().mend;
}

TEST(UserRange, of_login_defs_is_read) {
  const std::vector<TakenIds> read = parse_login_defs(
      "# SUB_UID_MIN 1\nUID_MIN\t\t 500\nUID_MAX 70000\nSUB_UID_MIN 300000\nSUB_UID_MAX 400000\n"
      "SUB_GID_MAX none\n");
  ASSERT_EQ(read.size(), 4U);
  EXPECT_EQ(read[0].first, 500U);
  EXPECT_EQ(read[0].count, 69501U);
  EXPECT_EQ(read[2].first, 300'000U);
  EXPECT_EQ(read[2].count, 100'001U);
  EXPECT_EQ(read[3].first, 100'000U) << "what useradd does where nothing is said";
}

TEST(UserRange, of_a_namespace_is_what_is_mapped) {
  EXPECT_TRUE(parse_unmapped_ids("0 0 4294967295\n", "uid_map").empty());
  EXPECT_TRUE(parse_unmapped_ids("", "uid_map").empty());
  const auto unmapped = parse_unmapped_ids("1000 1000 1\n0 100000 1000\n5000 7 10\n", "uid_map");
  ASSERT_EQ(unmapped.size(), 2U);
  EXPECT_EQ(unmapped[0].first, 1001U);
  EXPECT_EQ(unmapped[0].count, 3999U);
  EXPECT_EQ(unmapped[1].first, 5010U);
}

TEST(UserRange, what_this_host_says_is_read) {
  for (const UserSource source : {UserSource::kNameService, UserSource::kFiles}) {
    auto taken = taken_ids(source);
    EXPECT_TRUE(std::ranges::any_of(
        taken, [](const TakenIds& ids) { return ids.first == 0 && ids.by == "user root"; }));
  }
}

TEST(DeviceGroup, is_lent_only_if_it_is_the_one_meant) {
  struct stat status{};
  ASSERT_EQ(::stat("/dev/tty", &status), 0);
  if (status.st_gid != 0) {
    EXPECT_EQ(device_group("/dev/tty", "tty"), status.st_gid);
  }
  EXPECT_FALSE(device_group("/dev/tty", "kvm").has_value());
  ASSERT_EQ(::stat("/dev/null", &status), 0);
  ASSERT_EQ(status.st_gid, 0u);
  EXPECT_FALSE(device_group("/dev/null", "root").has_value()) << "root's group is lent to nobody";
  EXPECT_FALSE(device_group("/dev/not-there", "kvm").has_value());
}

}  // namespace
}  // namespace hf::launcher
