#include "control/store/catalog.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <map>

#include "control/store/sqlite.h"

namespace hf::control {
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

// On a full disk no file grows.
TEST_F(CatalogTest, writes_down_what_is_stopped_and_deleted_in_the_room_that_it_keeps) {
  auto catalog = open();
  const VmRow row = *catalog->add_vm(vm(1, "one"));
  ASSERT_TRUE(catalog->keep_room().ok());
  const auto sizes = [&] {
    std::map<std::string, uintmax_t> found;
    for (const auto& file : std::filesystem::directory_iterator(dir_))
      found[file.path().filename()] = file.file_size();
    return found;
  };
  const auto before = sizes();
  for (int i = 0; i < 1000; ++i) {
    const uint64_t job = *catalog->add_job("vm-stop", "one", Micros(1));
    ASSERT_TRUE(catalog->set_wanted(row.id, i % 2 == 0).ok());
    ASSERT_TRUE(catalog->audit("uid 0", "vm stop", "one", std::string(200, 'x')).ok());
    ASSERT_TRUE(catalog
                    ->finish_job({.id = job,
                                  .kind = "vm-stop",
                                  .subject = "one",
                                  .state = "done",
                                  .detail = std::string(500, 'y')})
                    .ok());
  }
  EXPECT_EQ(sizes(), before);
  catalog.reset();
  // Neither is it taken again and again.
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(open()->keep_room().ok());
  EXPECT_LT(std::filesystem::file_size(path_), before.at("catalog.sqlite") * 2);
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

TEST_F(CatalogTest, a_number_is_used_again_when_nothing_of_its_vm_is_left) {
  auto catalog = open();
  for (uint8_t i = 1; i <= 3; ++i)
    ASSERT_EQ(catalog->add_vm(vm(i, std::to_string(i)))->number, uint32_t{i});
  ASSERT_TRUE(catalog->remove_vm(vm(2, "").id, VmRemains::kNone).ok());
  ASSERT_TRUE(catalog->remove_vm(vm(1, "").id, VmRemains::kNone).ok());
  ASSERT_TRUE(catalog->remove_vm(vm(3, "").id, VmRemains::kSomething).ok());
  ASSERT_TRUE(catalog->remove_vm(vm(3, "").id, VmRemains::kNone).ok()) << "it is gone already";
  catalog = nullptr;
  catalog = open();
  EXPECT_EQ(catalog->add_vm(vm(4, "4"))->number, 2U) << "the longest free first";
  EXPECT_EQ(catalog->add_vm(vm(5, "5"))->number, 1U);
  EXPECT_EQ(catalog->add_vm(vm(6, "6"))->number, 4U) << "3 may still own something";
}

TEST_F(CatalogTest, a_hundred_thousand_that_are_refused_spend_no_number) {
  auto catalog = open();
  ASSERT_TRUE(catalog->put_peer(peer("aa")).ok());
  ASSERT_TRUE(catalog->add_vm(vm(1, "one")).ok());
  VmRow offered = vm(2, "one");
  offered.role = VmRole::kStandby;
  ProtectionRow protection{.vm = offered.id, .peer = peer("").site, .direction = Direction::kIn};
  for (uint32_t i = 0; i < 100'000; ++i) {
    offered.id.bytes[1] = std::byte(i & 0xff);
    offered.id.bytes[2] = std::byte(i >> 8 & 0xff);
    protection.vm = offered.id;
    ASSERT_EQ(catalog->add_replica(offered, protection).error().code, ErrorCode::kExists);
  }
  // As an offer that was entered and could not be carried out.
  for (int i = 0; i < 50; ++i) {
    offered.name = "two";
    ASSERT_EQ(catalog->add_replica(offered, protection)->number, 2U);
    ASSERT_TRUE(catalog->remove_vm(offered.id, VmRemains::kNone).ok());
  }
  EXPECT_EQ(catalog->add_vm(vm(3, "three"))->number, 2U);
}

TEST_F(CatalogTest, the_last_number_is_the_last) {
  open().reset();
  {
    Database raw = std::move(Database::open(path_)).value();
    ASSERT_TRUE(
        raw.execute("UPDATE vm_numbers SET last = " + std::to_string(kVmNumberLast - 1)).ok());
  }
  auto catalog = open();
  EXPECT_EQ(catalog->add_vm(vm(1, "one"))->number, kVmNumberLast);
  const Result<VmRow> refused = catalog->add_vm(vm(2, "two"));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
  EXPECT_FALSE(refused.error().mend.empty());
  ASSERT_TRUE(catalog->remove_vm(vm(1, "").id, VmRemains::kNone).ok());
  EXPECT_EQ(catalog->add_vm(vm(2, "two"))->number, kVmNumberLast);
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

TEST_F(CatalogTest, an_id_finds_its_own_vm_whatever_others_are_called) {
  auto catalog = open();
  const VmId own = vm(9, "").id;
  // As another site may name the VM that it offers: lower in the order of ids, and added first.
  ASSERT_TRUE(catalog->add_vm(vm(1, own.hex())).ok());
  EXPECT_EQ(catalog->vm(own).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(catalog->add_vm(vm(9, "own")).ok());
  EXPECT_EQ(catalog->vm(own)->name, "own");
  EXPECT_EQ(catalog->vm_named(own.hex())->name, "own");
}

TEST_F(CatalogTest, a_replica_is_there_with_its_protection_or_not_at_all) {
  auto catalog = open();
  VmRow row = vm(1, "one");
  row.role = VmRole::kStandby;
  ProtectionRow protection{.vm = row.id, .peer = peer("").site, .direction = Direction::kIn};
  EXPECT_FALSE(catalog->add_replica(row, protection).ok()) << "no such peer";
  EXPECT_FALSE(catalog->vm(row.id).ok());
  ASSERT_TRUE(catalog->put_peer(peer("aa")).ok());
  EXPECT_EQ(catalog->add_replica(row, protection)->number, 1U) << "no number was spent";
  EXPECT_EQ(catalog->protection(row.id)->direction, Direction::kIn);
  EXPECT_EQ(catalog->add_replica(row, protection).error().code, ErrorCode::kExists);
}

TEST_F(CatalogTest, how_far_a_protection_is_outlives_the_process) {
  const VmId id = open()->add_vm(vm(1, "one"))->id;
  ASSERT_TRUE(open()->put_peer(peer("aa")).ok());
  ProtectionRow row{.vm = id, .peer = peer("").site};
  ASSERT_TRUE(open()->put_protection(row).ok());
  EXPECT_EQ(open()->protection(id)->state, ProtectionState::kStands);
  for (ProtectionState state :
       {ProtectionState::kOffered, ProtectionState::kStands, ProtectionState::kWithdrawing}) {
    row.state = state;
    ASSERT_TRUE(open()->put_protection(row).ok());
    EXPECT_EQ(open()->protection(id)->state, state);
  }
}

TEST_F(CatalogTest, an_epoch_never_goes_back) {
  auto catalog = open();
  VmRow row = *catalog->add_vm(vm(1, "one"));
  ASSERT_TRUE(catalog->change_role(row, VmRole::kActive, Epoch(5), "").ok());
  row = *catalog->vm(row.id);
  EXPECT_FALSE(catalog->change_role(row, VmRole::kActive, Epoch(4), "").ok());
  EXPECT_EQ(catalog->vm(row.id)->epoch, Epoch(5));
}

TEST_F(CatalogTest, a_role_changes_only_from_what_whoever_decided_had_seen) {
  auto catalog = open();
  VmRow row = *catalog->add_vm(vm(1, "one"));
  ASSERT_TRUE(catalog->change_role(row, VmRole::kStandby, Epoch(2), "").ok());
  const VmRow standby = *catalog->vm(row.id);
  const SiteId home{};
  ASSERT_TRUE(catalog->take_over(standby, Epoch(3), home, "failed over").ok());
  EXPECT_EQ(catalog->vm(row.id)->taken_from, home);
  // An answer that was computed from the row before: with the old epoch, and with a higher one.
  for (const Epoch epoch : {Epoch(2), Epoch(3), Epoch(4)}) {
    EXPECT_EQ(catalog->change_role(standby, VmRole::kStandby, epoch, "").error().code,
              ErrorCode::kConflict);
  }
  EXPECT_EQ(catalog->vm(row.id)->role, VmRole::kActive);
  EXPECT_EQ(catalog->vm(row.id)->epoch, Epoch(3));
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
  ASSERT_TRUE(catalog->remove_vm(id, VmRemains::kNone).ok());
  EXPECT_FALSE(catalog->protection(id).ok());
}

TEST_F(CatalogTest, left_over_jobs_are_failed_at_the_next_start) {
  uint64_t id = *open()->add_job("vm-create", "one", Micros(1));
  auto catalog = open();
  ASSERT_TRUE(catalog->fail_left_over_jobs("{}", Micros(2)).ok());
  EXPECT_EQ(catalog->job(id)->state, "failed");
  EXPECT_EQ(catalog->jobs(10)->size(), 1U);
}

TEST_F(CatalogTest, a_vm_without_attestation_has_empty_parts_and_each_is_set_by_itself) {
  auto catalog = open();
  VmId id = catalog->add_vm(vm(1, "one"))->id;
  EXPECT_EQ(catalog->attestation(id)->policy, "");
  ASSERT_TRUE(catalog->set_attestation(id, AttestationPart::kPolicy, "{p}").ok());
  ASSERT_TRUE(catalog->set_attestation(id, AttestationPart::kBaseline, "{b}").ok());
  ASSERT_TRUE(catalog->set_attestation(id, AttestationPart::kPolicy, "{q}").ok());
  AttestationRow row = *catalog->attestation(id);
  EXPECT_EQ(row.policy, "{q}");
  EXPECT_EQ(row.baseline, "{b}");
  EXPECT_EQ(row.identity, "");
  ASSERT_TRUE(catalog->remove_vm(id, VmRemains::kNone).ok());
  EXPECT_EQ(catalog->attestation(id)->policy, "");
}

TEST_F(CatalogTest, the_newest_hundred_verdicts_of_each_vm_are_kept) {
  auto catalog = open();
  VmId one = catalog->add_vm(vm(1, "one"))->id;
  VmId two = catalog->add_vm(vm(2, "two"))->id;
  ASSERT_TRUE(catalog->add_verdict(two, {.verdict = "Unknown", .record = "{}"}).ok());
  for (uint64_t i = 1; i <= kVerdictsMax + 20; ++i) {
    VerdictRow row{.time = Micros(i), .verdict = "Healthy", .record = "{}"};
    ASSERT_TRUE(catalog->add_verdict(one, row).ok());
  }
  std::vector<VerdictRow> kept = *catalog->verdicts(one, 1000);
  ASSERT_EQ(kept.size(), kVerdictsMax);
  EXPECT_EQ(kept.front().time, Micros(kVerdictsMax + 20));
  EXPECT_EQ(kept.back().time, Micros(21));
  EXPECT_EQ(catalog->verdicts(two)->size(), 1U);
  EXPECT_FALSE(catalog->add_verdict(two, {.verdict = "Fine", .record = "{}"}).ok());
}

TEST_F(CatalogTest, what_came_with_a_journal_replaces_all_there_was) {
  auto catalog = open();
  VmId id = catalog->add_vm(vm(1, "one"))->id;
  ASSERT_TRUE(catalog->set_attestation(id, AttestationPart::kExplanations, "old").ok());
  ASSERT_TRUE(catalog->add_verdict(id, {.verdict = "Unknown", .record = "{}"}).ok());
  std::vector<VerdictRow> came{{.time = Micros(1), .verdict = "Healthy", .record = "a"},
                               {.time = Micros(2), .verdict = "Unhealthy", .record = "b"}};
  ASSERT_TRUE(catalog->replace_attestation(id, {.policy = "p"}, came).ok());
  EXPECT_EQ(catalog->attestation(id)->policy, "p");
  EXPECT_EQ(catalog->attestation(id)->explanations, "");
  std::vector<VerdictRow> kept = *catalog->verdicts(id);
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_EQ(kept[0].verdict, "Unhealthy");
  EXPECT_EQ(kept[1].record, "a");
}

TEST_F(CatalogTest,
       what_a_takeover_has_to_adopt_is_pending_until_it_is_there_whatever_ends_between) {
  VmRow row = *open()->add_vm(vm(1, "one"));
  EXPECT_FALSE(row.adopt_pending);
  ASSERT_TRUE(open()->take_over(row, Epoch(2), SiteId(), "failed over").ok());
  {
    auto catalog = open();
    EXPECT_EQ(catalog->vm(row.id)->role, VmRole::kActive);
    EXPECT_EQ(catalog->vm(row.id)->epoch, Epoch(2));
    EXPECT_TRUE(catalog->vm(row.id)->adopt_pending);
    // What else happens to the VM does not end it.
    ASSERT_TRUE(catalog->change_role(*catalog->vm(row.id), VmRole::kActive, Epoch(3), "").ok());
    ASSERT_TRUE(catalog->set_attestation(row.id, AttestationPart::kPolicy, "p").ok());
    EXPECT_TRUE(catalog->vm(row.id)->adopt_pending);
    ASSERT_TRUE(catalog->replace_attestation(row.id, {.baseline = "b"}, {}).ok());
    EXPECT_FALSE(catalog->vm(row.id)->adopt_pending);
  }
  EXPECT_FALSE(open()->vm(row.id)->adopt_pending);
  EXPECT_EQ(open()->attestation(row.id)->baseline, "b");
}

TEST_F(CatalogTest, a_takeover_ends_the_replicas_protection_with_it) {
  auto catalog = open();
  ASSERT_TRUE(catalog->put_peer(peer("aa")).ok());
  VmRow row = vm(1, "one");
  row.role = VmRole::kStandby;
  row = *catalog->add_replica(row,
                              {.vm = row.id, .peer = peer("").site, .direction = Direction::kIn});
  VmRow past = row;
  past.epoch = Epoch(7);
  EXPECT_FALSE(catalog->take_over(past, Epoch(8), peer("").site, "").ok());
  EXPECT_TRUE(catalog->protection(row.id).ok());
  ASSERT_TRUE(catalog->take_over(row, Epoch(2), peer("").site, "").ok());
  EXPECT_FALSE(catalog->protection(row.id).ok());
}

TEST_F(CatalogTest, a_takeover_under_an_epoch_that_is_past_changes_nothing) {
  auto catalog = open();
  VmRow row = *catalog->add_vm(vm(1, "one"));
  ASSERT_TRUE(catalog->change_role(row, VmRole::kStandby, Epoch(3), "").ok());
  row = *catalog->vm(row.id);
  EXPECT_EQ(catalog->take_over(row, Epoch(2), SiteId(), "").error().code, ErrorCode::kConflict);
  EXPECT_EQ(catalog->vm(row.id)->role, VmRole::kStandby);
  EXPECT_FALSE(catalog->vm(row.id)->adopt_pending);
}

TEST_F(CatalogTest, events_come_oldest_first_and_can_be_followed) {
  auto catalog = open();
  for (std::string subject : {"one", "two", "one"}) {
    ASSERT_TRUE(catalog->add_event({.severity = Severity::kAlert, .subject = subject}).ok());
  }
  std::vector<EventRow> of_one = *catalog->events({.subject = "one"});
  ASSERT_EQ(of_one.size(), 2U);
  EXPECT_LT(of_one[0].id, of_one[1].id);
  EXPECT_EQ(of_one[0].severity, Severity::kAlert);
  EXPECT_EQ(catalog->events({.after = of_one[0].id})->size(), 2U);
  EXPECT_EQ(catalog->events({.newest = 1})->front().id, of_one[1].id);
}

TEST_F(CatalogTest, events_are_bounded) {
  auto catalog = open();
  uint64_t last = 0;
  {
    // As many as are kept are in no time only in one transaction.
    Database raw = std::move(Database::open(path_)).value();
    ASSERT_TRUE(raw.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE "
                            "i < 10100) INSERT INTO events (time_us, severity, kind, subject, text)"
                            " SELECT i, 'info', 'k', 's', 't' FROM n")
                    .ok());
  }
  for (int i = 0; i < 64; ++i) last = *catalog->add_event({});
  EXPECT_EQ(last, 10164U);
  size_t kept = catalog->events({.newest = 100'000})->size();
  EXPECT_GE(kept, kEventsMax);
  EXPECT_LT(kept, kEventsMax + 64);
}

}  // namespace
}  // namespace hf::control
