#include "launcher/process/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <sstream>

namespace hf::launcher {
namespace {

constexpr size_t kFileMax = size_t{64} << 10;
constexpr std::string_view kPidsMax = "2048";  // 255 vCPUs, and QEMU's and the keeper's workers

std::string read_file(int directory, const char* name) {
  sys::UniqueFd fd(::openat(directory, name, O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 4096> buffer{};
  while (fd && text.size() < kFileMax) {
    ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<size_t>(got));
  }
  return text;
}

bool write_file(int directory, const char* name, std::string_view text) {
  sys::UniqueFd fd(::openat(directory, name, O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

sys::UniqueFd open_directory(int parent, const std::string& name) {
  return sys::UniqueFd(
      ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
}

// Where version 2 is mounted; empty: nowhere. Field 5 of mountinfo, the type after " - ".
std::string mount_point() {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    size_t type = line.find(" - cgroup2 ");
    if (type == std::string::npos) continue;
    std::istringstream fields(line);
    std::string id, parent, device, root, point;
    fields >> id >> parent >> device >> root >> point;
    return point;
  }
  return {};
}

// The launcher's own, below the mount point: "0::/system.slice/holdfast.service".
std::string own_group() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::/")) return line.substr(4);
  }
  return {};
}

bool delegated(int directory) {
  char value = 0;
  for (const char* name : {"user.delegate", "trusted.delegate"}) {
    if (::fgetxattr(directory, name, &value, 1) == 1 && value == '1') return true;
  }
  return false;
}

bool has_word(std::string_view words, std::string_view word) {
  std::istringstream stream{std::string(words)};
  for (std::string one; stream >> one;) {
    if (one == word) return true;
  }
  return false;
}

}  // namespace

Status Cgroup::kill() {
  if (write_file(directory_.get(), "cgroup.kill", "1")) return {};
  // Before 5.14 one by one; what they fork meanwhile is met by the next call.
  std::istringstream pids(read_file(directory_.get(), "cgroup.procs"));
  for (pid_t pid = 0; pids >> pid;) {
    if (pid > 1) (void)::kill(pid, SIGKILL);
  }
  return {};
}

bool Cgroup::empty() const {
  return read_file(directory_.get(), "cgroup.events").find("populated 1") == std::string::npos;
}

SiteCgroup SiteCgroup::none(const std::string& why) {
  SiteCgroup site;
  site.missing_.push_back("control groups (version 2) " + why +
                          ": what a VM's process forks is looked for when it ends, and memory of "
                          "guests and keepers may be swapped");
  return site;
}

SiteCgroup SiteCgroup::open(const struct stat& state_directory) {
  SiteCgroup site;
  std::string mount = mount_point();
  if (mount.empty()) return none("are not mounted");
  sys::UniqueFd top(::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  sys::UniqueFd own = open_directory(top.get(), own_group().empty() ? "." : own_group());
  bool ours = own && delegated(own.get());
  if (ours) {
    // Controllers are handed on only by a group without processes of its own.
    (void)::mkdirat(own.get(), "launcher", 0755);
    sys::UniqueFd leaf = open_directory(own.get(), "launcher");
    if (leaf) (void)write_file(leaf.get(), "cgroup.procs", "0");
    (void)write_file(own.get(), "cgroup.subtree_control", "+memory");
    (void)write_file(own.get(), "cgroup.subtree_control", "+pids");
  }
  sys::UniqueFd& parent = ours ? own : top;
  std::string name = "holdfast-" + std::to_string(state_directory.st_dev) + "-" +
                     std::to_string(state_directory.st_ino);
  if (!parent || (::mkdirat(parent.get(), name.c_str(), 0755) != 0 && errno != EEXIST)) {
    return none("may not be written");
  }
  site.directory_ = open_directory(parent.get(), name);
  if (!site.directory_ || ::faccessat(site.directory_.get(), "cgroup.procs", W_OK, 0) != 0) {
    return none("may not be written");
  }
  site.parent_ = std::move(parent);
  site.name_ = name;
  site.enable_controllers();
  return site;
}

void SiteCgroup::enable_controllers() {
  (void)write_file(directory_.get(), "cgroup.subtree_control", "+memory");
  (void)write_file(directory_.get(), "cgroup.subtree_control", "+pids");
  std::string enabled = read_file(directory_.get(), "cgroup.subtree_control");
  swap_ = has_word(enabled, "memory");
  pids_ = has_word(enabled, "pids");
  if (!swap_) {
    missing_.emplace_back(
        "the memory controller of version 2 is not to be had: memory of guests and keepers may be "
        "swapped");
  }
  if (!pids_) {
    missing_.emplace_back(
        "the pids controller of version 2 is not to be had: a VM's process may fork without limit");
  }
}

Result<Cgroup> SiteCgroup::find(const std::string& unit) {
  Cgroup group;
  group.directory_ = open_directory(directory_.get(), unit);
  if (!group.directory_) return errno_error(errno, "open the control group of " + unit);
  return group;
}

Result<Cgroup> SiteCgroup::make(const std::string& unit) {
  // One of an earlier process: where nothing is left in it, another takes its place.
  remove(unit);
  bool made = ::mkdirat(directory_.get(), unit.c_str(), 0755) == 0;
  if (!made && errno != EEXIST) return errno_error(errno, "make the control group of " + unit);
  Cgroup group = TRY(find(unit));
  group.fresh_ = made;
  if (!made) TRY(group.kill());
  if (swap_ && ::faccessat(group.directory_.get(), "memory.swap.max", F_OK, 0) == 0 &&
      !write_file(group.directory_.get(), "memory.swap.max", "0")) {
    return errno_error(errno, "forbid swapping to " + unit);
  }
  if (pids_ && !write_file(group.directory_.get(), "pids.max", kPidsMax)) {
    return errno_error(errno, "limit the processes of " + unit);
  }
  return group;
}

void SiteCgroup::remove_site() {
  if (usable()) (void)::unlinkat(parent_.get(), name_.c_str(), AT_REMOVEDIR);
}

void SiteCgroup::remove(const std::string& unit) {
  (void)::unlinkat(directory_.get(), unit.c_str(), AT_REMOVEDIR);
}

}  // namespace hf::launcher
