// Sites, a chain that grows by the product's own judge, and answers, for this library's tests.
#pragma once

#include "title/judge.h"
#include "title/testing/keyed_signer.h"

namespace hf::title::testing {

inline SiteId site(int number) {
  SiteId id;
  id.bytes[0] = static_cast<std::byte>(number);
  return id;
}
inline const SiteId kA = site(1), kB = site(2), kC = site(3);

inline Line line(uint64_t sequence) {
  Line line;
  line.position.incarnation.bytes[0] = std::byte{7};
  line.position.sequence = Sequence(sequence);
  line.chain.bytes[0] = static_cast<std::byte>(sequence);
  return line;
}
inline OwnLine own(uint64_t sequence) {
  OwnLine own{.end = line(sequence), .whole = true};
  for (uint64_t at = 1; at < sequence; ++at) own.holds.push_back(line(at));
  return own;
}
inline constexpr Stillness kStill{.keepers_dead = true, .qemu_reaped = true};

inline Nonce next_nonce() {
  static uint64_t last = 0;
  Nonce nonce;
  store_le(nonce.bytes.data(), ++last);
  return nonce;
}

struct TestSite {
  TestSite(const VmId& vm, const SiteId& id, Instant now, const Faults& faults = {})
      : chain(vm, id, faults), asking(id, now, faults) {}
  Chain chain;
  Asking asking;
};

// Made by A; every site knows what `share` gives it.
struct TestWorld {
  explicit TestWorld(const Faults& faults = {}) {
    Digest origin;
    origin.bytes[0] = std::byte{1};
    const auto create = Signed::sign(make_create(kA, origin, 0, Micros(1)), KeyedSigner(kA));
    for (const SiteId& id : {kA, kB, kC}) sites.emplace_back(create->vm(), id, now, faults);
    at(kA).chain.add_own(create, Micros(1));
    pass(10);
  }
  TestSite& at(const SiteId& id) { return sites[std::to_integer<size_t>(id.bytes[0]) - 1]; }
  Judge judge(const SiteId& id) {
    return Judge(at(id).chain, at(id).asking, at(id).chain.digest(), now, Micros(now.value));
  }
  void pass(uint64_t seconds) { now = Instant(now.value + seconds * kSecond); }
  SignedPtr add(const SiteId& id, const Statement& statement) {
    const auto out = Signed::sign(statement, KeyedSigner(id));
    at(id).chain.add_own(out, Micros(1));
    at(id).asking.head_changed(at(id).chain);
    return out;
  }
  Learned tell(const SiteId& to, std::span<const SignedPtr> bundle, const SiteId& from) {
    return at(to).chain.learn(bundle, from, verifier, now, Micros(now.value));
  }
  Learned share(const SiteId& from, const SiteId& to) {
    const auto all = at(from).chain.statements();
    return tell(to, all, from);
  }
  // `asker` asks and `other` answers at once, with its line up to there; 0: it has none.
  void ask(const SiteId& asker, const SiteId& other, uint64_t sequence = 0, bool accepts = true,
           bool prepared = true) {
    const Question question = at(asker).asking.ask(at(asker).chain, other, next_nonce(), now);
    Answer answer = answer_from(at(other).chain, question);
    answer.accepts = accepts;
    answer.prepared = prepared;
    answer.whole = sequence > 0;
    answer.line = sequence > 0 ? line(sequence) : Line{};
    at(other).asking.answered(asker, now);
    const auto taken =
        at(asker).asking.take_answer(SignedAnswer::sign(answer, KeyedSigner(other)), verifier, now);
    HF_ASSERT(taken.has_value());
  }
  // `other` stands by for A, whole up to `sequence`, and both know it.
  void protect(const SiteId& other, uint64_t sequence = 5) {
    ask(kA, other);
    add(kA, *judge(kA).may_protect(other));
    share(kA, other);
    ask(kA, other, sequence);
    add(kA, *judge(kA).may_stand_by(other, own(sequence)));
    share(kA, other);
  }
  Word word(const SiteId& by, Act act, WordKind kind, std::vector<SiteId> silent,
            const Line& up_to = {}) {
    return {.vm = at(by).chain.vm(),
            .head = at(by).chain.digest(),
            .act = act,
            .kind = kind,
            .line = up_to,
            .silent = std::move(silent)};
  }
  // B takes, though A lives: a rival of whatever A signs meanwhile.
  void take(const SiteId& by, std::vector<SiteId> silent) {
    pass(10);
    for (const Member& member : at(by).chain.title().members.all()) {
      if (member.site != by) at(by).asking.ask(at(by).chain, member.site, next_nonce(), now);
    }
    const Word taken = word(by, Act::kTake, WordKind::kSourceIsOff, std::move(silent));
    add(by, *judge(by).may_take(own(5), &taken, 0));
  }

  Instant now{1000 * kSecond};
  KeyedVerifier verifier;
  std::vector<TestSite> sites;
};

}  // namespace hf::title::testing
