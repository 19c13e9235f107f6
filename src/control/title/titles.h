// Who may run which VM, as holdfastd deals with it: it carries statements, questions and answers
// between this site's vault and the others', proposes what is to be signed, and makes the catalog's
// row follow what the title says. Nothing is decided here: the vaults judge (src/title), and what
// follows is decided in src/lifecycle.
//
// By level: a VM that was looked at is brought as far as its title lets it, again and again until
// nothing is left to do: a seeded site is made a standby, who gave a VM away becomes the standby of
// who has it, a site that came back is asked what became of its VMs.
//
// Thread-safe. What asks another site blocks for as long as it is told.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "control/core/pace.h"
#include "control/peers/peer_messages.h"
#include "control/services.h"
#include "peer/link_client.h"
#include "vault/protocol/titles.h"

namespace hf::control {

class TitleKeeper {
 public:
  using Millis = peer::Millis;

  explicit TitleKeeper(Services& services) : services_(services) {}
  ~TitleKeeper() { stop(); }
  TitleKeeper(const TitleKeeper&) = delete;
  TitleKeeper& operator=(const TitleKeeper&) = delete;

  void start();
  void stop();

  // Exchanges what both know with `site`, and has its vault's answer about the head that results.
  // What was learned is settled. Errors: that site was not reached or did not answer; this vault's.
  struct Exchanged {
    vault::TitleView view;
    title::Answer answer;  // about that head
  };
  Result<Exchanged> exchange(VmId vm, SiteId site, Millis limit,
                             peer::Delivery* delivery = nullptr);
  // The same with every other member, each for `limit`. Those who did not answer: they stay asked,
  // and whether their silence stands in the way is the vault's to say.
  Result<std::vector<SiteId>> ask_members(VmId vm, Millis limit);
  // That site has said, to this process, that its head is this one.
  bool knows(VmId vm, SiteId site, const Digest& head);
  // Another site's question. kNotFound: it has no part in that VM.
  Result<TitleAnswer> serve(const TitleQuestion& question, const PeerRow& peer);

  // Learns what `site` sent along. `begin`: of a VM that nothing is known of, too.
  Result<vault::TitleView> learn(VmId vm, SiteId site, ByteSpan bundle, bool begin = false);
  // The same of a message that has room for the oldest statements only: unless what it leads to is
  // enough, the rest is fetched from `site`.
  using TitleLooks = std::function<bool(const vault::TitleView&)>;
  Result<vault::TitleView> learn_all(VmId vm, SiteId site, ByteSpan first, const TitleLooks& enough,
                                     Millis limit, bool begin = false);
  // All that is known of it, or the beginning of that, for a site that may know nothing.
  Result<Bytes> all(VmId vm) { return services_.vault.title_lacking(vm, {}); }
  // Signed under the newest head that is known here, or the refusal in words.
  struct Act {
    title::Kind kind = title::Kind::kProtect;
    SiteId subject = {};
    std::string word = {};  // hex; empty: none was given
  };
  Result<vault::TitleView> sign(const VmRow& row, const Act& act);
  // Likewise, as long as only time stands in the way: silence, answers that are on their way.
  Result<vault::TitleView> sign_within(const VmRow& row, const Act& act, Millis limit);

  // Who is the holder no more is fenced, at once; the rest follows soon.
  Status settle(VmId vm);
  // Something may have to be done about the VM. Does not block.
  void look(VmId vm);
  // That site is there (again).
  void on_peer(SiteId site);

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Due {
    Time at{};
    Pace pace{std::chrono::milliseconds(100), std::chrono::seconds(5)};
  };
  void run();
  bool step(VmId vm);  // false: something is left to do

  Services& services_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<VmId, Due> due_;
  std::map<VmId, std::map<SiteId, Digest>> known_;  // of the others, as they last said
  bool stopping_ = false;
  std::thread thread_;
};

bool holds(const vault::TitleView& view, const SiteId& site);
// All that is known of it here, oldest first.
Result<std::vector<title::SignedPtr>> whole_chain(Services& services, VmId vm);
// That site is a member, or was one: it may learn what became of the VM, and that it was expelled.
bool ever_named(Services& services, VmId vm, const vault::TitleView& view, const SiteId& site);
// Why the title does not allow it, for people. `effect` as Error's.
Error refused_by_title(Services& services, const VmRow& row, const title::Refused& refused,
                       std::string effect);

}  // namespace hf::control
