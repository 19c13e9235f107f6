// Asking: what one site has asked the others about a VM and heard from them, and how long that
// counts. In memory only: a restart of the vault's process forgets it all.
//
// Time is an argument (CLOCK_BOOTTIME). Nothing here signs or sends: the vault makes the nonces,
// notes when a question was sent, and checks each answer's signature; daemon and link carry.
#pragma once

#include <optional>

#include "title/answer.h"
#include "title/words.h"

namespace hf::title {

inline constexpr uint64_t kAnswerLife = 3 * kSecond;  // from when its question was sent
inline constexpr uint64_t kSilence = 5 * kSecond;
inline constexpr uint64_t kExcuseLife = 600 * kSecond;
// Between "sent" and "too old" nobody may take; a take waits for silence that is longer.
static_assert(kAnswerLife < kSilence);
inline constexpr size_t kHeardMax = 64;  // sites

// Why a VM may be run, and until when its gate may be opened on that.
struct Permit {
  enum class Basis : uint8_t {
    kAsked,     // every member was asked
    kHandedTo,  // the giver itself has just signed it to this site
    kTakenBack  // this site gave nothing away, and its run was permitted
  };
  Basis basis = Basis::kAsked;
  Digest head;
  Instant until;
};

class Asking {
 public:
  // `now`: silence is counted from here, anew after each restart.
  Asking(const SiteId& self, Instant now, const Faults& faults = {})
      : self_(self), faults_(faults), since_(now) {}

  // ---- Questions and answers ----
  // Replaces the question before: its answer counts no more. `nonce` is fresh and random.
  Question ask(const Chain& chain, const SiteId& to, const Nonce& nonce, Instant now);
  // kNotAsked: no question of ours has this nonce. kBadSignature. kAnswerTooOld. What comes with it
  // (statements) is learned first: Chain::learn().
  Judged<void> take_answer(const SignedAnswer& answer, const Verifier& verifier, Instant now);
  // The question that it answers is the newest of this site's to that one.
  bool awaits(const Answer& answer) const;
  bool awaits_question(const Question& question) const;
  // Something signed or MACed came from that site for this VM.
  void heard(const SiteId& from, Instant now);
  // This site has answered a question of that one: it may act on that for kAnswerLife.
  void answered(const SiteId& to, Instant now);
  // Nothing was heard from it and nothing answered to it for kSilence.
  bool silent(const SiteId& site, Instant now) const;
  // A question about `head` was sent to it less than kAnswerLife ago, answered or not.
  bool asked(const SiteId& site, const Digest& head, Instant now) const;
  // The newest answer from `site`, if it counts still.
  const Answer* answer(const SiteId& site, Instant now) const;

  // ---- What follows ----
  // Each member was asked about the head and has answered with no other, or is silent and may be:
  // no standby, or excused. The site that holds it up otherwise is named.
  Judged<Permit> all_asked(const Chain& chain, Instant now) const;
  // The giver has answered "it is yours" itself, to a question younger than kAnswerLife.
  Judged<Permit> handed_to(const Chain& chain, Instant now) const;

  // ---- Words ----
  // After an act was signed on a word: those of its sites that are silent needn't answer until the
  // first incarnation is open, for kExcuseLife, and as long as nothing is heard from them.
  void excuse(const Word& word, const Digest& head, Instant now);
  bool excused(const SiteId& site, const Digest& head, Instant now) const;

  // ---- Runs ----
  // The first incarnation under `head` is open: what excused it ends.
  void opened(const Digest& head);
  // A hand-over begins, and takes at most `limits` (microseconds, all of its parts together). Until
  // then, if nothing was signed or learned, this site may start the VM again without asking. Begun
  // again before that, it is the same one: the limits are not.
  void giving(const Digest& head, uint64_t limits, Instant now);
  // The guest was stopped for another reason, or went: from now on a start is from cold.
  void stopped();
  // It runs under `head`, or has just been stopped to be handed over.
  bool run_permitted(const Digest& head, Instant now) const {
    return opened_ == head && (!giving_ || now <= giving_until_);
  }
  Judged<Permit> taken_back(const Chain& chain, Instant now) const;

  // The head changed by what was learned or signed: permissions under the old one end, and so does
  // the run of a guest that was stopped to be handed over.
  void head_changed(const Chain& chain);
  // Forgets what counts no more: questions and answers that are too old, words that ended. Nothing
  // depends on it but memory.
  void tidy(const Chain& chain, Instant now);
  // What a restart leaves: nothing. (A vault is made anew; a simulator's site lives on.)
  void restarted(Instant now);

  // ---- For explorers ----
  // All that makes a difference, with ages in place of times. After tidy().
  void describe(Instant now, Bytes& to) const;
  // Times older than `oldest` are set there: no difference, if that is longer than kSilence. An
  // excuse begins anew, and so never ends by time.
  void saturate(Instant now, uint64_t oldest);

 private:
  struct Peer {
    SiteId site;
    std::optional<Instant> heard;
    std::optional<Instant> answered;
    std::optional<Question> question;
    Instant sent;
    std::optional<Answer> answer;
  };
  struct Excuse {
    Digest head;
    std::vector<SiteId> sites;
    Instant until;
  };

  Peer& peer(const SiteId& site);
  const Peer* find(const SiteId& site) const;
  Instant last_sign(const Peer* peer) const;
  bool counts(const Peer& peer, Instant now) const;
  Judged<Instant> one_asked(const Chain& chain, const Member& member, Instant now) const;

  SiteId self_;
  Faults faults_;
  Instant since_;
  std::vector<Peer> peers_;  // ascending by site, at most kHeardMax
  std::optional<Excuse> excuse_;
  std::optional<Digest> opened_;
  std::optional<Digest> giving_;
  Instant giving_until_;
};

}  // namespace hf::title
