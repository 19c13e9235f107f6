#include "launcher/tree/state_tree.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <ranges>

#include "launcher/tree/tree_walk.h"
#include "sys/process.h"

namespace hf::launcher {
namespace {

constexpr size_t kPidFileMax = 256;
constexpr off_t kRoom = off_t{1} << 20;
constexpr off_t kRoomShare = kRoom / 16;
constexpr std::string_view kCatalog = "daemon/catalog.sqlite";  // control/core/paths.h

// Refused before anything is changed or started.
Error refused(ErrorCode code, std::string cause, std::string mend) {
  return Error{.code = code,
               .cause = std::move(cause),
               .effect = "nothing was started and nothing was changed",
               .mend = std::move(mend)};
}

std::string octal(mode_t mode) {
  std::string text = "0000";
  for (size_t i = 4; i-- > 0; mode >>= 3) text[i] = static_cast<char>('0' + (mode & 7));
  return text;
}

// As chown(1) takes it also where passwd does not know the user. Each user has a group of the same
// number, but for the launcher's own.
std::string owner_words(uid_t owner) {
  gid_t group = owner == ::geteuid() ? ::getegid() : owner;
  return std::to_string(owner) + ":" + std::to_string(group);
}

// What must be true of one directory of the tree; `forbidden` are mode bits.
Status check_directory(int root, const std::string& base, const std::string& relative, uid_t owner,
                       mode_t forbidden) {
  std::string full = relative == "." ? base : base + "/" + relative;
  auto fd = open_beneath(root, relative, O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) {
    return refused(fd.error().code, full + " cannot be opened: " + fd.error().cause,
                   relative == "." ? "see that it is a directory"
                                   : "put " + full + " back from a backup of it");
  }
  struct stat status{};
  if (::fstat(fd->get(), &status) != 0) return errno_error(errno, "look at " + full);
  if (status.st_uid != owner) {
    return refused(ErrorCode::kPermission,
                   full + " belongs to user " + std::to_string(status.st_uid) + ", not to user " +
                       std::to_string(owner),
                   sys::root_command("chown -R " + owner_words(owner) + " " + full));
  }
  if ((status.st_mode & forbidden) != 0) {
    bool readable = (forbidden & 055) != 0;
    return refused(ErrorCode::kPermission,
                   full + " is open to other users (mode " + octal(status.st_mode & 07777) + ")",
                   "chmod " + std::string(readable ? "0700 " : "go-w ") + full);
  }
  return {};
}

// Every user has to reach the tree.
Status check_reachable(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    std::string ancestor = path.substr(0, slash);
    struct stat status{};
    if (::stat(ancestor.c_str(), &status) == 0 && (status.st_mode & S_IXOTH) == 0) {
      return refused(ErrorCode::kPermission,
                     ancestor + " cannot be entered by the users the VMs run as",
                     "chmod o+x " + ancestor);
    }
  }
  return {};
}

std::string file_of(std::string_view path) {
  return std::string(path.substr(path.find_last_of('/') + 1));
}

// The whole site is that user's, or should be: nothing is given away for a start.
Error another_users(const std::string& path, uid_t owner) {
  const std::string as = owner == 0 ? "sudo " : "sudo -u '#" + std::to_string(owner) + "' ";
  return refused(ErrorCode::kPermission,
                 "the site in " + path + " is user " + std::to_string(owner) +
                     "'s, and this is user " + std::to_string(::geteuid()),
                 as + "holdfast --state " + path + " site start");
}

Error no_site(const std::string& path) {
  struct stat status{};
  if (::lstat((path + "/vault").c_str(), &status) == 0) {
    return refused(ErrorCode::kNotFound,
                   path + " holds a site's parts, and its site.json is missing",
                   "put " + path + "/site.json back from a backup of it");
  }
  return refused(ErrorCode::kNotFound, path + " is not the state directory of a site",
                 "holdfast --state " + path + " site init --name NAME");
}

}  // namespace

bool plain_file_name(std::string_view name) {
  auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
  };
  return !name.empty() && name.size() <= 40 && name.front() != '.' &&
         std::ranges::all_of(name, allowed);
}

Status check_socket_path(VmId vm, std::string_view path) {
  std::string prefix = "run/vms/" + vm.hex() + "/";
  if (path.starts_with(prefix) && plain_file_name(path.substr(prefix.size()))) return {};
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "the socket path \"" + std::string(path) + "\" is not " + prefix + "FILE"};
}

Result<StateTree> StateTree::open(const std::string& path) {
  std::unique_ptr<char, decltype(&::free)> real(::realpath(path.c_str(), nullptr), &::free);
  if (real == nullptr) return no_site(path);
  StateTree tree;
  tree.path_ = real.get();
  tree.root_.reset(::open(tree.path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!tree.root_) return errno_error(errno, "open " + tree.path_);
  auto file = open_beneath(tree.root_.get(), "site.json", O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file.ok()) {
    if (file.error().code == ErrorCode::kNotFound) return no_site(tree.path_);
    return std::move(file).error().with_effect("nothing was started");
  }
  struct stat status{};
  if (::fstat(file->get(), &status) != 0) return errno_error(errno, "look at site.json");
  if (S_ISREG(status.st_mode) && status.st_uid != ::geteuid())
    return another_users(tree.path_, status.st_uid);
  if (!S_ISREG(status.st_mode) || (status.st_mode & 022) != 0) {
    return refused(
        ErrorCode::kPermission,
        tree.path_ + "/site.json can be written by others than user " + std::to_string(::geteuid()),
        "after a look at what it says: chmod 0644 " + tree.path_ + "/site.json");
  }
  Bytes text = TRY_CONTEXT(sys::read_all(file->get(), size_t{64} << 10), "site.json");
  auto site = parse_site_config(as_text(text));
  if (!site.ok()) {
    // One of another build says itself what to do.
    if (site.error().code == ErrorCode::kUnsupported) return std::move(site).error();
    Error error = std::move(site).error();
    error.cause = tree.path_ + "/site.json: " + error.cause;
    return std::move(error)
        .with_effect("nothing was started and nothing was changed")
        .with_mend("restore site.json from a backup, or correct it");
  }
  tree.site_ = std::move(*site);
  tree.users_ = Users{.uid_base = tree.site_.uid_base, .self = ::geteuid()};
  TRY(tree.check());
  return tree;
}

Status StateTree::check() const {
  TRY(check_directory(root_.get(), path_, ".", users_.self, 022));
  if (users_.uid_base != 0) {
    if (::geteuid() != 0) {
      return refused(ErrorCode::kPermission,
                     "the site uses separate users (uid_base " + std::to_string(users_.uid_base) +
                         "), and the launcher is not root",
                     "sudo holdfast --state " + path_ + " site start");
    }
    TRY(check_reachable(path_ + "/."));
  }
  TRY(check_directory(root_.get(), path_, "vault", users_.vault(), 077));
  TRY(check_directory(root_.get(), path_, "daemon", users_.daemon(), 077));
  auto vms = open_beneath(root_.get(), "vms", O_RDONLY | O_DIRECTORY);
  if (!vms.ok()) return {};  // none yet
  return check_directory(root_.get(), path_, "vms", users_.self, 022);
}

// Only when this VM is to start: what is wrong with one VM's directories stops no other.
Status StateTree::check_vm(VmId vm, uid_t keeper) const {
  for (const std::string& name : {"vms/" + vm.hex(), "vms/" + vm.hex() + "/journal"}) {
    auto directory = open_beneath(root_.get(), name, O_RDONLY | O_DIRECTORY);
    if (!directory.ok() && directory.error().code == ErrorCode::kNotFound) return {};
    // Made by a launcher that died before it gave it away: ensure_directory() takes it over.
    bool given =
        users_.uid_base == 0 || !directory.ok() || !TRY(is_own_and_empty(directory->get()));
    if (!given) continue;
    Status good = check_directory(root_.get(), path_, name, keeper, 077);
    if (good.ok()) continue;
    Error error = std::move(good).error();
    error.effect = "the VM was not started";
    return error;
  }
  return {};
}

struct stat StateTree::directory_status() const {
  struct stat status{};
  HF_ASSERT(::fstat(root_.get(), &status) == 0);
  return status;
}

Result<sys::UniqueFd> StateTree::open_dir(const std::string& relative) const {
  return open_beneath(root_.get(), relative, O_RDONLY | O_DIRECTORY);
}

Result<sys::UniqueFd> StateTree::lock() {
  gid_t group = ::getegid();
  auto run = TRY(ensure_directory(root_.get(), "run", {users_.self, group, shared_mode()}));
  auto fd = TRY(open_beneath(run.get(), "lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_error(errno, "lock " + path_ + "/run/lock");
    Bytes holder = TRY(sys::read_all(fd.get(), kPidFileMax));
    std::string pid(as_text(holder));
    return Error{.code = ErrorCode::kConflict,
                 .cause = "the site in " + path_ + " runs already (launcher: process " + pid + ")",
                 .effect = "nothing was started; it runs on",
                 .mend = "holdfast --state " + path_ +
                         " site show says how it is, and site restart " + "renews its processes"};
  }
  std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd.get(), 0) != 0) return errno_error(errno, "write run/lock");
  TRY(sys::pwrite_all(fd.get(), 0, as_bytes(pid)));
  return fd;
}

Status StateTree::prepare() {
  gid_t group = ::getegid();
  mode_t shared = shared_mode();
  auto run = TRY(ensure_directory(root_.get(), "run", {users_.self, group, shared}));
  TRY(remove_tree(run.get(), "new"));
  TRY(ensure_directory(run.get(), "new", {users_.self, group, 0700}));
  TRY(ensure_directory(run.get(), "log", {users_.self, group, 0700}));
  TRY(ensure_directory(run.get(), "pids", {users_.self, group, 0700}));
  TRY(ensure_directory(run.get(), "vms", {users_.self, group, shared}));
  TRY(ensure_directory(root_.get(), "vms", {users_.self, group, shared}));
  keep_room();
  return {};
}

// A file that takes the space of what has to be written to free space: where its disk is full, a
// part of it is given up for that. Best effort, now and when something is removed: a process's note
// is, when it has ended.
void StateTree::keep_room() const {
  auto room = open_beneath(root_.get(), "run/room", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  struct stat status{};
  if (!room.ok() || ::fstat(room->get(), &status) != 0) return;
  for (off_t size = status.st_size; size < kRoom; size += kRoomShare) {
    if (::posix_fallocate(room->get(), size, kRoomShare) != 0) return;
  }
}

bool StateTree::spend_room() const {
  auto room = open_beneath(root_.get(), "run/room", O_RDWR | O_NOFOLLOW);
  struct stat status{};
  return room.ok() && ::fstat(room->get(), &status) == 0 && status.st_size >= kRoomShare &&
         ::ftruncate(room->get(), status.st_size - kRoomShare) == 0;
}

// holdfastd makes the catalog at its first start, when there is no VM yet.
Status StateTree::check_catalog() const {
  constexpr size_t kNamed = 8;
  struct stat status{};
  const bool is_there =
      ::fstatat(root_.get(), std::string(kCatalog).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
  if (is_there && status.st_size > 0) return {};
  if (!is_there && errno != ENOENT) return errno_error(errno, "look at " + std::string(kCatalog));
  auto vms = TRY(open_dir("vms"));
  std::vector<std::string> names = TRY(list_directory(vms.get()));
  std::erase_if(names, [](const std::string& name) { return !VmId::parse_hex(name).ok(); });
  if (names.empty()) return {};
  std::string list;
  for (const std::string& name : names | std::views::take(kNamed)) {
    list += (list.empty() ? "" : ", ") + name;
  }
  if (names.size() > kNamed) list += " and " + std::to_string(names.size() - kNamed) + " more";
  return Error{
      .code = ErrorCode::kCorrupt,
      .cause = path_ + "/" + std::string(kCatalog) + ", where the site's VMs are listed, is " +
               (is_there ? "empty" : "not there") + ", but " + path_ + "/vms has " +
               (names.size() == 1 ? "a VM" : std::to_string(names.size()) + " VMs") + ": " + list,
      .effect =
          "holdfastd is not started: it would take the site for a new one, forget "
          "these VMs and give their users to others; nothing was changed",
      .mend = "bring " + path_ + "/daemon back from a backup; or, to give these VMs up: mv " +
              path_ + "/vms " + path_ + "/vms.given-up; then: holdfast --state " + path_ +
              " site start"};
}

Status StateTree::refuse_shared_user(uid_t keeper, VmId vm) const {
  if (users_.uid_base == 0) return {};
  auto vms = TRY(open_dir("vms"));
  for (const std::string& name : TRY(list_directory(vms.get()))) {
    struct stat status{};
    if (::fstatat(vms.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (status.st_uid == keeper && name != vm.hex()) {
      return Error{.code = ErrorCode::kConflict,
                   .cause = "user " + std::to_string(keeper) + " belongs to VM " + name,
                   .effect = "VM " + vm.hex() + " was not started",
                   .mend = "give the VM a number of its own"};
    }
  }
  return {};
}

Status StateTree::prepare_vm(VmId vm, uint32_t vm_number) {
  uid_t keeper = users_.keeper(vm_number);
  gid_t group = users_.uid_base == 0 ? ::getegid() : keeper;
  TRY(refuse_shared_user(keeper, vm));
  TRY(check_vm(vm, keeper));
  auto vms = TRY(open_dir("vms"));
  auto state = TRY_CONTEXT(ensure_directory(vms.get(), vm.hex(), {keeper, group, 0700}), "vms");
  TRY(ensure_directory(state.get(), "journal", {keeper, group, 0700}));
  auto runs = TRY(open_dir("run/vms"));
  // The launcher's alone, so that nobody puts a link or a socket of his own where the daemon or
  // another process of the VM looks for one. They pass through it.
  TRY_CONTEXT(ensure_directory(runs.get(), vm.hex(), {users_.self, ::getegid(), shared_mode()}),
              "run/vms");
  return {};
}

Result<StateTree::Listener> StateTree::make_socket(int target_dir, const std::string& file,
                                                   uid_t owner, gid_t group, mode_t mode,
                                                   int type) {
  auto workshop = TRY(open_dir("run/new"));
  (void)::unlinkat(workshop.get(), file.c_str(), 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = "/proc/self/fd/" + std::to_string(workshop.get()) + "/" + file;
  HF_ASSERT(path.size() < sizeof address.sun_path);
  std::memcpy(static_cast<char*>(address.sun_path), path.data(), path.size());
  sys::UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!fd) return errno_error(errno, "make a socket");
  if (::fchmod(fd.get(), mode) != 0) return errno_error(errno, "set the mode of a socket");
  mode_t old_umask = ::umask(0);
  int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  int bind_errno = errno;
  ::umask(old_umask);
  if (bound != 0) return errno_error(bind_errno, "bind the socket " + file);
  if (::listen(fd.get(), 64) != 0) return errno_error(errno, "listen at " + file);
  struct stat status{};
  if (::fstatat(workshop.get(), file.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno_error(errno, "look at the socket " + file);
  }
  if ((status.st_uid != owner || status.st_gid != group) &&
      ::fchownat(workshop.get(), file.c_str(), owner, group, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno_error(errno, "change the owner of the socket " + file);
  }
  if (::renameat(workshop.get(), file.c_str(), target_dir, file.c_str()) != 0) {
    return errno_error(errno, "put the socket " + file + " in place");
  }
  return Listener{.fd = std::move(fd), .file = {.device = status.st_dev, .inode = status.st_ino}};
}

Result<StateTree::Listener> StateTree::listen(VmId vm, uint32_t vm_number,
                                              const SocketSpec& socket) {
  TRY(check_socket_path(vm, socket.path));
  auto directory = TRY(open_dir("run/vms/" + vm.hex()));
  bool separate = users_.uid_base != 0;
  uid_t keeper = users_.keeper(vm_number);
  if (socket.access == SocketAccess::kDaemon) {
    gid_t group = separate ? users_.daemon() : ::getegid();
    return make_socket(directory.get(), file_of(socket.path), users_.daemon(), group, 0600);
  }
  // One user for all: his group's other members are nobody here.
  if (!separate) {
    return make_socket(directory.get(), file_of(socket.path), users_.self, ::getegid(), 0600);
  }
  return make_socket(directory.get(), file_of(socket.path), keeper, keeper, 0660);
}

void StateTree::unlink_socket(VmId vm, const SocketSpec& socket, FileId file) {
  auto directory = open_dir("run/vms/" + vm.hex());
  if (!directory.ok()) return;
  const std::string name = file_of(socket.path);
  struct stat status{};
  if (::fstatat(directory->get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return;
  // Nobody but the launcher makes anything here: it stays what it is until it is unlinked.
  if (FileId{.device = status.st_dev, .inode = status.st_ino} != file) return;
  (void)::unlinkat(directory->get(), name.c_str(), 0);
}

Result<sys::UniqueFd> StateTree::listen_core(const std::string& name, uid_t owner, mode_t mode,
                                             int type, std::optional<gid_t> group) {
  auto run = TRY(open_dir("run"));
  if (users_.uid_base == 0)
    return TRY(make_socket(run.get(), name, owner, ::getegid(), mode & 0600, type)).fd;
  return TRY(make_socket(run.get(), name, owner, group.value_or(owner), mode, type)).fd;
}

Status StateTree::remove_vm(VmId vm, const std::atomic<bool>& stop) const {
  auto vms = TRY(open_dir("vms"));
  TRY_CONTEXT(remove_tree(vms.get(), vm.hex(), &stop), "remove the VM's state");
  auto runs = TRY(open_dir("run/vms"));
  TRY_CONTEXT(remove_tree(runs.get(), vm.hex(), &stop), "remove the VM's sockets");
  // Whoever hears of it gives the VM's users to another one.
  if (::fsync(vms.get()) != 0) return errno_error(errno, "sync vms/ after removing a VM");
  keep_room();
  return {};
}

Status StateTree::set_aside(VmId vm, const std::string& name) const {
  auto directory = open_dir("vms/" + vm.hex());
  if (!directory.ok() && directory.error().code == ErrorCode::kNotFound) return {};
  const sys::UniqueFd source = TRY(std::move(directory));
  auto asides =
      TRY(ensure_directory(root_.get(), "aside", {users_.self, ::getegid(), shared_mode()}));
  const int moved =
      ::renameat2(source.get(), "journal", asides.get(), name.c_str(), RENAME_NOREPLACE);
  if (moved != 0 && errno == ENOENT) return {};
  if (moved != 0 && errno != EEXIST)
    return errno_error(errno, "move vms/" + vm.hex() + "/journal to aside/" + name);
  // Whoever has the VM's user one day is none of its.
  auto kept = TRY(open_beneath(asides.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (::fchown(kept.get(), users_.self, ::getegid()) != 0 || ::fchmod(kept.get(), 0700) != 0)
    return errno_error(errno, "take aside/" + name + " over");
  if (::fsync(kept.get()) != 0 || ::fsync(asides.get()) != 0 || ::fsync(source.get()) != 0)
    return errno_error(errno, "sync aside/" + name);
  return {};
}

Status StateTree::write_pid_file(const std::string& unit, std::string_view text) {
  Status written = try_pid_file(unit, text);
  while (!written.ok() && written.error().code == ErrorCode::kNoSpace && spend_room())
    written = try_pid_file(unit, text);
  if (written.ok()) return written;
  return std::move(written)
      .error()
      .context("note the process in " + path_ + "/run/pids")
      .with_effect("it was not started: a launcher that starts anew would not find it");
}

Status StateTree::try_pid_file(const std::string& unit, std::string_view text) {
  // Whole or not there: a launcher that dies here must not lose a process from sight.
  auto pids = TRY(open_dir("run/pids"));
  auto workshop = TRY(open_dir("run/new"));
  std::string fresh = unit + ".pid";
  auto fd = TRY(open_beneath(workshop.get(), fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  TRY(sys::pwrite_all(fd.get(), 0, as_bytes(text)));
  if (::renameat(workshop.get(), fresh.c_str(), pids.get(), unit.c_str()) != 0) {
    return errno_error(errno, "write run/pids/" + unit);
  }
  return {};
}

void StateTree::remove_pid_file(const std::string& unit) {
  auto pids = open_dir("run/pids");
  if (pids.ok()) (void)::unlinkat(pids->get(), unit.c_str(), 0);
  keep_room();
}

Result<std::vector<std::pair<std::string, std::string>>> StateTree::read_pid_files() {
  auto pids = TRY(open_dir("run/pids"));
  std::vector<std::pair<std::string, std::string>> files;
  for (const std::string& name : TRY(list_directory(pids.get()))) {
    auto fd = open_beneath(pids.get(), name, O_RDONLY | O_NOFOLLOW);
    if (!fd.ok()) continue;
    auto text = sys::read_all(fd->get(), kPidFileMax);
    if (text.ok()) files.emplace_back(name, std::string(as_text(*text)));
  }
  return files;
}

Result<sys::UniqueFd> StateTree::open_log(const std::string& unit, size_t bytes_max) {
  auto logs = TRY(open_dir("run/log"));
  std::string name = unit + ".log";
  struct stat status{};
  if (::fstatat(logs.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
      static_cast<size_t>(status.st_size) > bytes_max) {
    (void)::renameat(logs.get(), name.c_str(), logs.get(), (name + ".old").c_str());
  }
  return open_beneath(logs.get(), name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
}

}  // namespace hf::launcher
