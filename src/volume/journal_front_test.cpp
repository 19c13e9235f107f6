#include "volume/journal_front.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "sys/directory.h"
#include "volume/flash_volume.h"
#include "volume/testing.h"

namespace hf::volume {
namespace {

constexpr VolumeId kDisk{1};
constexpr VolumeId kGuestState{0};
constexpr uint64_t kStoreBase = uint64_t{1} << 32;

struct Done final : Request {
  void on_done(Status value) override {
    HF_ASSERT(!done);
    status = std::move(value);
    done = true;
  }
  bool done = false;
  Status status;
  Bytes bytes;
};

struct Waiter final : Completion {
  void on_complete(Status value) override {
    status = std::move(value);
    done = true;
  }
  bool done = false;
  Status status;
};

struct Sealed final : journal::SealedRead {
  void on_sealed(Result<journal::SealedBatch> batch) override {
    done = true;
    ASSERT_TRUE(batch.ok());
    records.assign(batch->records.begin(), batch->records.end());
    last = batch->last;
  }
  bool done = false;
  Bytes records;
  Position last;
};

struct NotedScratch final : Scratch {
  void keep(uint64_t offset, ByteSpan bytes) override {
    at = offset;
    kept.assign(bytes.begin(), bytes.end());
  }
  void clear() override { kept.clear(); }
  uint64_t at = 0;
  Bytes kept;
};

class LoopClock final : public Clock {
 public:
  explicit LoopClock(testing::ManualScheduler& scheduler) : scheduler_(scheduler) {}
  Micros wall_time() override { return scheduler_.now(); }
  Micros monotonic() override { return scheduler_.now(); }

 private:
  testing::ManualScheduler& scheduler_;
};

// A storage whose writes fail from a moment on.
class FailingStorage final : public Storage {
 public:
  explicit FailingStorage(sys::PosixStorage& under) : under_(under) {}
  Result<FileId> open(std::string_view name, OpenMode mode) override {
    return under_.open(name, mode);
  }
  Status close(FileId file) override { return under_.close(file); }
  Result<uint64_t> size(FileId file) override { return under_.size(file); }
  Status truncate(FileId file, uint64_t size) override { return under_.truncate(file, size); }
  Status remove(std::string_view name) override { return under_.remove(name); }
  Status rename(std::string_view from, std::string_view to) override {
    return under_.rename(from, to);
  }
  Result<std::vector<std::string>> list() override { return under_.list(); }
  Status sync_directory() override { return under_.sync_directory(); }
  Status read_now(FileId file, uint64_t offset, MutableByteSpan to) override {
    return under_.read_now(file, offset, to);
  }
  Status write_now(FileId file, uint64_t offset, ByteSpan from) override {
    return under_.write_now(file, offset, from);
  }
  Status sync_now(FileId file) override { return under_.sync_now(file); }
  void read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) override {
    under_.read(file, offset, to, done);
  }
  void write(FileId file, uint64_t offset, ByteSpan from, Completion& done) override {
    if (!failing) return under_.write(file, offset, from, done);
    failed.push_back(&done);
  }
  void sync(FileId file, Completion& done) override { under_.sync(file, done); }
  FileId create(std::string_view name, Completion& done) override {
    return under_.create(name, done);
  }
  void unlink(std::string_view name, Completion& done) override { under_.unlink(name, done); }
  void move(std::string_view from, std::string_view to, Completion& done) override {
    under_.move(from, to, done);
  }
  void sync_names(Completion& done) override { under_.sync_names(done); }
  void drain() {
    under_.drain();
    for (Completion* done : std::exchange(failed, {})) {
      done->on_complete(Error{.code = ErrorCode::kNoSpace, .cause = "no space left"});
    }
  }
  bool failing = false;
  std::vector<Completion*> failed;

 private:
  sys::PosixStorage& under_;
};

class FrontTest : public ::testing::Test {
 protected:
  FrontTest() {
    HF_ASSERT(::mkdtemp(path_.data()) != nullptr);
    posix_ = *sys::PosixStorage::open_directory(path_);
    storage_ = std::make_unique<FailingStorage>(*posix_);
    crypto::Secret gsp(crypto::kKeySize);
    VmId vm;
    vm.bytes.fill(std::byte{1});
    auto created = journal::Journal::create(
        *storage_, clock_, rng_, journal::JournalKeys::derive(gsp, vm, KeyVersion(1)),
        {.vm = vm, .site = {}, .epoch = Epoch(1), .log = {.prepare_next = false}});
    HF_ASSERT(created.ok());
    journal_ = *std::move(created);
    front_ = std::make_unique<JournalFront>(*journal_, loop_);
    start_ = journal_->end().position;
  }
  ~FrontTest() override {
    if (journal_ != nullptr) settle();
    flash_.reset();
    front_.reset();
    journal_.reset();
    std::filesystem::remove_all(path_);
  }

  // Turns the loop without letting time pass.
  void turn() {
    for (int i = 0; i < 20; ++i) {
      loop_.run_all();
      storage_->drain();
    }
  }
  void settle() {
    loop_.advance(30'000);
    turn();
    loop_.advance(30'000);
    turn();
  }
  FlashVolume& make_flash(size_t size, Scratch* scratch = nullptr) {
    flash_ = std::make_unique<FlashVolume>(*front_, kGuestState, kStoreBase, Bytes(size), scratch);
    return *flash_;
  }
  static void fill(Done& request, Operation operation, uint64_t offset, Bytes bytes) {
    request.operation = operation;
    request.offset = offset;
    request.length = bytes.size();
    request.bytes = std::move(bytes);
    request.data = request.bytes.data();
  }
  void write(Volume& volume, uint64_t offset, Bytes bytes) {
    Done request;
    fill(request, Operation::kWrite, offset, std::move(bytes));
    volume.submit(request);
    turn();
    ASSERT_TRUE(request.done && request.status.ok());
  }
  void flush(Volume& volume) {
    Done request;
    request.operation = Operation::kFlush;
    volume.submit(request);
    turn();
    ASSERT_TRUE(request.done && request.status.ok());
  }
  Bytes stored(uint64_t size) {
    Bytes image(size);
    Waiter done;
    journal_->read(kGuestState, kStoreBase, image, done);
    journal_->tick();
    turn();
    HF_ASSERT(done.done && done.status.ok());
    return image;
  }
  // The durable records since the start, and how many bytes they take.
  std::vector<journal::RecordHeader> records(uint64_t* bytes = nullptr) {
    std::vector<journal::RecordHeader> headers;
    Position after = start_;
    for (;;) {
      Sealed sealed;
      journal_->read_sealed(after, 8 << 20, sealed);
      for (int i = 0; i < 50 && !sealed.done; ++i) {
        turn();
        journal_->tick();
      }
      HF_ASSERT(sealed.done);
      if (sealed.records.empty()) return headers;
      if (bytes != nullptr) *bytes += sealed.records.size();
      for (ByteSpan rest = sealed.records; !rest.empty();) {
        headers.push_back(*journal::decode_header(rest));
        rest = rest.subspan(headers.back().stored_size());
      }
      after = sealed.last;
    }
  }

  std::string path_ = "/tmp/hf-front-XXXXXX";
  testing::ManualScheduler loop_;
  LoopClock clock_{loop_};
  crypto::SystemRng rng_;
  std::unique_ptr<sys::PosixStorage> posix_;
  std::unique_ptr<FailingStorage> storage_;
  std::unique_ptr<journal::Journal> journal_;
  std::unique_ptr<JournalFront> front_;
  std::unique_ptr<FlashVolume> flash_;
  Position start_;
};

using JournalVolumeTest = FrontTest;
using FlashVolumeTest = FrontTest;

TEST_F(JournalVolumeTest, reads_writes_and_zeroes_through_the_journal) {
  JournalVolume disk(*front_, kDisk, 1 << 20);
  write(disk, 4096, Bytes(8192, std::byte{7}));
  Done zeroes;
  zeroes.operation = Operation::kWriteZeroes;
  zeroes.offset = 4096;
  zeroes.length = 4096;
  disk.submit(zeroes);
  Done read;
  fill(read, Operation::kRead, 0, Bytes(16384, std::byte{1}));
  disk.submit(read);
  turn();
  ASSERT_TRUE(zeroes.done && read.done);
  Bytes expected(16384);
  std::fill_n(expected.begin() + 8192, 4096, std::byte{7});
  EXPECT_EQ(read.bytes, expected);
}

TEST_F(JournalVolumeTest, fua_and_flush_complete_when_durable) {
  JournalVolume disk(*front_, kDisk, 1 << 20);
  Done fua;
  fill(fua, Operation::kWrite, 0, Bytes(4096));
  fua.fua = true;
  disk.submit(fua);
  turn();
  ASSERT_TRUE(fua.done);
  EXPECT_EQ(journal_->durable_end().position.sequence, journal_->end().position.sequence);
  write(disk, 4096, Bytes(4096, std::byte{1}));
  flush(disk);
  EXPECT_EQ(journal_->durable_end().position.sequence, journal_->end().position.sequence);
}

TEST_F(JournalVolumeTest, more_writes_than_the_journal_takes_wait_and_are_all_done) {
  JournalVolume disk(*front_, kDisk, 64 << 20);
  std::deque<Done> requests(200);
  for (size_t i = 0; i < requests.size(); ++i) {
    fill(requests[i], Operation::kWrite, i * kRequestDataMax, Bytes(kRequestDataMax, std::byte{5}));
    disk.submit(requests[i]);
  }
  EXPECT_FALSE(front_->idle());
  for (int i = 0; i < 50; ++i) turn();
  for (Done& request : requests) EXPECT_TRUE(request.done && request.status.ok());
}

TEST_F(JournalVolumeTest, a_failed_journal_leaves_the_guest_waiting_not_failing) {
  // Left alone at the end, as a keeper does: its destructor would rightly object.
  auto& disk = *new JournalVolume(*front_, kDisk, 1 << 20);
  auto& requests = *new std::deque<Done>(3);
  write(disk, 0, Bytes(4096, std::byte{9}));
  storage_->failing = true;
  fill(requests[0], Operation::kWrite, 4096, Bytes(4096));
  disk.submit(requests[0]);
  turn();
  settle();
  ASSERT_NE(journal_->failed(), nullptr);
  fill(requests[1], Operation::kWrite, 8192, Bytes(4096));
  disk.submit(requests[1]);
  requests[2].operation = Operation::kFlush;
  disk.submit(requests[2]);
  settle();
  for (Done& request : requests) EXPECT_FALSE(request.done);
  Done read;
  fill(read, Operation::kRead, 0, Bytes(4096));
  disk.submit(read);
  turn();
  ASSERT_TRUE(read.done && read.status.ok());
  EXPECT_EQ(read.bytes, Bytes(4096, std::byte{9}));
  static auto& left_alone = *new std::vector<void*>;  // outlives the leak check
  left_alone.insert(left_alone.end(), {&disk, &requests, front_.release(), journal_.release(),
                                       storage_.release(), posix_.release()});
}

TEST_F(FlashVolumeTest, holds_neighbouring_bytes_for_one_record_of_what_changed) {
  FlashVolume& flash = make_flash(8192);
  Bytes sector(512);
  for (size_t i = 0; i < 100; ++i) {
    sector[100 + i] = std::byte{0x5A};
    write(flash, 512, sector);
  }
  EXPECT_EQ(journal_->end().position, start_);
  settle();
  auto made = records();
  ASSERT_EQ(made.size(), 1U);
  EXPECT_EQ(made[0].offset, kStoreBase + 512 + 100);
  EXPECT_EQ(made[0].length, 100U);
  EXPECT_TRUE(std::ranges::equal(stored(8192), flash.image()));
}

TEST_F(FlashVolumeTest, writes_that_change_nothing_cost_nothing) {
  FlashVolume& flash = make_flash(8192);
  write(flash, 0, Bytes(4096));
  settle();
  EXPECT_TRUE(records().empty());
}

TEST_F(FlashVolumeTest, held_bytes_go_before_a_disk_write) {
  FlashVolume& flash = make_flash(8192);
  JournalVolume disk(*front_, kDisk, 1 << 20);
  write(flash, 0, Bytes(512, std::byte{1}));
  write(disk, 0, Bytes(512, std::byte{2}));
  flush(disk);
  auto made = records();
  ASSERT_EQ(made.size(), 2U);
  EXPECT_EQ(made[0].volume, kGuestState);
  EXPECT_EQ(made[1].volume, kDisk);
}

TEST_F(FlashVolumeTest, a_flush_of_any_volume_covers_held_bytes) {
  FlashVolume& flash = make_flash(8192);
  JournalVolume disk(*front_, kDisk, 1 << 20);
  write(flash, 0, Bytes(512, std::byte{1}));
  flush(disk);
  ASSERT_EQ(records().size(), 1U);
  write(flash, 512, Bytes(512, std::byte{1}));
  flush(flash);
  ASSERT_EQ(records().size(), 2U);
}

TEST_F(FlashVolumeTest, a_flush_gets_past_flash_writes_that_never_end) {
  FlashVolume& flash = make_flash(64 << 10);
  JournalVolume disk(*front_, kDisk, 1 << 20);
  write(flash, 0, Bytes(16, std::byte{1}));
  Done flush;
  flush.operation = Operation::kFlush;
  disk.submit(flush);
  std::deque<Done> writes(40);
  size_t meanwhile = 0;
  for (; meanwhile < writes.size() && !flush.done; ++meanwhile) {
    fill(writes[meanwhile], Operation::kWrite, (meanwhile + 1) * 1024, Bytes(16, std::byte{2}));
    flash.submit(writes[meanwhile]);
    loop_.run_all();
    storage_->drain();
  }
  EXPECT_LT(meanwhile, 10U);
  settle();
  for (size_t i = 0; i < meanwhile; ++i) EXPECT_TRUE(writes[i].done);
  EXPECT_TRUE(std::ranges::equal(stored(64 << 10), flash.image()));
}

TEST_F(FlashVolumeTest, the_note_for_a_successor_stands_until_the_record_is_appended) {
  NotedScratch scratch;
  FlashVolume& flash = make_flash(8192, &scratch);
  write(flash, 100, Bytes(50, std::byte{1}));
  EXPECT_EQ(scratch.at, 100U);
  EXPECT_EQ(scratch.kept, Bytes(50, std::byte{1}));
  loop_.advance(20'000);  // appended, but the storage has not said so
  loop_.run_all();
  EXPECT_TRUE(flash.appending());
  EXPECT_EQ(scratch.kept, Bytes(50, std::byte{1}));
  Done next;
  fill(next, Operation::kWrite, 4000, Bytes(10, std::byte{2}));
  flash.submit(next);
  loop_.run_all();
  EXPECT_FALSE(next.done);  // or its note would replace the one that is still needed
  turn();
  EXPECT_TRUE(next.done);
  EXPECT_EQ(scratch.at, 4000U);
  settle();
  EXPECT_TRUE(scratch.kept.empty());
}

TEST_F(FlashVolumeTest, every_state_in_the_journal_is_one_the_flash_was_in_and_in_order) {
  constexpr size_t kStore = 16 << 10;
  FlashVolume& flash = make_flash(kStore);
  std::mt19937 random(7);
  std::vector<Bytes> history{Bytes(kStore)};
  size_t reached = 0;
  Bytes image(kStore);
  for (int step = 0; step < 600; ++step) {
    size_t at =
        step % 3 == 0 ? random() % (kStore - 64) : (static_cast<size_t>(step) * 5) % (kStore - 64);
    size_t size = 1 + random() % 64;
    for (size_t i = at; i < at + size; ++i) image[i] = static_cast<std::byte>(random());
    size_t first = at / 512 * 512;
    size_t last = (at + size + 511) / 512 * 512;
    write(flash, first,
          Bytes(image.begin() + static_cast<long>(first), image.begin() + static_cast<long>(last)));
    history.push_back(image);
    if (random() % 4 == 0) loop_.advance(random() % 25'000);
    turn();
    Bytes now = stored(kStore);
    while (reached < history.size() && history[reached] != now) ++reached;
    ASSERT_LT(reached, history.size()) << "a state that never was, at step " << step;
  }
  settle();
  EXPECT_EQ(stored(kStore), image);
}

// QEMU's pflash sends the sector that a programmed byte is in, and whole blocks for an erase; edk2
// compacts a store by writing the spare block, then the store, byte by byte.
TEST_F(FlashVolumeTest, a_store_reclaim_costs_less_than_2_MB_of_journal) {
  constexpr size_t kStore = 0x84000;
  constexpr size_t kBlock = 4096;
  FlashVolume& flash = make_flash(kStore);
  Bytes image(kStore);
  size_t writes = 0;
  auto send = [&](size_t at, size_t size) {
    Done request;
    fill(
        request, Operation::kWrite, at,
        Bytes(image.begin() + static_cast<long>(at), image.begin() + static_cast<long>(at + size)));
    flash.submit(request);
    loop_.advance(50);
    if (!request.done || ++writes % 256 == 0) turn();
    HF_ASSERT(request.done);
  };
  std::mt19937 random(3);
  auto rewrite = [&](size_t from, size_t size) {
    for (size_t at = from; at < from + size; at += kBlock) {
      std::fill_n(image.begin() + static_cast<long>(at), kBlock, std::byte{0xFF});
      send(at, kBlock);
    }
    for (size_t at = from; at < from + size; ++at) {
      image[at] = static_cast<std::byte>(random());
      send(at / 512 * 512, 512);
    }
  };
  rewrite(0x42000, 0x42000);  // spare
  rewrite(0, 0x42000);        // variables
  settle();
  flush(flash);
  uint64_t bytes = 0;
  auto made = records(&bytes);
  EXPECT_GT(writes, 500'000U);
  EXPECT_LT(bytes, 2'000'000U) << made.size() << " records";
  EXPECT_EQ(stored(kStore), image);
}

}  // namespace
}  // namespace hf::volume
