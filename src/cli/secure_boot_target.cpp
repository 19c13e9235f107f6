#include "cli/secure_boot_target.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>

namespace hf::cli {
namespace {

namespace sb = secure_boot;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};

Micros now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return Micros(
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(since).count()));
}

class FileTarget final : public SecureBootTarget {
 public:
  explicit FileTarget(std::string path) : path_(std::move(path)) {}

  Result<sb::SecureBootVariables> read() override {
    return sb::secure_boot_variables(TRY(store()));
  }

  Result<std::vector<sb::ChangeResult>> apply(std::span<const sb::Change> changes) override {
    for (const sb::Change& change : changes) TRY(sb::check(change));
    sb::VariableStore edited = TRY(store());
    auto results = TRY(sb::apply_changes(edited, changes, sb::EfiTime::from(now())));
    TRY(replace_file(path_, edited.image()));
    return results;
  }

 private:
  static constexpr size_t kStoreBytesMax = size_t{16} << 20;

  Result<sb::VariableStore> store() const {
    const Bytes image = TRY(read_file(path_, kStoreBytesMax));
    return TRY_CONTEXT(sb::VariableStore::parse(image), path_);
  }
  std::string path_;
};

}  // namespace

Result<Bytes> read_file(const std::string& path, size_t bytes_max) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.ok()) return errno_error(errno, path).with_mend("ls -l " + path);
  struct stat facts{};
  if (::fstat(file.get(), &facts) != 0) return errno_error(errno, path);
  if (!S_ISREG(facts.st_mode)) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = path + " is no file"};
  }
  if (static_cast<uint64_t>(facts.st_size) > bytes_max) {
    return Error{
        .code = ErrorCode::kLimit,
        .cause = fmt::format("{} has {} bytes; the limit is {}", path, facts.st_size, bytes_max)};
  }
  Bytes bytes(static_cast<size_t>(facts.st_size));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error(errno, path);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

Status replace_file(const std::string& path, ByteSpan bytes) {
  std::error_code unused;
  const std::filesystem::path real = std::filesystem::weakly_canonical(path, unused);
  const std::string target = real.empty() ? path : real.string();
  std::string beside = target + ".XXXXXX";
  const Descriptor file(::mkostemp(beside.data(), O_CLOEXEC));
  if (!file.ok()) return errno_error(errno, "write beside " + target);
  const auto fail = [&](std::string_view doing) {
    Error error = errno_error(errno, std::string(doing) + " " + beside);
    ::unlink(beside.c_str());
    return std::move(error).with_effect(target + " is as it was");
  };
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t put = ::write(file.get(), bytes.data() + done, bytes.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail("write");
    done += static_cast<size_t>(put);
  }
  struct stat facts{};
  if (::stat(target.c_str(), &facts) == 0) {
    // Another owner's file stays another owner's, where the caller may do that at all.
    if (::fchown(file.get(), facts.st_uid, facts.st_gid) != 0 && errno != EPERM) return fail("own");
    if (::fchmod(file.get(), facts.st_mode & 07777) != 0) return fail("set the mode of");
  } else if (::fchmod(file.get(), 0644) != 0) {
    return fail("set the mode of");
  }
  if (::fsync(file.get()) != 0) return fail("sync");
  if (::rename(beside.c_str(), target.c_str()) != 0) return fail("rename");
  return {};
}

Result<std::unique_ptr<SecureBootTarget>> open_secure_boot_target(const Context& context,
                                                                  const std::string& name) {
  std::error_code unused;
  if (name.find('/') != std::string::npos || std::filesystem::exists(name, unused)) {
    return std::unique_ptr<SecureBootTarget>(new FileTarget(name));
  }
  return vm_secure_boot_target(context, name);
}

}  // namespace hf::cli
