#include "title/asking.h"

#include <algorithm>

namespace hf::title {

namespace {

Instant after(Instant at, uint64_t span) { return Instant(at.value + span); }
bool within(Instant from, Instant now, uint64_t span) {
  return now < from || now.value - from.value <= span;
}

}  // namespace

Asking::Peer& Asking::peer(const SiteId& site) {
  auto at = std::ranges::lower_bound(peers_, site, {}, &Peer::site);
  if (at != peers_.end() && at->site == site) return *at;
  if (peers_.size() == kHeardMax) {
    // Whoever was asked least lately: members are asked, strangers are not.
    const auto oldest = std::ranges::min_element(peers_, {}, &Peer::sent);
    peers_.erase(oldest);
    at = std::ranges::lower_bound(peers_, site, {}, &Peer::site);
  }
  return *peers_.insert(at, Peer{.site = site});
}

const Asking::Peer* Asking::find(const SiteId& site) const {
  const auto at = std::ranges::lower_bound(peers_, site, {}, &Peer::site);
  return at != peers_.end() && at->site == site ? &*at : nullptr;
}

Question Asking::ask(const Chain& chain, const SiteId& to, const Nonce& nonce, Instant now) {
  Question question{.vm = chain.vm(),
                    .from = self_,
                    .to = to,
                    .nonce = nonce,
                    .about = chain.empty() ? Digest{} : chain.digest()};
  Peer& other = peer(to);
  other.question = question;
  other.sent = now;
  other.answer.reset();
  return question;
}

bool Asking::awaits(const Answer& answer) const {
  const Peer* known = find(answer.from);
  return answer.to == self_ && known != nullptr && known->question &&
         known->question->nonce == answer.nonce && known->question->vm == answer.vm &&
         known->question->about == answer.about;
}

bool Asking::awaits_question(const Question& question) const {
  const Peer* known = find(question.to);
  return known != nullptr && known->question && known->question->nonce == question.nonce;
}

Judged<void> Asking::take_answer(const SignedAnswer& signed_answer, const Verifier& verifier,
                                 Instant now) {
  const Answer& answer = signed_answer.answer;
  if (!awaits(answer)) return refuse(Cause::kNotAsked, Action::kAsk, answer.from);
  const Peer* known = find(answer.from);
  if (!faults_.answer_used_late && !within(known->sent, now, kAnswerLife)) {
    return refuse(Cause::kAnswerTooOld, Action::kAsk, answer.from);
  }
  if (!signed_answer.verify(verifier)) {
    return refuse(Cause::kBadSignature, Action::kAsk, answer.from);
  }
  heard(answer.from, now);
  peer(answer.from).answer = answer;
  return {};
}

void Asking::heard(const SiteId& from, Instant now) {
  peer(from).heard = now;
  if (excuse_) std::erase(excuse_->sites, from);
}

void Asking::answered(const SiteId& to, Instant now) { peer(to).answered = now; }

// When something was last heard from it, or answered to it; the start of it all if never.
Instant Asking::last_sign(const Peer* peer) const {
  Instant last = since_;
  if (peer != nullptr && peer->heard) last = std::max(last, *peer->heard);
  if (peer != nullptr && peer->answered) last = std::max(last, *peer->answered);
  return last;
}

bool Asking::silent(const SiteId& site, Instant now) const {
  const Instant last = last_sign(find(site));
  return now > last && now.value - last.value >= kSilence;
}

bool Asking::asked(const SiteId& site, const Digest& head, Instant now) const {
  const Peer* known = find(site);
  return known != nullptr && known->question && known->question->about == head &&
         within(known->sent, now, kAnswerLife);
}

bool Asking::counts(const Peer& peer, Instant now) const {
  return peer.answer && (faults_.answer_used_late || within(peer.sent, now, kAnswerLife));
}

const Answer* Asking::answer(const SiteId& site, Instant now) const {
  const Peer* known = find(site);
  return known != nullptr && counts(*known, now) ? &*known->answer : nullptr;
}

// Until when `member` does not stand in the way.
Judged<Instant> Asking::one_asked(const Chain& chain, const Member& member, Instant now) const {
  const SiteId& site = member.site;
  const Peer* known = find(site);
  if (known != nullptr && counts(*known, now)) {
    const Answer& answer = *known->answer;
    if (answer.about != chain.digest()) return refuse(Cause::kNotAsked, Action::kAsk, site);
    // Its head is ours or before it; what it knows beside that, we know to be followed.
    const auto passed = [&](const Digest& digest) { return chain.follows(chain.digest(), digest); };
    if (!answer.head.is_zero() && !passed(answer.head)) {
      return refuse(Cause::kPeerOtherHead, Action::kLearn, site);
    }
    if (!std::ranges::all_of(answer.rivals, passed)) {
      return refuse(Cause::kRival, Action::kLearn, site);
    }
    return after(known->sent, kAnswerLife);
  }
  // Silent or not, it was asked just now: who can answer does.
  if (!asked(site, chain.digest(), now)) {
    return refuse(Cause::kNotAsked, Action::kAsk, site);
  }
  if (!silent(site, now)) return refuse(Cause::kNotAnswered, Action::kWait, site);
  if (member.standing == Standing::kStandby && !excused(site, chain.digest(), now)) {
    return refuse(Cause::kStandbySilent, Action::kGoOn, site);
  }
  return after(known->sent, kAnswerLife);
}

Judged<Permit> Asking::all_asked(const Chain& chain, Instant now) const {
  Permit permit{
      .basis = Permit::Basis::kAsked, .head = chain.digest(), .until = after(now, kAnswerLife)};
  for (const Member& member : chain.title().members.all()) {
    if (member.site == self_) continue;
    const auto one = one_asked(chain, member, now);
    if (!one) return std::unexpected(one.error());
    permit.until = std::min(permit.until, *one);
  }
  return permit;
}

Judged<Permit> Asking::handed_to(const Chain& chain, Instant now) const {
  const Statement& title = chain.title();
  if (title.kind != Kind::kHandOver || title.holder != self_ ||
      run_permitted(chain.digest(), now)) {
    return refuse(Cause::kNotAsked, Action::kAsk);
  }
  Permit permit{
      .basis = Permit::Basis::kHandedTo, .head = chain.digest(), .until = after(now, kAnswerLife)};
  if (faults_.hearsay) return permit;
  const Peer* giver = find(title.issuer);
  if (giver == nullptr || !counts(*giver, now) || giver->answer->head != chain.digest() ||
      !giver->answer->rivals.empty()) {
    return refuse(Cause::kNotAsked, Action::kAsk, title.issuer);
  }
  permit.until = after(giver->sent, kAnswerLife);
  return permit;
}

void Asking::excuse(const Word& word, const Digest& head, Instant now) {
  excuse_ = {.head = head, .sites = word.silent, .until = after(now, kExcuseLife)};
  std::erase_if(excuse_->sites, [&](const SiteId& site) { return !silent(site, now); });
}

bool Asking::excused(const SiteId& site, const Digest& head, Instant now) const {
  return excuse_ && excuse_->head == head && now <= excuse_->until &&
         std::ranges::find(excuse_->sites, site) != excuse_->sites.end();
}

void Asking::opened(const Digest& head) {
  opened_ = head;
  excuse_.reset();
  giving_.reset();
}

void Asking::giving(const Digest& head, uint64_t limits, Instant now) {
  if (opened_ != head || giving_) return;
  giving_ = head;
  giving_until_ = after(now, limits);
}

void Asking::stopped() {
  opened_.reset();
  giving_.reset();
}

Judged<Permit> Asking::taken_back(const Chain& chain, Instant now) const {
  if (!giving_ || *giving_ != chain.digest() || opened_ != giving_ || now > giving_until_) {
    return refuse(Cause::kNotAsked, Action::kAsk);
  }
  return Permit{.basis = Permit::Basis::kTakenBack, .head = chain.digest(), .until = giving_until_};
}

void Asking::head_changed(const Chain& chain) {
  // Signed on a word, the act that it was for moves the head itself: excuse() comes after.
  if (excuse_ && excuse_->head != chain.digest()) excuse_.reset();
  if (!opened_) return;
  // Its guest is stopped: under a head that changed, starting it is from cold.
  if (giving_ && *giving_ != chain.digest()) return stopped();
  if (!chain.holder_is(self_) || !chain.same_tenure(*opened_)) {
    opened_.reset();
  } else {
    opened_ = chain.digest();
  }
}

void Asking::restarted(Instant now) {
  if (faults_.permission_remembered) return;
  *this = Asking(self_, now, faults_);
}

void Asking::tidy(const Chain&, Instant now) {
  for (Peer& peer : peers_) {
    // One about another head counts still: "sign now" is about the head before the hand-over.
    if (within(peer.sent, now, kAnswerLife) || faults_.answer_used_late) continue;
    peer.question.reset();
    peer.answer.reset();
  }
  if (excuse_ && (excuse_->sites.empty() || now > excuse_->until)) excuse_.reset();
  if (giving_ && now > giving_until_) stopped();
}

void Asking::describe(Instant now, Bytes& to) const {
  const auto byte = [&](uint64_t value) { to.push_back(static_cast<std::byte>(value)); };
  const auto age = [&](Instant at) { byte((now.value - at.value) / (kSecond / 2)); };
  const auto id = [&](ByteSpan bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); };
  for (const Peer& peer : peers_) {
    id(peer.site.span());
    age(last_sign(&peer));
    byte(peer.question.has_value());
    if (peer.question) {
      age(peer.sent);
      id(peer.question->about.span());
    }
    byte(peer.answer.has_value());
    if (peer.answer) {
      const Answer& answer = *peer.answer;
      byte(answer.accepts | answer.whole << 1U | answer.prepared << 2U | answer.in_doubt << 3U);
      id(answer.head.span());
      for (const Digest& rival : answer.rivals) id(rival.span());
      id(answer.line.chain.span());
    }
  }
  age(since_);
  byte(excuse_.has_value());
  if (excuse_) {
    id(excuse_->head.span());
    for (const SiteId& site : excuse_->sites) id(site.span());
  }
  byte(opened_.has_value());
  if (opened_) id(opened_->span());
  byte(giving_.has_value());
  // Over is over, however long since.
  if (giving_) byte(now > giving_until_ ? 255 : (giving_until_.value - now.value) / (kSecond / 2));
}

void Asking::saturate(Instant now, uint64_t oldest) {
  const auto floor = Instant(now.value - std::min(now.value, oldest));
  since_ = std::max(since_, floor);
  for (Peer& peer : peers_) {
    if (peer.heard) peer.heard = std::max(*peer.heard, floor);
    if (peer.answered) peer.answered = std::max(*peer.answered, floor);
    peer.sent = std::max(peer.sent, floor);
  }
  if (excuse_) excuse_->until = after(now, kExcuseLife);
}

}  // namespace hf::title
