// What a site sees of one VM at one moment: all that the machine decides by, and nothing that it
// remembers. A holdfastd that was killed sees the same.
#pragma once

#include <optional>
#include <vector>

#include "title/chain.h"

namespace hf::lifecycle {

// As the vault knows it. `head` is null where it knows nothing.
struct Title {
  title::SignedPtr head;
  std::vector<title::SignedPtr> rivals;

  bool held_by(const SiteId& site) const {
    return head != nullptr && head->statement().holder == site;
  }
  bool stands_by(const SiteId& site) const {
    return head != nullptr && head->statement().is_standby(site);
  }
  // Its rival names the same holder: what that site signed while its standby resigned, for example.
  // No conflict: the holder makes one of the two.
  bool to_be_joined_by(const SiteId& site) const {
    return held_by(site) && !rivals.empty() && rivals.front()->statement().holder == site;
  }
};

// The VM's record at this site: what its catalog says, durably.
enum class Role : uint8_t {
  kCreating,    // its disks are not whole yet
  kActive,      // this site's to run
  kStandby,     // another site's; a replica is here
  kSuperseded,  // was this site's
};
struct Record {
  Role role = Role::kActive;
  Epoch epoch;
  bool wanted = false;  // was started and not stopped since
  bool adopt = false;   // what attestation knows of it is still in its journal only
};

// Of the VM, with one other site.
enum class Way : uint8_t { kOut, kIn };
enum class Protected : uint8_t { kOffered, kStands, kWithdrawing };
struct Protection {
  SiteId peer;
  Way way = Way::kOut;
  Protected state = Protected::kStands;
};

// The VM's processes here. Never both keepers: the directory has one owner.
struct Units {
  bool guest = false;
  bool keeper = false;   // with the key
  bool replica = false;  // without, receiving
  bool unsure = false;   // an answer of the launcher did not come: what runs is not known
};

// What the replica's keeper says; nothing where none answers.
struct Replica {
  bool sealed = false;
  bool empty = false;  // it holds nothing durably
};

struct Observed {
  SiteId self;
  title::Instant now;
  Title title;
  Record record;
  std::optional<Protection> protection;
  Units units;
  std::optional<Replica> replica;
  bool peer_connected = false;  // the protection's, as far as the link knows
  bool peer_knows = false;      // it has told this process that its head is this one
  bool stream = false;          // shipping is asked for
};

}  // namespace hf::lifecycle
