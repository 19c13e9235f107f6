// What the vault's process gives up once its listeners and directory are open.
#pragma once

#include <string>

#include "base/result.h"

namespace hf::vault_server {

enum class MemoryLock {
  kWhole,    // every page, OpenSSL's own copies of private keys included
  kSecrets,  // RLIMIT_MEMLOCK allows no more than the Secrets' pages
};
MemoryLock lock_memory();

// Landlock: no file but those below `directory`. Older kernels have none: then nothing happens,
// since owner and mode of the directory stand.
Status restrict_files(const std::string& directory);

// A seccomp allow-list; the process is killed by any other call. No sockets are made, nothing is
// executed, no process or thread is started. The list is in sandbox.cpp, to be reviewed as text.
Status restrict_system_calls();

}  // namespace hf::vault_server
