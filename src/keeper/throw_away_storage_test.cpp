#include "keeper/throw_away_storage.h"

#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <random>

#include "sys/directory.h"

namespace hf::keeper {
namespace {

struct Said final : Completion {
  void on_complete(Status status) override { said = std::move(status); }
  std::optional<Status> said;
};

class ThrowAway : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = testing::TempDir() + "hf-look-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    directory = path;
    under = *sys::PosixStorage::open_directory(path);
    view = std::make_unique<ThrowAwayStorage>(
        *under, [this](std::function<void()> work) { later.push_back(std::move(work)); });
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  void put(const std::string& name, size_t size) {
    const FileId file = *under->open(name, OpenMode::kCreate);
    Bytes bytes(size);
    for (std::byte& byte : bytes) byte = std::byte(random());
    ASSERT_TRUE(under->write_now(file, 0, bytes).ok());
    ASSERT_TRUE(under->close(file).ok());
  }
  std::map<std::string, std::string> on_disk() const {
    std::map<std::string, std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      std::ifstream file(entry.path(), std::ios::binary);
      all[entry.path().filename()] = {std::istreambuf_iterator<char>(file), {}};
    }
    return all;
  }

  std::filesystem::path directory;
  std::unique_ptr<sys::PosixStorage> under;
  std::deque<std::function<void()>> later;
  std::unique_ptr<ThrowAwayStorage> view;
  std::mt19937 random{7};
};

// One file at random lengths and places, held against an image in memory.
TEST_F(ThrowAway, reads_what_was_written_over_what_is_there_and_leaves_it) {
  put("a", 50'000);
  const auto before = on_disk();
  const FileId file = *view->open("a", OpenMode::kReadWrite);
  Bytes expected(50'000);
  ASSERT_TRUE(view->read_now(file, 0, expected).ok());
  for (int step = 0; step < 2'000; ++step) {
    const size_t offset = random() % 60'000;
    if (step % 50 == 0) {
      ASSERT_TRUE(view->truncate(file, offset).ok());
      expected.resize(offset);
      continue;
    }
    Bytes bytes(random() % 9'000 + 1);
    for (std::byte& byte : bytes) byte = std::byte(random());
    ASSERT_TRUE(view->write_now(file, offset, bytes).ok());
    if (expected.size() < offset + bytes.size()) expected.resize(offset + bytes.size());
    std::ranges::copy(bytes, expected.begin() + static_cast<std::ptrdiff_t>(offset));
    ASSERT_EQ(*view->size(file), expected.size());
    Bytes found(expected.size());
    ASSERT_TRUE(view->read_now(file, 0, found).ok());
    ASSERT_EQ(found, expected) << step;
  }
  Bytes one(1);
  EXPECT_EQ(view->read_now(file, expected.size(), one).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(on_disk(), before);
}

TEST_F(ThrowAway, names_change_in_it_alone) {
  put("a", 10);
  put("b", 20);
  const auto before = on_disk();
  ASSERT_TRUE(view->open("c", OpenMode::kCreate).ok());
  EXPECT_EQ(view->open("a", OpenMode::kCreate).error().code, ErrorCode::kExists);
  ASSERT_TRUE(view->rename("b", "a").ok());
  EXPECT_EQ(*view->size(*view->open("a", OpenMode::kRead)), 20U);
  EXPECT_EQ(view->open("b", OpenMode::kRead).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(*view->list(), (std::vector<std::string>{"a", "c"}));
  ASSERT_TRUE(view->remove("a").ok());
  EXPECT_EQ(view->remove("a").error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(view->open("b", OpenMode::kCreate).ok()) << "a name that has gone is free";
  EXPECT_EQ(*view->list(), (std::vector<std::string>{"b", "c"}));
  EXPECT_EQ(on_disk(), before);
}

TEST_F(ThrowAway, tells_later_and_once) {
  Said made;
  Said written;
  const FileId file = view->create("a", made);
  EXPECT_FALSE(made.said.has_value());
  view->write(file, 0, as_bytes("x"), written);
  EXPECT_FALSE(written.said.has_value());
  while (!later.empty()) {
    later.front()();
    later.pop_front();
  }
  ASSERT_TRUE(made.said && made.said->ok());
  ASSERT_TRUE(written.said && written.said->ok());
  EXPECT_TRUE(on_disk().empty());
}

TEST_F(ThrowAway, keeps_no_more_than_its_bound) {
  const FileId file = *view->open("a", OpenMode::kCreate);
  const Bytes much(ThrowAwayStorage::kBytesMax);
  ASSERT_TRUE(view->write_now(file, 0, much).ok());
  EXPECT_EQ(view->write_now(file, much.size(), ByteSpan(much).first(1)).error().code,
            ErrorCode::kLimit);
}

}  // namespace
}  // namespace hf::keeper
