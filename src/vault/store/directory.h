// The vault's directory: a flat set of small files that only the vault's own user may touch.
//
// Every file is replaced whole and atomically (temporary file, fsync, rename, fsync of the
// directory), so after a crash each is the old one or the new one. Mode and owner are checked at
// every open: a key file that others could write is not a key file. Blocking; one thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/secret.h"
#include "sys/fd.h"
#include "vault/store/file_store.h"

namespace hf::vault {

class Directory final : public FileStore {
 public:
  // The directory must exist, belong to this process's user and be closed to all others
  // (kPermission if not). Changes nothing.
  static Result<Directory> open(const std::string& path);

  // Holds an exclusive flock until the Directory goes: kConflict while another process has it.
  // Creates the lock file if it is missing.
  Status lock();

  // kNotFound; kPermission: owner, mode or type; kCorrupt: longer than `size_max`.
  Result<Bytes> read(const std::string& name, size_t size_max) const override;
  // The same, into locked memory.
  Result<crypto::Secret> read_secret(const std::string& name, size_t size_max) const;
  bool exists(const std::string& name) const override;

  Status replace(const std::string& name, ByteSpan bytes) override;
  Status create(const std::string& name, ByteSpan bytes);  // kExists, and nothing replaced
  Status remove(const std::string& name) override;         // durable; kNotFound
  // Without "." and "..".
  Result<std::vector<std::string>> list() const override;
  Result<Size> size(const std::string& name) const override;

  // For the audit log: opened for appending, created if missing.
  Result<sys::UniqueFd> open_append(const std::string& name);

  const std::string& path() const override { return path_; }

 private:
  Directory(std::string path, sys::UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  Result<sys::UniqueFd> open_checked(const std::string& name) const;
  Result<std::string> write_temporary(const std::string& name, ByteSpan bytes);
  Status sync();

  std::string path_;
  sys::UniqueFd fd_;
  sys::UniqueFd lock_;
};

// kPermission unless `fd` (named `path` in the message) is a regular file of this process's user,
// or root's if `root_too`, closed to all others.
Status check_private_file(int fd, const std::string& path, bool root_too);

}  // namespace hf::vault
