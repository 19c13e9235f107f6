// Tells the vault which user is which VM's keeper, and which VMs have a guest: only who starts them
// knows, and the vault
// believes nobody else. It is always told all of them; a vault that begins anew finds them in a
// descriptor. Operation bind_keepers of docs/formats/vault.md, "Protocol"; the few bytes are made
// here, so that the launcher stays without the vault's library.
//
// One thread. Each call ends within kVaultLimit, whatever the vault does.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "sys/fd.h"

namespace hf::launcher {

constexpr std::chrono::milliseconds kVaultLimit{1'000};
// A vault that failed to take a list is not asked for this long, unless a start depends on it.
constexpr std::chrono::milliseconds kVaultPause{30'000};
constexpr size_t kBoundKeepersMax = 6'000;

// A VM that has a keeper, a guest, or both.
struct BoundKeeper {
  VmId vm;
  uint32_t uid = 0;  // of the keeper
  bool keeper = false;
  bool guest = false;  // QEMU runs, or is about to
};

class VaultBinding {
 public:
  explicit VaultBinding(std::string socket_path) : socket_path_(std::move(socket_path)) {}

  // Before a keeper or a guest starts: these are all of them, that one among them. kUnavailable and
  // kTimeout say that no VM starts now; else the vault's own words.
  Status tell(const std::vector<BoundKeeper>& keepers);
  // After one has ended. A vault that does not take it is told the next time.
  void tell_of_an_end(const std::vector<BoundKeeper>& keepers);
  // What a vault that is about to start reads: a sealed file in memory.
  Result<sys::UniqueFd> for_start(const std::vector<BoundKeeper>& keepers);

 private:
  Result<Bytes> next_list(const std::vector<BoundKeeper>& keepers);
  Status ask(ByteSpan list);

  std::string socket_path_;
  uint64_t generation_ = 0;
  std::chrono::steady_clock::time_point not_before_;
};

}  // namespace hf::launcher
