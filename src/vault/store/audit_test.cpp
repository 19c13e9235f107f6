#include "vault/store/audit.h"

#include "vault/core/testing.h"

namespace hf::vault {
namespace {

using namespace testing;  // NOLINT

class AuditChain : public ::testing::Test {
 protected:
  AuditChain() : directory_path_(temp_.sub("vault")) {
    HF_ASSERT(::mkdir(directory_path_.c_str(), 0700) == 0);
    directory_ = std::make_unique<Directory>(std::move(Directory::open(directory_path_)).value());
  }
  std::string path() const { return directory_path_ + "/audit.log"; }
  std::string text() const { return std::string(as_text(read_file(path()))); }
  void append(int count) {
    AuditLog log = std::move(AuditLog::open(*directory_, clock_)).value();
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(log.append({.event = "test", .vm = vm_of(1), .uid = 1, .pid = 2}).ok());
    }
  }

  TempDir temp_;
  TestClock clock_;
  std::string directory_path_;
  std::unique_ptr<Directory> directory_;
};

TEST_F(AuditChain, lines_are_chained_across_restarts) {
  append(3);
  append(2);
  EXPECT_EQ(verify_audit_log(text())->lines, 5u);
}

TEST_F(AuditChain, any_changed_removed_or_swapped_line_breaks_the_chain) {
  append(4);
  const std::string whole = text();
  std::vector<std::string> lines;
  for (size_t at = 0; at < whole.size();) {
    const size_t end = whole.find('\n', at) + 1;
    lines.push_back(whole.substr(at, end - at));
    at = end;
  }
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_FALSE(verify_audit_log(lines[0] + lines[2] + lines[3]).ok());
  EXPECT_FALSE(verify_audit_log(lines[1] + lines[2] + lines[3]).ok());
  EXPECT_FALSE(verify_audit_log(lines[0] + lines[2] + lines[1] + lines[3]).ok());
  for (size_t at = 0; at < whole.size(); at += 11) {
    std::string altered = whole;
    altered[at] = static_cast<char>(altered[at] ^ 1);
    EXPECT_FALSE(verify_audit_log(altered).ok()) << at;
  }
}

// What is deleted to make space on a full disk is recorded first.
TEST_F(AuditChain, has_its_space_before_it_needs_it) {
  const auto room = [&] {
    struct stat status{};
    HF_ASSERT(::stat(path().c_str(), &status) == 0);
    return status.st_blocks * 512 - status.st_size;
  };
  AuditLog log = std::move(AuditLog::open(*directory_, clock_)).value();
  for (int i = 0; i < 5000; ++i) {
    ASSERT_GE(room(), off_t{256} << 10) << i;
    ASSERT_TRUE(log.append({.event = "test", .vm = vm_of(1), .uid = 1, .pid = 2}).ok());
  }
}

TEST_F(AuditChain, recovers_after_a_torn_line) {
  append(2);
  const std::string whole = text();
  fs::resize_file(path(), whole.size() - 20);
  append(1);
  const std::string now = text();
  EXPECT_NE(now.find("log_recovered"), std::string::npos);
  EXPECT_EQ(verify_audit_log(now)->lines, 3u);  // one whole, the recovery, the new one
  // Torn before the first line was whole.
  fs::resize_file(path(), 10);
  append(1);
  EXPECT_EQ(verify_audit_log(text())->lines, 2u);
}

}  // namespace
}  // namespace hf::vault
