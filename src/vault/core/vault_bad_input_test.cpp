// Bad input: each leaves one clear error and the directory as it was.

#include "vault/core/testing.h"
#include "vault/core/vault.h"

namespace hf::vault {
namespace {

using namespace testing;  // NOLINT

class BadInput : public ::testing::Test {
 protected:
  BadInput() : directory_(temp_.sub("vault")) {}

  void make() { copy_new_vault("a", directory_); }

  Result<std::unique_ptr<Vault>> open(std::optional<std::string> secret_file = {}) {
    return Vault::open({.directory = directory_,
                        .secret = {.secret_file = std::move(secret_file)},
                        .keepers = kKeeperUids},
                       clock_, rng_);
  }

  // Opening fails with `code`, says all three parts, and changes nothing.
  void expect_refused(ErrorCode code, std::optional<std::string> secret_file = {}) {
    const Digest before = digest_of(directory_);
    const auto vault = open(std::move(secret_file));
    ASSERT_FALSE(vault.ok());
    const Error& error = vault.error();
    EXPECT_EQ(error.code, code) << error.describe();
    EXPECT_FALSE(error.cause.empty());
    EXPECT_FALSE(error.effect.empty()) << error.cause;
    EXPECT_FALSE(error.mend.empty()) << error.cause;
    EXPECT_EQ(digest_of(directory_), before);
  }

  std::string file(std::string_view name) { return directory_ + "/" + std::string(name); }
  void flip(const std::string& path, size_t at) {
    Bytes bytes = read_file(path);
    bytes.at(at) ^= std::byte{0x10};
    write_file(path, bytes);
  }

  TempDir temp_;
  TestClock clock_;
  crypto::SystemRng rng_;
  std::string directory_;
};

TEST_F(BadInput, no_vault_there) {
  ASSERT_EQ(open().error().code, ErrorCode::kNotFound);
  ASSERT_EQ(::mkdir(directory_.c_str(), 0700), 0);
  expect_refused(ErrorCode::kNotFound);
}

TEST_F(BadInput, wrong_host_secret) {
  make();
  write_file(file("host.secret"), Bytes(32, std::byte{7}));
  expect_refused(ErrorCode::kWrongKey);
}

TEST_F(BadInput, host_secret_missing_or_cut_off) {
  make();
  fs::resize_file(file("host.secret"), 31);
  expect_refused(ErrorCode::kCorrupt);
  fs::remove(file("host.secret"));
  expect_refused(ErrorCode::kNotFound);
}

TEST_F(BadInput, a_secret_of_the_other_form) {
  make();
  write_file(temp_.sub("secret"), as_bytes("long enough"));
  expect_refused(ErrorCode::kInvalidArgument, temp_.sub("secret"));
}

TEST_F(BadInput, any_flipped_bit_of_the_site_file) {
  make();
  const Bytes whole = read_file(file("site.hfv"));
  for (size_t at = 0; at < whole.size(); at += whole.size() / 37) {
    flip(file("site.hfv"), at);
    expect_refused(ErrorCode::kCorrupt);
    write_file(file("site.hfv"), whole);
  }
  EXPECT_TRUE(open().ok());
}

TEST_F(BadInput, a_site_file_cut_off_anywhere) {
  make();
  const Bytes whole = read_file(file("site.hfv"));
  for (size_t size : {size_t{0}, size_t{10}, size_t{48}, whole.size() / 2, whole.size() - 1}) {
    write_file(file("site.hfv"), ByteSpan(whole).first(size));
    expect_refused(ErrorCode::kCorrupt);
  }
}

TEST_F(BadInput, a_directory_or_file_open_to_others) {
  make();
  for (const mode_t mode : {mode_t{0750}, mode_t{0701}, mode_t{0720}}) {
    ASSERT_EQ(::chmod(directory_.c_str(), mode), 0);
    expect_refused(ErrorCode::kPermission);
  }
  ASSERT_EQ(::chmod(directory_.c_str(), 0700), 0);
  for (const char* name : {"site.hfv", "host.secret"}) {
    ASSERT_EQ(::chmod(file(name).c_str(), 0640), 0);
    expect_refused(ErrorCode::kPermission);
    ASSERT_EQ(::chmod(file(name).c_str(), 0600), 0);
  }
  EXPECT_TRUE(open().ok());
}

TEST_F(BadInput, another_owner) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  make();
  ASSERT_EQ(::chown(directory_.c_str(), 12345, static_cast<gid_t>(-1)), 0);
  expect_refused(ErrorCode::kPermission);
  ASSERT_EQ(::chown(directory_.c_str(), 0, static_cast<gid_t>(-1)), 0);
  ASSERT_EQ(::chown(file("site.hfv").c_str(), 12345, static_cast<gid_t>(-1)), 0);
  expect_refused(ErrorCode::kPermission);
}

TEST_F(BadInput, a_link_or_a_fifo_in_a_files_place) {
  make();
  fs::rename(file("site.hfv"), temp_.sub("elsewhere"));
  fs::create_symlink(temp_.sub("elsewhere"), file("site.hfv"));
  expect_refused(ErrorCode::kPermission);
  fs::remove(file("site.hfv"));
  ASSERT_EQ(::mkfifo(file("site.hfv").c_str(), 0600), 0);
  expect_refused(ErrorCode::kPermission);
}

TEST_F(BadInput, an_altered_audit_log) {
  make();
  flip(file("audit.log"), 30);
  expect_refused(ErrorCode::kCorrupt);
}

TEST_F(BadInput, a_second_vault_on_one_directory) {
  make();
  const auto first = open();
  ASSERT_TRUE(first.ok());
  expect_refused(ErrorCode::kConflict);
}

TEST_F(BadInput, init_over_a_vault_or_other_files) {
  make();
  const Vault::Options options{.directory = directory_, .secret = {}};
  Digest before = digest_of(directory_);
  EXPECT_EQ(Vault::init(options, "again", clock_, rng_).error().code, ErrorCode::kExists);
  EXPECT_EQ(digest_of(directory_), before);
  // site.hfv lost: what is left must not be built over.
  fs::remove(file("site.hfv"));
  before = digest_of(directory_);
  EXPECT_EQ(Vault::init(options, "again", clock_, rng_).error().code, ErrorCode::kExists);
  EXPECT_EQ(digest_of(directory_), before);
  EXPECT_EQ(
      Vault::init({.directory = temp_.sub("new"), .secret = {}}, "a b", clock_, rng_).error().code,
      ErrorCode::kInvalidArgument);
  EXPECT_FALSE(fs::exists(temp_.sub("new")));
}

TEST_F(BadInput, a_damaged_key_file_harms_its_vm_only) {
  make();
  {
    const auto vault = *open();
    made_vms()[1] = vault->create_vm(kDaemon)->vm;
    made_vms()[2] = vault->create_vm(kDaemon)->vm;
  }
  const std::string path = file("key-" + vm_of(1).hex() + ".hfv");
  const Bytes whole = read_file(path);
  const auto vault = *open();
  ASSERT_TRUE(vault->bind_keepers(both_keepers(), kLauncher).ok());
  for (size_t at = 0; at < whole.size(); at += 5) {
    flip(path, at);
    const Digest before = digest_of(directory_);
    const Error error = vault->release(vm_of(1), kDaemon).error();
    EXPECT_EQ(error.code, ErrorCode::kCorrupt) << at;
    EXPECT_FALSE(error.effect.empty());
    EXPECT_FALSE(error.mend.empty());
    EXPECT_EQ(digest_of(directory_), before);
    write_file(path, whole);
  }
  write_file(path, ByteSpan(whole).first(whole.size() - 9));
  EXPECT_EQ(vault->key_info(vm_of(1)).error().code, ErrorCode::kCorrupt);
  // Another VM's file under this name.
  write_file(path, read_file(file("key-" + vm_of(2).hex() + ".hfv")));
  EXPECT_EQ(vault->key_info(vm_of(1)).error().code, ErrorCode::kCorrupt);
  EXPECT_TRUE(vault->key_info(vm_of(2)).ok());
}

TEST_F(BadInput, a_recipient_written_by_another_vault) {
  make();
  const std::string other = temp_.sub("other");
  copy_new_vault("b", other);
  TestVault c("c");
  {
    const auto vault = *Vault::open({.directory = other, .secret = {}}, clock_, rng_);
    ASSERT_TRUE(vault->add_recipient(c->identity(), "", kDaemon).ok());
  }
  const std::string name = "recipient-" + c->identity().site.hex() + ".hfv";
  write_file(file(name), read_file(other + "/" + name));
  const auto vault = *open();
  EXPECT_EQ(vault->wrap_for(vm_of(1), c->identity().site, kDaemon).error().code,
            ErrorCode::kCorrupt);
}

TEST_F(BadInput, is_found_by_a_check_of_everything) {
  make();
  TestVault c("c");
  const auto vault = *open();
  made_vms()[1] = vault->create_vm(kDaemon)->vm;
  made_vms()[2] = vault->create_vm(kDaemon)->vm;
  ASSERT_TRUE(vault->add_recipient(c->identity(), "", kDaemon).ok());
  ASSERT_TRUE(vault->bind_keepers(both_keepers(), kLauncher).ok());
  ASSERT_TRUE(vault->release(vm_of(1), kDaemon).ok());
  ASSERT_TRUE(vault->put_freshness(vm_of(1), {}, kKeeper).ok());
  const CheckSummary good = *vault->check();
  EXPECT_TRUE(good.problems.empty());
  EXPECT_EQ(good.keys, 2u);
  EXPECT_EQ(good.recipients, 1u);
  EXPECT_EQ(good.freshness_records, 1u);
  EXPECT_EQ(good.audit.lines, 5u);

  flip(file("key-" + vm_of(1).hex() + ".hfv"), 60);
  flip(file("audit.log"), 40);
  write_file(file("key-nonsense"), as_bytes("x"));
  EXPECT_EQ(vault->check()->problems.size(), 3u);
}

class SecretFile : public BadInput {
 protected:
  SecretFile() {
    secret_ = temp_.sub("secret");
    write_file(secret_, as_bytes("correct horse battery\n"));
    const Vault::Options options{
        .directory = directory_,
        .secret = {.secret_file = secret_, .scrypt = {.n = 1024, .r = 8, .p = 1}}};
    HF_ASSERT(Vault::init(options, "s", clock_, rng_).ok());
  }
  std::string secret_;
};

TEST_F(SecretFile, opens_and_leaves_no_secret_in_the_directory) {
  EXPECT_TRUE(open(secret_).ok());
  EXPECT_FALSE(fs::exists(file("host.secret")));
  write_file(secret_, as_bytes("correct horse battery"));  // its newline does not count
  EXPECT_TRUE(open(secret_).ok());
}

TEST_F(SecretFile, wrong_missing_short_or_readable_by_others) {
  write_file(secret_, as_bytes("correct horse batterz\n"));
  expect_refused(ErrorCode::kWrongKey, secret_);
  write_file(secret_, as_bytes("short\n"));
  expect_refused(ErrorCode::kInvalidArgument, secret_);
  write_file(secret_, as_bytes("correct horse battery\n"));
  ASSERT_EQ(::chmod(secret_.c_str(), 0644), 0);
  expect_refused(ErrorCode::kPermission, secret_);
  expect_refused(ErrorCode::kNotFound, temp_.sub("none"));
  expect_refused(ErrorCode::kInvalidArgument);  // none named
}

}  // namespace
}  // namespace hf::vault
