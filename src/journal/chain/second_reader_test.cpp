// The page docs/formats/journal-maps.md is enough to read maps by: a reader written from it alone
// (tests/e2e/lib/journal_map.py) finds what was written, by order and by filters.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "journal/chain/test_line.h"

namespace hf::journal {
namespace {

struct Said {
  std::string text;
  bool ok = false;
};

Said read_with_python(const std::string& arguments) {
  const char* source = std::getenv("HOLDFAST_SOURCE");
  const std::string command = "PYTHONDONTWRITEBYTECODE=1 python3 " + std::string(source) +
                              "/tests/e2e/lib/journal_map.py " + arguments + " 2>&1";
  Said said;
  FILE* pipe = ::popen(command.c_str(), "r");
  std::array<char, 4096> buffer{};
  while (const size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    said.text.append(buffer.data(), got);
  }
  said.ok = ::pclose(pipe) == 0;
  return said;
}

std::string shown(const Extent& extent) {
  std::string line;
  for (uint64_t number :
       {uint64_t{extent.volume.value}, extent.offset, extent.length, uint64_t{extent.zero},
        extent.sequence.value, extent.segment, extent.place, extent.skip}) {
    line += std::to_string(number) + " ";
  }
  return line + to_hex(std::as_bytes(std::span(extent.leaf))) + "\n";
}

TEST(SecondReader, finds_what_was_written) {
  if (std::getenv("HOLDFAST_SOURCE") == nullptr) GTEST_SKIP() << "HOLDFAST_SOURCE is not set";
  std::string pattern = (std::filesystem::temp_directory_path() / "hf-map-XXXXXX").string();
  const int file = ::mkstemp(pattern.data());
  ASSERT_GE(file, 0);
  const auto store = [&](const Bytes& bytes) {
    ASSERT_EQ(::ftruncate(file, 0), 0);
    ASSERT_EQ(::pwrite(file, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  };
  for (const uint64_t cell : {uint64_t{1}, uint64_t{4096}}) {
    TestLine line(cell, {.cells = 20'000,
                         .cell = cell,
                         .records_per_segment = 3000,
                         .length_max = 30,
                         .checkpoint_every = 10'000});
    while (line.closed < 8) line.write_record();
    const Table* map = line.maps.at({.a = 0, .b = 8});
    const Bytes& bytes = line.files.files[map->number];
    store(bytes);
    MapSource source(*map, line.files.cache);
    const std::vector<Extent> extents = *line.files.all(source);
    std::string all, some;
    const Range range{.offset = 500 * cell, .length = 40 * cell};
    for (const Extent& extent : extents) {
      all += shown(extent);
      const bool touches = extent.volume == VolumeId(1) && extent.offset < range.end() &&
                           extent.end() > range.offset;
      if (touches) some += shown(extent);
    }
    EXPECT_EQ(read_with_python(pattern).text, all);
    const Said part = read_with_python(pattern + " 1 " + std::to_string(range.offset) + " " +
                                       std::to_string(range.length));
    EXPECT_EQ(part.text, some);
    Bytes bad = bytes;
    bad[line.rng.below(bad.size())] ^= std::byte{4};
    store(bad);
    EXPECT_FALSE(read_with_python(pattern).ok);
  }
  ::close(file);
  std::filesystem::remove(pattern);
}

}  // namespace
}  // namespace hf::journal
