// Judge: what a site may sign, release and open, given its chain, what it was answered, and what
// its own processes have shown. The vault asks it before every signature and nobody signs without
// it; lifecycle and simulator ask it to know what to do next. A refusal names the act that leads
// on.
//
// Every question names the head that it is about: compare-and-set. What it returns is a draft that
// Chain's own rules have accepted; the caller signs it, adds it to the chain (Chain::add_own) and
// stores that before anything follows from it.
#pragma once

#include "title/asking.h"

namespace hf::title {

// What this site's keeper has shown of the VM's line here.
struct OwnLine {
  Line end;            // durable
  bool whole = false;  // up to `end`, and the tail passes its tags
  // Positions of others that were found on this line: of a standby's answer, of a rewind's target.
  std::vector<Line> holds = {};
  bool has(const Line& line) const;
};

// No process here can write the VM any more.
struct Stillness {
  bool keepers_dead = false;  // each that had the production key, by its pidfd
  bool qemu_reaped = false;   // the launcher says so
  bool still() const { return keepers_dead && qemu_reaped; }
};

// A keeper that comes back under a guest which the launcher names.
struct Returning {
  bool same_guest = false;  // the same pidfd as at its start
  Digest started_under;     // the head of that start
};

// A VM's first statement. `origin`: 32 fresh random bytes; the VM's id is Signed::vm() of it.
Statement make_create(const SiteId& site, const Digest& origin, uint32_t start_after, Micros wall);

class Judge {
 public:
  // All of it outlives the judge. `wall`: for what is signed, and for tombstones.
  Judge(const Chain& chain, const Asking& asking, const Digest& about, Instant now, Micros wall)
      : chain_(chain), asking_(asking), about_(about), now_(now), wall_(wall) {}

  // ---- Protection ----
  // That site's vault has answered that it accepts, under this head or knowing nothing.
  Judged<Statement> may_protect(const SiteId& site) const;
  // It has answered that its line is whole, under this head; `own` holds that position.
  Judged<Statement> may_stand_by(const SiteId& site, const OwnLine& own) const;
  Judged<Statement> may_resign() const;
  // On the word that it is lost for good, or distrusted (unpair). With a rival that is the expelled
  // site's own, it settles that too.
  Judged<Statement> may_expel(const SiteId& site, const Word* word) const;
  // `anchored`: a host TPM anchors this vault, or the risk was accepted by name.
  Judged<Statement> may_set_policy(uint32_t start_after, bool anchored) const;

  // ---- Change of holder ----
  // The taker has answered, about this head: prepared and whole. The position is the taker's; where
  // it is behind `own`, the word for that is needed.
  Judged<Statement> may_hand_over(const SiteId& to, const OwnLine& own, const Stillness& still,
                                  const Word* word) const;
  Judged<Statement> may_take(const OwnLine& own, const Word* word, uint64_t tombstone) const;
  Judged<Statement> may_go_on(const OwnLine& own, const Word* word) const;

  // ---- Rivals: the one with the lowest digest first ----
  Judged<Statement> may_give_up(const Stillness& still) const;
  Judged<Statement> may_join(const OwnLine& own) const;
  Judged<Statement> may_take_over(const OwnLine& own, const Word* word) const;

  // ---- The line ----
  // `target` is held whole here; what comes after it is a branch already (`branch_kept`).
  Judged<Statement> may_rewind(const Line& target, const OwnLine& own, const Stillness& still,
                               bool branch_kept, const Word* word) const;
  // Shipping goes between equal heads, to standbys and who is being seeded.
  Judged<void> may_ship(const SiteId& to, const Digest& their_head) const;
  // A line here is cut or replaced to be the holder's: what it loses, if anything, is kept first.
  Judged<void> may_switch_line(bool loses, bool branch_kept) const;

  // ---- Running ----
  // The key, to a keeper that prepares: nothing of it may be served before may_open().
  Judged<void> may_release() const;
  // The gate, from cold: an incarnation is opened, writable volumes are served. `own` is the line
  // as it was opened with the key. Asked at that moment, however long the start took.
  Judged<Permit> may_open(const OwnLine& own) const;
  Judged<void> may_return(const Returning& keeper) const;
  // The doubt of Chain::in_doubt() may be cleared.
  Judged<void> may_settle_doubt(const Word* word) const;

  // This site was expelled by a line that does not follow its own, and so can't be settled from
  // here: it may forget this title, and make a new VM of its copy. What it signed here counts no
  // more.
  Judged<void> may_let_go() const;

  Judged<Statement> may_end(const Stillness& still) const;
  Judged<Statement> may_checkpoint() const;  // kNotYet

 private:
  Judged<void> may_sign() const;           // head, doubt
  Judged<void> may_sign_no_rival() const;  // and no conflict
  Judged<void> may_sign_as_holder() const;
  Judged<void> have_line(const OwnLine& own) const;
  Judged<const Answer*> equal_answer(const SiteId& site) const;
  // Every member was asked, and nothing that one answers stands against an act on `word`; who is
  // silent is named by it.
  Judged<void> nobody_objects(const Word& word) const;
  // What an act on `word` goes on from here is no less than was said of it: more may have come.
  Judged<void> line_fits(const Word& word, const OwnLine& own) const;
  Judged<void> word_fits(const Word* word, Act act, WordKind kind) const;
  SignedPtr first_rival() const;
  Statement draft(Kind kind, const SiteId& subject, const SignedPtr& rival = nullptr) const;
  Judged<Statement> checked(Statement statement) const;

  const SiteId& self() const { return chain_.self(); }
  const Faults& faults() const { return chain_.faults(); }

  const Chain& chain_;
  const Asking& asking_;
  Digest about_;
  Instant now_;
  Micros wall_;
};

}  // namespace hf::title
