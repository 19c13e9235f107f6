#include "daemon/catalog.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

#include "daemon/sqlite.h"

namespace hf::daemon {
namespace {

class CatalogTest : public ::testing::Test {
 protected:
  CatalogTest() {
    char pattern[] = "/tmp/hf-catalog-XXXXXX";
    dir_ = mkdtemp(pattern);
    path_ = dir_ + "/catalog.sqlite";
  }
  ~CatalogTest() override { std::filesystem::remove_all(dir_); }

  std::unique_ptr<Catalog> open() { return std::move(Catalog::open(path_)).value(); }
  static VmRow vm(uint8_t id, std::string name) {
    VmRow row;
    row.id.bytes[0] = std::byte{id};
    row.name = std::move(name);
    row.definition = "{}";
    row.epoch = Epoch(1);
    return row;
  }
  static PeerRow peer(std::string fingerprint) {
    PeerRow row;
    row.site.bytes[0] = std::byte{9};
    row.name = "b";
    row.address = "127.0.0.1:1";
    row.fingerprint = std::move(fingerprint);
    return row;
  }

  std::string dir_;
  std::string path_;
};

TEST_F(CatalogTest, keeps_what_it_was_told_over_a_restart) {
  ASSERT_TRUE(open()->add_vm(vm(1, "one")).ok());
  auto again = open();
  Result<VmRow> row = again->vm_named("one");
  ASSERT_TRUE(row.ok());
  EXPECT_EQ(row->number, 1U);
  EXPECT_EQ(row->id, vm(1, "").id);
  EXPECT_EQ(again->vm(row->id)->name, "one");
}

TEST_F(CatalogTest, is_readable_by_its_owner_only) {
  auto catalog = open();
  struct stat info{};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 077, 0U);
}

TEST_F(CatalogTest, refuses_a_catalog_of_a_newer_version) {
  open().reset();
  {
    Database raw = std::move(Database::open(path_)).value();
    ASSERT_TRUE(raw.execute("PRAGMA user_version=99").ok());
  }
  Result<std::unique_ptr<Catalog>> opened = Catalog::open(path_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, ErrorCode::kUnsupported);
}

TEST_F(CatalogTest, a_vm_number_is_never_used_twice) {
  auto catalog = open();
  VmRow first = *catalog->add_vm(vm(1, "one"));
  ASSERT_TRUE(catalog->remove_vm(first.id).ok());
  EXPECT_EQ(catalog->add_vm(vm(2, "two"))->number, first.number + 1);
}

TEST_F(CatalogTest, a_name_is_taken_once) {
  auto catalog = open();
  ASSERT_TRUE(catalog->add_vm(vm(1, "one")).ok());
  Result<VmRow> second = catalog->add_vm(vm(2, "one"));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kExists);
  EXPECT_FALSE(second.error().mend.empty());
  EXPECT_EQ(catalog->add_vm(vm(3, "three"))->number, 2U);
}

TEST_F(CatalogTest, an_epoch_never_goes_back) {
  auto catalog = open();
  VmId id = catalog->add_vm(vm(1, "one"))->id;
  ASSERT_TRUE(catalog->set_role(id, VmRole::kActive, Epoch(5), "").ok());
  EXPECT_FALSE(catalog->set_role(id, VmRole::kActive, Epoch(4), "").ok());
  EXPECT_EQ(catalog->vm(id)->epoch, Epoch(5));
}

TEST_F(CatalogTest, a_token_is_used_once) {
  auto catalog = open();
  ASSERT_TRUE(catalog->add_token({.hash = "h", .proof_key = "k", .expires = Micros(10)}).ok());
  EXPECT_TRUE(catalog->use_token("h", "b", Micros(5)).ok());
  Status again = catalog->use_token("h", "c", Micros(6));
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, ErrorCode::kConflict);
  EXPECT_EQ(catalog->token("h")->used_by, "b");
  EXPECT_EQ(catalog->token("h")->proof_key, "");
}

TEST_F(CatalogTest, a_peer_keeps_its_certificate_authority) {
  auto catalog = open();
  ASSERT_TRUE(catalog->put_peer(peer("aa")).ok());
  EXPECT_TRUE(catalog->put_peer(peer("aa")).ok());
  EXPECT_FALSE(catalog->put_peer(peer("bb")).ok());
  EXPECT_EQ(catalog->peer_named("b")->fingerprint, "aa");
}

TEST_F(CatalogTest, a_protection_goes_with_its_vm) {
  auto catalog = open();
  VmId id = catalog->add_vm(vm(1, "one"))->id;
  ASSERT_TRUE(catalog->put_peer(peer("aa")).ok());
  ASSERT_TRUE(catalog->put_protection({.vm = id, .peer = peer("").site}).ok());
  EXPECT_TRUE(catalog->protection(id).ok());
  ASSERT_TRUE(catalog->remove_vm(id).ok());
  EXPECT_FALSE(catalog->protection(id).ok());
}

TEST_F(CatalogTest, left_over_jobs_are_failed_at_the_next_start) {
  uint64_t id = *open()->add_job("vm-create", "one", Micros(1));
  auto catalog = open();
  ASSERT_TRUE(catalog->fail_left_over_jobs("{}", Micros(2)).ok());
  EXPECT_EQ(catalog->job(id)->state, "failed");
  EXPECT_EQ(catalog->jobs(10)->size(), 1U);
}

}  // namespace
}  // namespace hf::daemon
