#include "control/store/catalog.h"

#include <ctype.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <map>

#include "control/store/catalog_schema.h"
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
  EXPECT_EQ(sizes(), before) << "who starts again has the same";
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

// As a catalog may have one that was written before such names were refused.
TEST_F(CatalogTest, a_vm_named_as_another_ones_id_is_never_taken_for_it) {
  auto catalog = open();
  const VmId id = catalog->add_vm(vm(1, "one"))->id;
  ASSERT_TRUE(catalog->add_vm(vm(2, "two")).ok());
  {
    Database raw = std::move(Database::open(path_)).value();
    ASSERT_TRUE(raw.execute("UPDATE vms SET name = '" + id.hex() + "' WHERE name = 'two'").ok());
  }
  EXPECT_EQ(catalog->vm(id)->name, "one");
  Result<VmRow> either = catalog->vm_named(id.hex());
  ASSERT_FALSE(either.ok());
  EXPECT_EQ(either.error().code, ErrorCode::kConflict);
  const std::string other = vm(2, "").id.hex();
  for (const std::string& named : {std::string("one"), other}) {
    EXPECT_TRUE(either.error().cause.contains(named)) << either.error().cause;
    EXPECT_TRUE(either.error().mend.contains(named)) << either.error().mend;
    EXPECT_TRUE(catalog->vm_named(named).ok());
  }
  EXPECT_FALSE(catalog->add_vm(vm(3, other)).ok()) << "nor does a new one get such a name";
  ASSERT_TRUE(catalog->remove_vm(id, VmRemains::kNone).ok());
  EXPECT_FALSE(catalog->vm(id).ok()) << "the one of that name is another";
  EXPECT_EQ(catalog->vm_named(id.hex())->id.hex(), other);
}

TEST_F(CatalogTest, an_operator_may_use_name_or_id) {
  auto catalog = open();
  VmRow row = vm(0xab, "one");
  ASSERT_TRUE(catalog->add_vm(row).ok());
  std::string upper = row.id.hex();
  for (char& c : upper) c = static_cast<char>(::toupper(c));
  EXPECT_EQ(catalog->vm_named("one")->id, row.id);
  EXPECT_EQ(catalog->vm_named(row.id.hex())->id, row.id);
  EXPECT_EQ(catalog->vm_named(upper)->id, row.id);
  EXPECT_FALSE(catalog->vm_named("").ok());
}

TEST_F(CatalogTest, a_peer_named_as_another_ones_id_is_never_taken_for_it) {
  auto catalog = open();
  PeerRow first = peer("aa");
  PeerRow second = peer("bb");
  second.site.bytes[0] = std::byte{8};
  second.name = first.site.hex();
  ASSERT_TRUE(catalog->put_peer(second).ok());
  EXPECT_FALSE(catalog->peer(first.site).ok());
  ASSERT_TRUE(catalog->put_peer(first).ok());
  EXPECT_EQ(catalog->peer(first.site)->fingerprint, "aa");
  Result<PeerRow> either = catalog->peer_named(first.site.hex());
  ASSERT_FALSE(either.ok());
  EXPECT_TRUE(either.error().cause.contains(second.site.hex())) << either.error().cause;
  EXPECT_EQ(catalog->peer_named("b")->fingerprint, "aa");
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

TEST_F(CatalogTest, no_two_peers_have_one_name) {
  auto catalog = open();
  ASSERT_TRUE(catalog->put_peer(peer("aa")).ok());
  PeerRow second = peer("bb");
  second.site.bytes[0] = std::byte{8};
  Status same = catalog->put_peer(second);
  ASSERT_FALSE(same.ok());
  EXPECT_EQ(same.error().code, ErrorCode::kExists);
  EXPECT_TRUE(same.error().mend.contains("--name")) << same.error().mend;
  second.name = "c";
  ASSERT_TRUE(catalog->put_peer(second).ok());
  EXPECT_EQ(catalog->peer_named("b")->fingerprint, "aa");
  second.name = "b";
  EXPECT_FALSE(catalog->put_peer(second).ok()) << "nor by being paired again";
}

// Written when peers were called as they called themselves.
TEST_F(CatalogTest, peers_of_an_older_catalog_get_names_of_their_own) {
  {
    Database raw = std::move(Database::open(path_)).value();
    for (std::string_view step : catalog_migrations().first(7))
      ASSERT_TRUE(raw.execute(std::string(step)).ok());
    ASSERT_TRUE(raw.execute("PRAGMA user_version=7").ok());
    for (const auto& [site, name] : std::vector<std::pair<uint8_t, std::string>>{
             {9, "b"}, {8, "b"}, {7, peer("").site.hex()}}) {
      SiteId id;
      id.bytes[0] = std::byte{site};
      ASSERT_TRUE(raw.execute("INSERT INTO peers VALUES ('" + id.hex() + "', '" + name +
                              "', 'a:1', '', '', '', '', 0)")
                      .ok());
    }
  }
  auto catalog = open();
  ASSERT_EQ(catalog->peers()->size(), 3U);
  EXPECT_EQ(catalog->peer_named("b")->site, peer("").site);
  for (const PeerRow& row : *catalog->peers()) {
    if (row.name == "b") continue;
    EXPECT_EQ(row.name, row.site.hex());
  }
}

TEST_F(CatalogTest, who_protected_a_vm_once_is_remembered_without_either) {
  auto catalog = open();
  VmId id = catalog->add_vm(vm(1, "one"))->id;
  const SiteId site = peer("").site;
  ASSERT_TRUE(catalog->put_peer(peer("aa")).ok());
  ASSERT_TRUE(catalog->put_protection({.vm = id, .peer = site}).ok());
  EXPECT_FALSE(*catalog->was_counterpart(id, site)) << "it is";
  ASSERT_TRUE(catalog->remove_vm(id, VmRemains::kNone).ok());
  EXPECT_TRUE(*catalog->was_counterpart(id, site));
  EXPECT_FALSE(*catalog->was_counterpart(id, SiteId()));
  EXPECT_FALSE(*catalog->was_counterpart(VmId(), site));
  // One that was not taken leaves nothing.
  const VmId refused = catalog->add_vm(vm(3, "three"))->id;
  ASSERT_TRUE(
      catalog->put_protection({.vm = refused, .peer = site, .state = ProtectionState::kOffered})
          .ok());
  ASSERT_TRUE(catalog->remove_protection(refused).ok());
  EXPECT_FALSE(*catalog->was_counterpart(refused, site));
  // Not for ever.
  Database raw = std::move(Database::open(path_)).value();
  ASSERT_TRUE(raw.execute("UPDATE former_protections SET ended_s = ended_s - 91 * 86400").ok());
  const VmId later = catalog->add_vm(vm(2, "two"))->id;
  ASSERT_TRUE(catalog->put_protection({.vm = later, .peer = site}).ok());
  ASSERT_TRUE(catalog->remove_protection(later).ok());
  EXPECT_FALSE(*catalog->was_counterpart(id, site));
  EXPECT_TRUE(*catalog->was_counterpart(later, site));
}

TEST_F(CatalogTest, a_peer_goes_when_no_vm_needs_it_and_nothing_of_it_stays) {
  auto catalog = open();
  const VmId id = catalog->add_vm(vm(1, "one"))->id;
  const SiteId site = peer("").site;
  ASSERT_TRUE(catalog->put_peer(peer("aa")).ok());
  ASSERT_TRUE(catalog->put_protection({.vm = id, .peer = site}).ok());
  Status needed = catalog->remove_peer(site);
  ASSERT_FALSE(needed.ok());
  EXPECT_TRUE(needed.error().cause.contains("one")) << needed.error().cause;
  ASSERT_TRUE(catalog->remove_protection(id).ok());
  ASSERT_TRUE(catalog->remove_peer(site).ok());
  EXPECT_FALSE(catalog->peer(site).ok());
  EXPECT_FALSE(*catalog->was_counterpart(id, site));
}

TEST_F(CatalogTest, what_a_peer_may_place_here_outlives_its_being_paired_again) {
  auto catalog = open();
  ASSERT_TRUE(catalog->put_peer(peer("aa")).ok());
  const SiteId site = peer("").site;
  EXPECT_EQ(catalog->peer(site)->accept, Accept::kYes);
  ASSERT_TRUE(catalog->set_peer_policy(site, Accept::kAsk, uint64_t{2} << 40).ok());
  ASSERT_TRUE(catalog->put_peer(peer("aa")).ok());
  EXPECT_EQ(catalog->peer(site)->accept, Accept::kAsk);
  EXPECT_EQ(catalog->peer(site)->quota_bytes, uint64_t{2} << 40);
}

TEST_F(CatalogTest, jobs_and_audit_have_an_end) {
  auto catalog = open();
  const uint64_t running = *catalog->add_job("vm-start", "one", Micros(1));
  {
    Database raw = std::move(Database::open(path_)).value();
    // As if there had been many: the numbers go on from there.
    ASSERT_TRUE(
        raw.execute("INSERT INTO jobs (id, kind, subject, state, detail, created_us) VALUES "
                    "(2, 'k', 's', 'done', '{}', 1), (20000, 'k', 's', 'done', '{}', 1)")
            .ok());
    ASSERT_TRUE(raw.execute("INSERT INTO audit VALUES (1, 1, 'a', 'b', 'c', 'd'), (200000, 1, 'a', "
                            "'b', 'c', 'd')")
                    .ok());
  }
  for (int i = 0; i < 64; ++i) {
    ASSERT_TRUE(catalog->add_job("k", "s", Micros(1)).ok());
    ASSERT_TRUE(catalog->audit("a", "b", "c", "d").ok());
  }
  EXPECT_TRUE(catalog->job(running).ok()) << "it has not ended";
  EXPECT_FALSE(catalog->job(2).ok());
  EXPECT_TRUE(catalog->job(20'000).ok());
  Database raw = std::move(Database::open(path_)).value();
  Statement count = std::move(raw.prepare("SELECT min(id) FROM audit")).value();
  ASSERT_TRUE(*count.step());
  EXPECT_EQ(count.integer(0), 200'000);
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

TEST_F(CatalogTest, left_over_jobs_are_interrupted_at_the_next_start) {
  uint64_t id = *open()->add_job("vm-create", "one", Micros(1));
  auto catalog = open();
  ASSERT_EQ(catalog->interrupt_left_over_jobs(Micros(2))->size(), 1U);
  EXPECT_EQ(catalog->job(id)->state, "interrupted");
  EXPECT_EQ(catalog->jobs(10)->size(), 1U);
  EXPECT_TRUE(catalog->interrupt_left_over_jobs(Micros(3))->empty());
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

TEST_F(CatalogTest, events_tell_who_and_from_where_and_are_asked_for_by_time) {
  auto catalog = open();
  ASSERT_TRUE(catalog->add_event({.time = Micros(10), .subject = "one"}).ok());
  ASSERT_TRUE(catalog
                  ->add_event({.time = Micros(20),
                               .subject = "one",
                               .by = {.actor = "uid 0 (root)", .origin = "api, pid 7"}})
                  .ok());
  std::vector<EventRow> late = *catalog->events({.since = Micros(15)});
  ASSERT_EQ(late.size(), 1U);
  EXPECT_EQ(late[0].by.actor, "uid 0 (root)");
  EXPECT_EQ(late[0].by.origin, "api, pid 7");
}

TEST_F(CatalogTest, an_event_is_one_line_whatever_a_peer_has_put_into_it) {
  auto catalog = open();
  tell(*catalog, {.kind = "k", .subject = "s", .text = "a\x1b[2J\nb", .by = {.actor = "x\ny"}});
  std::vector<EventRow> rows = *catalog->events({});
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].text.find_first_of("\x1b\n"), std::string::npos);
  EXPECT_EQ(rows[0].by.actor, "x y");
  EXPECT_GT(rows[0].time.value, 0U);
}

TEST_F(CatalogTest, what_is_audited_can_be_read_and_is_bounded) {
  auto catalog = open();
  {
    Database raw = std::move(Database::open(path_)).value();
    ASSERT_TRUE(raw.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE "
                            "i < 50100) INSERT INTO audit (time_us, actor, act, subject, detail)"
                            " SELECT i, 'w', 'a', 's', 'd' FROM n")
                    .ok());
  }
  for (int i = 0; i < 64; ++i) {
    ASSERT_TRUE(catalog->audit("uid 0 (root)", "vm delete", "web", std::to_string(i)).ok());
  }
  const std::vector<AuditRow> all = *catalog->audited({.newest = 100'000});
  EXPECT_GE(all.size(), kAuditMax);
  EXPECT_LT(all.size(), kAuditMax + 64);
  EXPECT_EQ(all.back().detail, "63");
  EXPECT_EQ(catalog->audited({.subject = "web", .newest = 100'000})->size(), 64U);
}

TEST_F(CatalogTest, jobs_are_bounded_but_for_those_that_run) {
  auto catalog = open();
  const uint64_t running = *catalog->add_job("vm-create", "one", Micros(1));
  {
    Database raw = std::move(Database::open(path_)).value();
    ASSERT_TRUE(raw.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE "
                            "i < 3000) INSERT INTO jobs (kind, subject, state, detail, created_us)"
                            " SELECT 'k', 's', 'done', '{}', i FROM n")
                    .ok());
  }
  const uint64_t newest = *catalog->add_job("vm-create", "two", Micros(2), {.actor = "me"});
  EXPECT_EQ(catalog->jobs(100'000)->size(), kJobsMax + 1);
  EXPECT_EQ(catalog->job(running)->state, "running");
  EXPECT_EQ(catalog->job(newest)->by.actor, "me");
}

TEST_F(CatalogTest, the_jobs_of_an_older_catalog_stay_as_they_were) {
  {
    Database raw = std::move(Database::open(path_)).value();
    for (size_t step = 0; step < 7; ++step)
      ASSERT_TRUE(raw.execute(catalog_migrations()[step]).ok());
    ASSERT_TRUE(raw.execute("INSERT INTO jobs (kind, subject, state, detail, created_us) VALUES "
                            "('vm-create', 'one', 'failed', '{\"a\":1}', 5);"
                            "INSERT INTO events (time_us, severity, kind, subject, text) VALUES "
                            "(1, 'alert', 'k', 's', 't'); PRAGMA user_version=7")
                    .ok());
  }
  auto catalog = open();
  EXPECT_EQ(catalog->job(1)->detail, "{\"a\":1}");
  EXPECT_EQ(catalog->events({})->front().text, "t");
  EXPECT_EQ(*catalog->add_job("k", "s", Micros(6)), 2U);
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
