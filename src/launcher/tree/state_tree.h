// The state directory as the launcher touches it: checks, directories, sockets.
//
// Everything is reached from the state directory's descriptor without following symbolic links
// (openat2, RESOLVE_NO_SYMLINKS), because parts of the tree belong to users the launcher does not
// trust. A socket is made and given its owner in a directory only the launcher can write
// (run/new), then renamed into place. Single thread, because making a socket changes the umask for
// a moment; only remove_vm(), which makes nothing, may run on another one meanwhile.
#pragma once

#include <sys/stat.h>

#include <sys/socket.h>

#include <atomic>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "launcher/protocol/protocol.h"
#include "launcher/protocol/site_config.h"
#include "sys/fd.h"

namespace hf::launcher {

class StateTree {
 public:
  // Reads site.json and checks owners and modes of what the site as a whole has; each VM's are
  // checked when it starts. Changes nothing. An error has cause, effect and the mending command.
  static Result<StateTree> open(const std::string& path);

  const SiteConfig& site() const { return site_; }
  const Users& users() const { return users_; }
  const std::string& path() const { return path_; }  // absolute
  struct stat directory_status() const;              // STATE's own

  // STATE/run/lock. kConflict names the holder's pid. Held until the descriptor is closed.
  Result<sys::UniqueFd> lock();
  // Keeps some room back for a full disk. Makes run/, run/log, run/pids, run/new, run/vms, vms;
  // removes what a dead launcher left.
  Status prepare();
  // kCorrupt: holdfastd's catalog is lost, so that it would take the site for a new one, and there
  // are VMs.
  Status check_catalog() const;

  // vms/<vm> and vms/<vm>/journal for the keeper's user; run/vms/<vm>, in which only the launcher
  // makes anything. Their names are durable: what a keeper stores there is found again.
  // kConflict if the user belongs to another VM; kPermission, with the mend, if the directories are
  // another user's or open to others. A launcher that died in it is carried on.
  Status prepare_vm(VmId vm, uint32_t vm_number);
  // Which file it is, whatever has its name: unique for as long as its socket is open.
  struct FileId {
    dev_t device = 0;
    ino_t inode = 0;
    bool operator==(const FileId&) const = default;
  };
  struct Listener {
    sys::UniqueFd fd;
    FileId file;
  };
  // Where a VM's sockets lie; prepare_vm() made it.
  Result<sys::UniqueFd> run_directory(VmId vm) const { return open_dir("run/vms/" + vm.hex()); }
  // A listening socket at a checked path (check_socket_path) of that VM.
  Result<Listener> listen(VmId vm, uint32_t vm_number, const SocketSpec& socket);
  // If its path still leads to that file, and not to one that was made in its place. Before the
  // listener is closed.
  void unlink_socket(VmId vm, const SocketSpec& socket, FileId file);
  // api.sock, vault-admin.sock and the vault's others: STATE/run/<name>. Where all is one user's,
  // that user's alone.
  Result<sys::UniqueFd> listen_core(const std::string& name, uid_t owner, mode_t mode,
                                    int type = SOCK_STREAM, std::optional<gid_t> group = {});

  // Once `stop` is set: kUnavailable, and what is left stays.
  Status remove_vm(VmId vm, const std::atomic<bool>& stop) const;

  // Moves vms/<vm>/journal to aside/<name>, which is the launcher's alone from then on. There
  // already, or no journal: nothing is done. Durable when it returns.
  Status set_aside(VmId vm, const std::string& name) const;

  // run/pids/<unit>, so that the next launcher finds what still runs. On a full disk: in the room
  // that was kept back.
  Status write_pid_file(const std::string& unit, std::string_view text);
  void remove_pid_file(const std::string& unit);
  Result<std::vector<std::pair<std::string, std::string>>> read_pid_files();  // name, text
  // run/log/<unit>.log for appending; renamed to .old once it is over `bytes_max`.
  Result<sys::UniqueFd> open_log(const std::string& unit, size_t bytes_max);

 private:
  StateTree() = default;
  Status check() const;
  void keep_room() const;
  bool spend_room() const;  // false: there is none left
  Status try_pid_file(const std::string& unit, std::string_view text);
  Status check_vm(VmId vm, uid_t keeper) const;
  Result<sys::UniqueFd> open_dir(const std::string& relative) const;
  Result<Listener> make_socket(int target_dir, const std::string& file, uid_t owner, gid_t group,
                               mode_t mode, int type = SOCK_STREAM);
  // Of the launcher's directories that the site's users pass through, if it has such.
  mode_t shared_mode() const { return users_.uid_base == 0 ? 0700 : 0711; }
  Status refuse_shared_user(uid_t keeper, VmId vm) const;

  std::string path_;
  sys::UniqueFd root_;
  SiteConfig site_;
  Users users_;
};

// [a-z0-9._-], not starting with a dot, at most 40.
bool plain_file_name(std::string_view name);
// Only run/vms/<vm>/<file>, a plain file name.
Status check_socket_path(VmId vm, std::string_view path);

}  // namespace hf::launcher
