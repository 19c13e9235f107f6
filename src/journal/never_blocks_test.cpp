// What journal.h promises: once it is open, nothing waits for the disk between two events.
#include <gtest/gtest.h>

#include "journal/format/manifest.h"
#include "journal/test_world.h"

namespace hf::journal {
namespace {

// Passes everything on, and counts the calls that block once the journal serves.
class WatchedStorage final : public Storage {
 public:
  explicit WatchedStorage(Storage& under) : under_(under) {}

  Result<FileId> open(std::string_view name, OpenMode mode) override {
    note("open");
    return under_.open(name, mode);
  }
  Status close(FileId file) override { return under_.close(file); }
  Result<uint64_t> size(FileId file) override { return under_.size(file); }
  Status truncate(FileId file, uint64_t size) override {
    note("truncate");
    return under_.truncate(file, size);
  }
  Status remove(std::string_view name) override {
    note("remove");
    return under_.remove(name);
  }
  Status rename(std::string_view from, std::string_view to) override {
    note("rename");
    return under_.rename(from, to);
  }
  Result<std::vector<std::string>> list() override {
    note("list");
    return under_.list();
  }
  Status sync_directory() override {
    note("sync_directory");
    return under_.sync_directory();
  }
  Status read_now(FileId file, uint64_t offset, MutableByteSpan to) override {
    note("read_now");
    return under_.read_now(file, offset, to);
  }
  Status write_now(FileId file, uint64_t offset, ByteSpan from) override {
    note("write_now");
    return under_.write_now(file, offset, from);
  }
  Status sync_now(FileId file) override {
    note("sync_now");
    return under_.sync_now(file);
  }
  void read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) override {
    under_.read(file, offset, to, done);
  }
  void write(FileId file, uint64_t offset, ByteSpan from, Completion& done) override {
    under_.write(file, offset, from, done);
  }
  void sync(FileId file, Completion& done) override { under_.sync(file, done); }
  FileId create(std::string_view name, Completion& done) override {
    return under_.create(name, done);
  }
  void unlink(std::string_view name, Completion& done) override { under_.unlink(name, done); }
  void move(std::string_view from, std::string_view to, Completion& done) override {
    under_.move(from, to, done);
  }
  void sync_names(Completion& done) override {
    ++name_syncs;
    under_.sync_names(done);
  }

  bool serving = false;
  std::map<std::string, int> blocked;
  int name_syncs = 0;

 private:
  void note(const char* call) {
    if (serving) ++blocked[call];
  }
  Storage& under_;
};

class NeverBlocks : public testing::TestWithParam<bool> {};  // is the next segment prepared?
INSTANTIATE_TEST_SUITE_P(Of, NeverBlocks, testing::Values(false, true),
                         [](const auto& of) { return of.param ? "prepared" : "on_demand"; });

TEST_P(NeverBlocks, in_writing_segments_recycling_merging_reading_and_closing) {
  TestSite site(5);
  WatchedStorage storage(site.storage);
  Options options = site.options();
  options.log.prepare_next = GetParam();
  options.merge_keep_segments = 2;
  options.merge_batch_segments = 3;
  options.merge_bases_max = 3;
  auto journal = *Journal::create(storage, site.clock, site.rng, site.keys(), options);
  storage.serving = true;
  for (uint64_t i = 0; i < 400; ++i) {
    ASSERT_TRUE(site.write(*journal, i % 50 * 8192, TestSite::pattern(8192, i)).ok());
  }
  ASSERT_TRUE(site.flush(*journal).ok());
  site.settle(*journal);
  EXPECT_GT(journal->status().bases, 0u);
  for (uint64_t i = 350; i < 400; ++i) {
    EXPECT_EQ(*site.read(*journal, i % 50 * 8192, 8192), TestSite::pattern(8192, i));
  }
  EXPECT_EQ(site.sealed(*journal, {}).error->code, ErrorCode::kNotFound);
  ASSERT_TRUE(site.close(*journal).ok());
  site.settle(*journal);
  EXPECT_TRUE(journal->idle());
  EXPECT_GT(storage.name_syncs, 10) << "MANIFEST was stored on the way";
  for (const auto& [call, count] : storage.blocked) ADD_FAILURE() << call << ": " << count;
}

TEST_P(NeverBlocks, yet_a_record_counts_only_once_a_manifest_lists_its_segment) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    TestSite site(seed);
    site.log_options.prepare_next = GetParam();
    auto journal = *site.create();
    for (uint64_t i = 0; i < 60; ++i) {
      Waiter done;
      const Bytes data = TestSite::pattern(4096, i);
      ASSERT_TRUE(journal->write(VolumeId(1), i * 4096, data, &done).ok()) << "it has to wait";
      ASSERT_TRUE(site.wait(*journal, done).ok());
      const auto manifest = decode_manifest(*site.storage.contents(kManifestName));
      ASSERT_TRUE(manifest.ok());
      // All closed ones and the one in which this record is.
      EXPECT_GT(manifest->segments.size(), journal->status().segments) << "seed " << seed;
    }
    EXPECT_GT(journal->status().segments, 2u);
  }
}

TEST(Storing, a_manifest_that_cannot_be_stored_fails_the_journal_and_leaves_the_older_one) {
  size_t failed = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    TestSite site(seed);
    site.log_options.prepare_next = seed % 2 == 0;
    auto journal = *site.create();
    site.settle(*journal);
    std::vector<Bytes> acknowledged;
    for (uint64_t i = 0; i < 60 && journal->failed() == nullptr; ++i) {
      if (i == 20) site.storage.fail_next_syncs(1 + seed % 3);
      Waiter done;
      const Bytes data = TestSite::pattern(4096, i);
      if (!journal->write(VolumeId(1), i * 4096, data, &done).ok()) break;
      if (!site.wait(*journal, done).ok()) break;
      acknowledged.push_back(data);
    }
    failed += journal->failed() != nullptr ? 1 : 0;
    site.storage.kill_process();
    site.storage.reopen();
    journal.reset();
    auto opened = site.open();
    ASSERT_TRUE(opened.ok()) << "seed " << seed << ": " << opened.error().describe();
    for (size_t i = 0; i < acknowledged.size(); ++i) {
      ASSERT_EQ(*site.read(**opened, i * 4096, 4096), acknowledged[i]) << "seed " << seed;
    }
    // What the failed store left is gone; the next segment's is not under way.
    site.settle(**opened);
    EXPECT_FALSE(site.storage.contents(kManifestNewName).has_value()) << "seed " << seed;
  }
  EXPECT_GT(failed, 10u);
}

}  // namespace
}  // namespace hf::journal
