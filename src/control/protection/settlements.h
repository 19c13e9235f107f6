// What ends a conflict: two sites were each told to run a VM, each on a word about the other that
// was mistaken, and hold a title that does not follow the other's (a rival; title/chain.h). While
// there is one, nothing of the VM is started, shipped, taken or handed over; what runs goes on.
//
// It is settled by the one site giving up to the other: its guest is stopped hard, its vault signs,
// and the line that the VM had here is set aside, whole (STATE/aside): nothing of it is merged or
// deleted. Then it is seeded anew by the other one and stands by, without a command.
//
// By level: whoever asks again is told how it is, and what a kill left undone is done by follow().
//
// Thread-safe. What asks another site blocks for as long as it is told.
#pragma once

#include <map>
#include <mutex>

#include "control/peers/peer_messages.h"
#include "control/services.h"
#include "vault/protocol/titles.h"

namespace hf::control {

class Settlements {
 public:
  explicit Settlements(Services& services) : services_(services) {}
  Settlements(const Settlements&) = delete;
  Settlements& operator=(const Settlements&) = delete;

  // At either site. `keep`: whose line goes on.
  Result<sys::JsonObject> settle(VmId vm, SiteId keep, const std::string& actor,
                                 Progress& progress);
  // At the site that is to give up, asked by the other one.
  Result<HandOverOutcome> give_up(VmId vm, const PeerRow& to);

  // What a settlement, or a conflict, makes of the VM's record and processes here. kNothing: what
  // else follows from the title may follow.
  enum class Follow { kNothing, kDone, kLater };
  Follow follow(VmId vm);

  // Of what is not done about a VM while there is a conflict. `effect` as Error's.
  Status none(const VmRow& row, std::string effect);
  // The other site, by name; empty: there is no conflict that this site knows of.
  std::string conflict(VmId vm);

 private:
  struct Parties;
  Result<Parties> parties(const VmRow& row, SiteId keep, bool& over);
  Status ask_to_give_up(const VmRow& row, SiteId site, Progress& progress);
  Status give_up_to(const VmRow& row, SiteId to);
  Status end_guest(const VmRow& row);
  Status may_give_up(const VmRow& row, const vault::TitleView& view);
  void run_again(VmId vm);
  void told(const VmRow& row, const vault::TitleView& view);
  bool to_be_joined(const vault::TitleView& view) const;
  Follow give_up_again(const VmRow& row, const vault::TitleView& view);
  Follow stand_by_anew(const VmRow& row, const vault::TitleView& view, const std::string& aside);
  Follow protect_by(const VmRow& row, const vault::TitleView& view);
  Follow hold_again(const VmRow& row, const vault::TitleView& view);

  Services& services_;
  std::mutex mutex_;
  std::map<VmId, SiteId> conflicts_;
};

}  // namespace hf::control
