// The titles of a site's VMs as its vault keeps them: each VM's chain with its freshness record in
// one file, so that no crash parts a statement from the position that it stands for; and in memory,
// for as long as this process lives, what was asked, answered, shown and given as a word.
//
// What is signed is what title::Judge allows, with the evidence that is here: the line's end is the
// keepers' word, who has a key and whether a guest runs are the launcher's and the vault's own,
// what another site says is signed by its vault.
//
// Specification of the files: docs/formats/vault.md. One thread. After an error nothing has
// changed.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "base/clock.h"
#include "crypto/secret.h"
#include "title/judge.h"
#include "vault/protocol/titles.h"
#include "vault/store/file_store.h"

namespace hf::vault {

// Titles of VMs whose key is not here.
inline constexpr size_t kRememberedMax = 1024;
inline constexpr uint64_t kRememberedBytesMax = uint64_t{64} << 20;

class Titles {
 public:
  // Whose they are. All outlive it.
  struct Owner {
    SiteId site;
    const crypto::Secret& kek;    // seals the files
    const title::Signer& signer;  // of that site
    // Planted by the simulator only; the second: freshness is left where it was by a statement that
    // sets it.
    title::Faults faults = {};
    bool freshness_apart = false;
  };
  Titles(FileStore& directory, const Owner& owner, Clock& clock, Rng& rng)
      : directory_(directory), owner_(owner), clock_(clock), rng_(rng) {}

  // A new VM of this site: its id is the digest of its create.
  Result<VmId> create(uint32_t start_after);
  // The VM is gone from this site. What no other site has heard of goes with it, as does what this
  // site has no part in. Else the title stays: whoever gives this site the VM anew, and is
  // holdfastd alone it may be, gives it neither an older title nor, if this site holds it, an older
  // position.
  Status remove(const VmId& vm);
  // What stayed is bounded, whatever others make this site take and give up. The oldest of it goes,
  // but not `but`. It is missed only by a site that is given such a VM anew, which then is in doubt
  // where it has signed in its title, and asks before it starts in any case.
  Result<std::vector<VmId>> forget_oldest(const VmId& but);
  bool exists(const VmId& vm) const;

  Result<TitleView> view(const VmId& vm);  // kNotFound
  // What a site that knows `known` lacks, oldest first, at most kMaxBundle bytes of it.
  Result<Bytes> lacking(const VmId& vm, std::span<const Digest> known);
  Result<std::vector<Digest>> known(const VmId& vm);  // head and rivals; empty: nothing
  // `begin`: a VM that nothing is known of may be learned of.
  Result<TitleLearned> learn(const VmId& vm, const SiteId& from, ByteSpan bundle, bool begin,
                             const title::Verifier& verifier);

  Result<title::Question> ask(const VmId& vm, const SiteId& to);
  // The answer to another site's question, signed. From now on that site may act on it.
  Result<Bytes> answer(const title::Question& question, const OwnWord& word);
  Result<title::Judged<void>> take_answer(const VmId& vm, ByteSpan answer,
                                          const title::Verifier& verifier);

  // Of the VM's processes here, for what depends on them.
  struct Processes {
    title::Stillness still;
  };
  Result<TitleSigned> propose(const TitleProposal& proposal, const Processes& processes);
  // An operator's word for `act`, about the head that there is. Names every other member.
  Result<GivenWord> give_word(const VmId& vm, title::Act act);

  // The operators trust that site no more: the titles that this site holds name it no longer,
  // whatever it answers. Which VMs' they were. One that cannot be signed for now (a third site's
  // rival, doubt) still names it; what that site signs is not believed either way.
  Result<std::vector<VmId>> expel(const SiteId& site);

  // Whether the key may go to this site's keeper at all. `returning` as for open_gate().
  Result<title::Judged<void>> may_release(const VmId& vm, bool returning);
  // Whether the VM may be opened for writing now. `returning`: a guest runs that this VM was opened
  // for before.
  Result<title::Judged<void>> open_gate(const VmId& vm, bool returning);
  // No guest runs any more: the next start is from cold.
  void stopped(const VmId& vm);

  void show_line(const VmId& vm, ShownLine line);
  // The keeper that showed it is gone: of a replica nothing is shown any more. The holder's line
  // stands still until a keeper has the key.
  void keeper_gone(const VmId& vm);
  void key_goes_out(const VmId& vm) { shown_.erase(vm); }

  // kNotFound: there is none.
  Result<Freshness> freshness(const VmId& vm);
  Status put_freshness(const VmId& vm, const Freshness& freshness);

  // For Vault::check(): as read from the disk.
  Status check(const VmId& vm) const;
  Status check_freshness(const VmId& vm) const;

 private:
  // This site gave up standing by, and was put out of the VM by a line that does not know it: what
  // `chain` is without its last word, which changes nothing. `chain`, where that is not so.
  title::Chain let_go(title::Chain chain, const SiteId& from, const title::Verifier& verifier);

  struct Entry {
    title::Chain chain;
    title::Asking asking;
    uint64_t generation = 0;             // of the title file
    std::optional<Freshness> settled;    // as of the newest statement that set it
    std::optional<Digest> opened_under;  // as the freshness file says
    std::optional<Freshness> reported;   // since then
  };
  struct StoredFreshness {
    uint64_t generation = 0;
    Digest under;
    Freshness freshness;
  };

  title::Instant now() const { return title::Instant(clock_.monotonic().value); }
  Result<Entry*> entry(const VmId& vm);  // kNotFound
  Result<Entry> load(const VmId& vm) const;
  Result<std::optional<StoredFreshness>> load_freshness(const VmId& vm) const;
  // Stores `next` in the place of `entry`, whose freshness is the title's where the title moved it.
  Status store(const VmId& vm, Entry& entry, title::Chain next);
  TitleView view_of(const Entry& entry) const;
  title::OwnLine own_line(const VmId& vm, const Entry& entry) const;

  FileStore& directory_;
  const Owner owner_;
  Clock& clock_;
  Rng& rng_;
  std::map<VmId, Entry> entries_;
  std::map<VmId, ShownLine> shown_;
  title::Words words_;
};

}  // namespace hf::vault
