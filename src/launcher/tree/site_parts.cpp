#include "launcher/tree/site_parts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "launcher/tree/tree_walk.h"
#include "sys/process.h"

namespace hf::launcher {
namespace {

constexpr std::array<std::string_view, 4> kSiteParts{"daemon", "site.json", "vault", "vms"};

Error refused(ErrorCode code, std::string cause, std::string mend) {
  return Error{.code = code,
               .cause = std::move(cause),
               .effect = "no site was made",
               .mend = std::move(mend)};
}

Error failed(int error_number, const std::string& doing) {
  Error error = errno_error(error_number, doing).with_effect("no site was made");
  if (error.mend.empty()) error.mend = "mend that, or choose another directory with --state";
  return error;
}

std::string parent_of(const std::string& path) {
  size_t slash = path.find_last_of('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

std::string octal(mode_t mode) {
  std::array<char, 8> text{};
  (void)std::snprintf(text.data(), text.size(), "%04o", static_cast<unsigned>(mode & 07777));
  return text.data();
}

}  // namespace

SiteParts::SiteParts(SiteParts&& other) noexcept
    : path_(std::move(other.path_)),
      root_(std::move(other.root_)),
      made_(std::exchange(other.made_, {})),
      made_parents_(std::exchange(other.made_parents_, {})),
      kept_(other.kept_) {}

SiteParts::~SiteParts() {
  if (kept_) return;
  for (auto at = made_.rbegin(); at != made_.rend(); ++at) {
    size_t slash = at->find_last_of('/');
    std::string directory = slash == std::string::npos ? "." : at->substr(0, slash);
    std::string name = slash == std::string::npos ? *at : at->substr(slash + 1);
    auto parent = open_beneath(root_.get(), directory, O_RDONLY | O_DIRECTORY);
    if (!parent.ok()) continue;
    if (::unlinkat(parent->get(), name.c_str(), 0) == 0) continue;
    (void)remove_tree(parent->get(), name);
  }
  // rmdir: what somebody else has put there meanwhile stays, and the directory with it.
  for (auto at = made_parents_.rbegin(); at != made_parents_.rend(); ++at) ::rmdir(at->c_str());
}

// Like `mkdir -p`, but with a memory of what it made.
Status SiteParts::make_state(const std::string& state) {
  std::vector<std::string> missing;
  struct stat status{};
  std::string path = state;
  // A link that leads nowhere is there: mkdir() below refuses it.
  for (; ::lstat(path.c_str(), &status) != 0; path = parent_of(path)) {
    if (errno != ENOENT || path == "/") return failed(errno, "look at " + path);
    missing.push_back(path);
  }
  for (auto at = missing.rbegin(); at != missing.rend(); ++at) {
    if (::mkdir(at->c_str(), 0755) != 0) return failed(errno, "make " + *at);
    made_parents_.push_back(*at);
    // Whatever the umask: the site's users pass through.
    if (::chmod(at->c_str(), 0755) != 0) return failed(errno, "set the mode of " + *at);
  }
  return {};
}

Result<SiteParts> SiteParts::begin(const std::string& state, bool shared) {
  HF_ASSERT(state.starts_with('/'));
  SiteParts parts;
  TRY(parts.make_state(state));
  std::unique_ptr<char, decltype(&::free)> real(::realpath(state.c_str(), nullptr), &::free);
  if (real == nullptr) return failed(errno, "find " + state);
  parts.path_ = real.get();
  parts.root_.reset(::open(parts.path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!parts.root_) return failed(errno, "open " + state);
  TRY(parts.check_state(shared));
  return parts;
}

Status SiteParts::check_state(bool shared) const {
  for (const std::string& name : TRY(list_directory(root_.get()))) {
    if (name == "lost+found") continue;
    if (std::ranges::find(kSiteParts, name) != kSiteParts.end()) {
      bool whole = ::faccessat(root_.get(), "site.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
      return refused(ErrorCode::kExists, path_ + " holds a site or parts of one (" + name + ")",
                     whole ? "use it: holdfast --state " + path_ +
                                 " site start, or choose another directory with --state"
                           : "put site.json back from a backup of it, or choose another directory "
                             "with --state");
    }
    return refused(ErrorCode::kExists, path_ + " is not empty (" + name + ")",
                   "choose a directory that is empty or not there yet: holdfast --state " + path_ +
                       "/holdfast site init");
  }
  struct stat status{};
  if (::fstat(root_.get(), &status) != 0) return failed(errno, "look at " + path_);
  std::string self = std::to_string(::geteuid());
  if (status.st_uid != ::geteuid()) {
    return refused(
        ErrorCode::kPermission,
        path_ + " belongs to user " + std::to_string(status.st_uid) + ", not to user " + self,
        "choose another directory with --state, or give it to this user: " +
            sys::root_command("chown " + self + ":" + std::to_string(::getegid()) + " " + path_));
  }
  if ((status.st_mode & 022) != 0) {
    return refused(ErrorCode::kPermission,
                   path_ + " can be written by other users (mode " + octal(status.st_mode) + ")",
                   "chmod go-w " + path_);
  }
  if (shared && (status.st_mode & 001) == 0) {
    return refused(
        ErrorCode::kPermission,
        path_ + " cannot be entered by the site's users (mode " + octal(status.st_mode) + ")",
        "chmod 0755 " + path_);
  }
  return {};
}

Status SiteParts::make_directory(const std::string& name, mode_t mode, uid_t owner, gid_t group) {
  if (::mkdirat(root_.get(), name.c_str(), 0700) != 0) {
    return failed(errno, "make " + path_ + "/" + name);
  }
  made_.push_back(name);
  auto fd = open_beneath(root_.get(), name, O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) return std::move(fd).error().with_effect("no site was made");
  // The umask does not count here; a change of owner would clear bits of the mode.
  if (::fchown(fd->get(), owner, group) != 0 || ::fchmod(fd->get(), mode) != 0) {
    return failed(errno, "set owner and mode of " + path_ + "/" + name);
  }
  return {};
}

Status SiteParts::write_file(const std::string& name, mode_t mode, std::string_view text) {
  std::string fresh = name + ".new";
  auto file = open_beneath(root_.get(), fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file.ok()) return std::move(file).error().with_effect("no site was made");
  made_.push_back(fresh);
  TRY(sys::write_all(file->get(), as_bytes(text)));
  if (::fchmod(file->get(), mode) != 0 || ::fsync(file->get()) != 0) {
    return failed(errno, "write " + path_ + "/" + fresh);
  }
  if (::renameat2(root_.get(), fresh.c_str(), root_.get(), name.c_str(), RENAME_NOREPLACE) != 0) {
    return failed(errno, "write " + path_ + "/" + name);
  }
  made_.back() = name;
  if (::fsync(root_.get()) != 0) return failed(errno, "write " + path_ + "/" + name);
  return {};
}

}  // namespace hf::launcher
