// What members that sign whatever they like can make of a chain, steered by bytes: for the fuzzer,
// and for a test that runs some of it every time. Nothing here may abort, and after each step the
// chain is one that its vault would load again.
#pragma once

#include <algorithm>

#include "title/testing/world.h"

namespace hf::title::testing {

class Hostile {
 public:
  explicit Hostile(ByteSpan steering) : in_(steering), chain_(VmId{}, kB), asking_(kB, now_) {
    Digest origin;
    origin.bytes[0] = std::byte{1};
    known_.push_back(Signed::sign(make_create(kA, origin, 0, Micros(1)), KeyedSigner(kA)));
    chain_ = Chain(known_[0]->vm(), kB);
    learn(known_[0]);
  }
  void run() {
    for (int step = 0; step < 200 && !in_.empty(); ++step) {
      switch (next() % 8) {
        case 0:
          now_ = Instant(now_.value + next() % 8 * kSecond);
          break;
        case 1:
          chain_.clear_doubt();
          learn(any());
          break;
        case 2:
          answered();
          break;
        case 3:
          judge();
          break;
        default:
          say();
      }
      check();
    }
  }

 private:
  unsigned next() {
    if (in_.empty()) return 0;
    const auto value = std::to_integer<unsigned>(in_[0]);
    in_ = in_.subspan(1);
    return value;
  }
  SiteId any_site() { return site(static_cast<int>(next() % 5) + 1); }
  const SignedPtr& any() { return known_[next() % known_.size()]; }
  void learn(const SignedPtr& statement) {
    chain_.learn({{statement}}, kA, verifier_, now_, Micros(now_.value));
    asking_.head_changed(chain_);
  }

  // A statement that follows what exists: as its kind wants it, or not quite.
  void say() {
    const SignedPtr base = any();
    const Before before{.follows = base->statement()};
    Statement s = base->statement();
    s.kind = static_cast<Kind>(2 + next() % 13);
    s.word = static_cast<WordKind>(next() % 7);
    s.vm = chain_.vm();
    s.origin = {};
    s.follows = base->digest();
    s.beside = next() % 4 == 0 ? any()->digest() : Digest{};
    s.issuer = any_site();
    const SiteId subject = any_site();
    s.members = members_after(s.kind, s.issuer, subject, before);
    s.holder = holder_after(s.kind, s.issuer, subject, before);
    s.epoch = epoch_after(s.holder, before);
    if (next() % 4 == 0) s.line = line(1 + next() % 8);
    if (next() % 4 == 0) s.start_after = next();
    if (next() % 4 == 0) s.holder = any_site();
    if (next() % 4 == 0) s.epoch = Epoch(next());
    for (unsigned edits = next() % 4; edits > 0; --edits) {
      const SiteId member = any_site();
      const unsigned standing = next() % 4;
      s.members = standing == 3 ? s.members.without(member)
                                : s.members.with(member, static_cast<Standing>(standing));
    }
    s.time = Micros(known_.size());
    if (out_of_form(s) != nullptr || known_.size() == 256) return;
    known_.push_back(Signed::sign(s, KeyedSigner(s.issuer)));
    learn(known_.back());
  }

  void answered() {
    if (chain_.empty()) return;
    const SiteId from = any_site();
    const Question question = asking_.ask(chain_, from, next_nonce(), now_);
    Answer said = answer_from(chain_, question);
    const unsigned what = next();
    said.accepts = (what & 1U) != 0;
    said.prepared = (what & 2U) != 0;
    said.whole = (what & 4U) != 0;
    if (said.whole) said.line = line(1 + next() % 8);
    if ((what & 8U) != 0) said.head = any()->digest();
    if ((what & 16U) != 0) return;  // silent
    (void)asking_.take_answer(SignedAnswer::sign(said, KeyedSigner(from)), verifier_, now_);
  }

  void judge() {
    const Digest about = chain_.empty() ? Digest{} : chain_.digest();
    const SiteId other = any_site();
    Word word{.vm = chain_.vm(),
              .head = about,
              .act = static_cast<Act>(next() % 8),
              .kind = static_cast<WordKind>(next() % 7),
              .line = {},
              .silent = {}};
    for (unsigned names = next(), s = 1; s <= 5; ++s) {
      if ((names >> s & 1U) != 0) word.silent.push_back(site(static_cast<int>(s)));
    }
    const Word* on = next() % 4 == 0 ? nullptr : &word;
    const OwnLine has = own(next() % 9);
    const Line back = line(1 + next() % 8);
    if (on != nullptr && on->kind == WordKind::kWritesGivenUp) word.line = back;
    const Judge judge(chain_, asking_, about, now_, Micros(now_.value));
    (void)judge.may_open(has);
    (void)judge.may_settle_doubt(on);
    (void)judge.may_let_go();
    const Judged<Statement> drafts[] = {
        judge.may_protect(other),
        judge.may_stand_by(other, has),
        judge.may_resign(),
        judge.may_expel(other, on),
        judge.may_set_policy(next(), true),
        judge.may_hand_over(other, has, kStill, on),
        judge.may_take(has, on, ~uint64_t{0}),
        judge.may_go_on(has, on),
        judge.may_give_up(kStill),
        judge.may_join(has),
        judge.may_take_over(has, on),
        judge.may_rewind(back, has, kStill, true, on),
        judge.may_end(kStill),
        judge.may_checkpoint(),
    };
    const auto& draft = drafts[next() % std::size(drafts)];
    if (!draft || known_.size() == 256) return;
    const SignedPtr mine = Signed::sign(*draft, KeyedSigner(kB));
    if (chain_.find(mine->digest()) != nullptr) return;
    known_.push_back(mine);
    chain_.add_own(mine, Micros(now_.value));
    asking_.head_changed(chain_);
  }

  void check() const {
    const Bytes bytes = chain_.encode();
    const auto again = Chain::decode(bytes, kB);
    HF_ASSERT(again.ok() && again->encode() == bytes);
    HF_ASSERT(!chain_.verify(verifier_).has_value());
    const auto rivals = chain_.rivals();
    for (const SignedPtr& one : rivals) {
      HF_ASSERT(!chain_.follows(chain_.digest(), one->digest()));
      for (const SignedPtr& two : rivals) {
        HF_ASSERT(one == two || !chain_.follows(one->digest(), two->digest()));
      }
    }
  }

  ByteSpan in_;
  Instant now_{1000 * kSecond};
  KeyedVerifier verifier_;
  Chain chain_;
  Asking asking_;
  std::vector<SignedPtr> known_;
};

}  // namespace hf::title::testing
