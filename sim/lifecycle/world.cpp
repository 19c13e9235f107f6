#include "sim/lifecycle/world.h"

#include <algorithm>
#include <set>

#include "title/testing/keyed_signer.h"

namespace hf::sim::life {

using lifecycle::Act;
using lifecycle::Done;
using lifecycle::Effect;
using lifecycle::Refusal;
using lifecycle::Role;
using lifecycle::Step;
using lifecycle::Way;

namespace {
constexpr uint64_t kMs = 1000;
constexpr uint64_t kSecond = 1'000'000;
constexpr uint64_t kTick = 25 * kMs;

SiteId site_id(uint8_t number) {
  SiteId id;
  id.bytes.fill(std::byte{number});
  return id;
}

crypto::Secret secret(SimRng& rng) {
  crypto::Secret key(crypto::kKeySize);
  rng.fill(key.mutable_span());
  return key;
}
}  // namespace

World::World(const Options& options)
    : fault(options.fault),
      rng(options.seed),
      kek(secret(rng)),
      tracing_(options.tracing),
      real_(options.real_signatures) {
  if (real_) {
    auto known = std::make_unique<title::Ed25519Verifier>();
    for (const SiteId& id : {site_id(0xaa), site_id(0xbb)}) {
      keys_.emplace(id, crypto::SigningKey(secret(rng)));
      signers_[id] = std::make_unique<title::Ed25519Signer>(id, keys_.at(id));
      known->add(id, keys_.at(id).public_key());
    }
    verifier_ = std::move(known);
  } else {
    for (const SiteId& id : {site_id(0xaa), site_id(0xbb)})
      signers_[id] = std::make_unique<title::testing::KeyedSigner>(id);
    verifier_ = std::make_unique<title::testing::KeyedVerifier>();
  }
  a_ = std::make_unique<Site>(*this, "A", site_id(0xaa), rng.fork());
  b_ = std::make_unique<Site>(*this, "B", site_id(0xbb), rng.fork());
  scheduler.run_for(20 * kSecond);  // no vault counts silence from before it began
  tick();
}

World::~World() = default;

const title::Signer& World::signer(const SiteId& site) const { return *signers_.at(site); }
const title::Verifier& World::verifier() const { return *verifier_; }

void World::vm_is(const VmId& vm) {
  vm_ = vm;
  a_->vault.set_vm(vm);
  b_->vault.set_vm(vm);
}

void World::write(const std::string& line) {
  constexpr size_t kTraceMax = 50'000;
  constexpr uint64_t kStart = 1'577'836'800'000'000;
  if (trace_.size() < kTraceMax)
    trace_.push_back(fmt::format("{:>12} µs  {}", scheduler.now().value - kStart, line));
}

// ---- The link -----------------------------------------------------------------------------------

void World::call(Site& from, Site& to, const Question& question, Fate fate, uint64_t limit,
                 std::function<void(std::optional<Reply>)> then) {
  const auto over = std::make_shared<bool>(false);
  const uint64_t life = from.daemon_life();
  const auto end = [over, life, &from, then = std::move(then)](std::optional<Reply> reply) {
    if (std::exchange(*over, true) || from.daemon_life() != life) return;
    then(std::move(reply));
  };
  scheduler.after(limit, [end] { end(std::nullopt); });
  if (!link || fate == Fate::kQuestionLost) return;
  const auto deliver = [this, &from, &to, question, fate, end] {
    if (!link) return;
    to.serve(question, from, [this, fate, end](Reply reply) {
      if (fate == Fate::kAnswerLost) return;
      scheduler.after(rng.between(200, 5000), [this, end, reply = std::move(reply)] {
        if (link) end(reply);
      });
    });
  };
  const uint64_t delay = rng.between(200, 5000);
  // Some come when their asker has long given up, and the world is another one.
  const uint64_t late = rng.chance(1, 3) ? rng.between(5'000, 60'000) : rng.between(500, 4500);
  scheduler.after(fate == Fate::kLate ? delay + late * kMs : delay, deliver);
  if (fate == Fate::kDoubled) scheduler.after(delay + rng.between(1, 3000) * kMs, deliver);
}

void World::cut_link(uint64_t us) {
  note("--- the link is cut for {} ms", us / kMs);
  link = false;
  heal_ = std::max(heal_, scheduler.now().value + us);
  scheduler.after(us, [this] {
    if (link || scheduler.now().value < heal_) return;
    note("--- the link is there again");
    link = true;
    a_->peer_came();
    b_->peer_came();
  });
}

// ---- What is true -------------------------------------------------------------------------------

void World::signed_here(Site& at, const vault::TitleView& view) {
  event();
  const title::Kind kind = view.head->statement().kind;
  note("{}: signed \"{}\"", at.name, to_string(kind));
  if (kind == title::Kind::kTake || kind == title::Kind::kHandOver) ++changes_;
  if (kind == title::Kind::kTake) given_up_ = true;
  if (kind == title::Kind::kGoOn && view.head->statement().follows != newest_) given_up_ = true;
  // True when it was given; its site has come back since.
  if (kind == title::Kind::kTake && other(at).host_up) mistaken_ = true;
  taken_by_ = kind == title::Kind::kTake ? std::optional(at.id) : std::nullopt;
  // Of a VM that somebody took, its giver has asked and knows it, wherever nobody was mistaken.
  if (kind == title::Kind::kHandOver && !mistaken_ && view.head->statement().follows != newest_)
    violated("{}: signs a hand-over, and does not know the newest statement", at.name);
  newest_ = view.head->digest();
  last_word_[at.id] = newest_;
}

// What was signed is followed by what holds in the end, at both sites: by ancestry, not by number.
void World::check_nothing_is_dropped() {
  for (Site* at : {a_.get(), b_.get()}) {
    const auto known = at->title();
    const auto bundle = title::decode_bundle(at->vault.lacking({}));
    if (!known || known->head == nullptr || !bundle.ok()) continue;
    std::map<Digest, title::SignedPtr> all;
    for (const title::SignedPtr& one : *bundle) all[one->digest()] = one;
    if (!all.contains(known->head->digest())) continue;  // more than one bundle holds
    std::set<Digest> before;
    std::vector<Digest> next{known->head->digest()};
    while (!next.empty()) {
      const Digest one = next.back();
      next.pop_back();
      if (!all.contains(one) || !before.insert(one).second) continue;
      next.push_back(all[one]->statement().follows);
      next.push_back(all[one]->statement().beside);
    }
    for (const auto& [by, word] : last_word_)
      if (!before.contains(word))
        violated("{}: what {} last signed is not followed by what holds", at->name, site(by).name);
  }
}

// Two copies run only where a word was mistaken, and only until the one that was taken from hears:
// as long as a daemon and a vault take to come back and to kill a guest.
void World::check_alone(Site& at) {
  Site& peer = other(at);
  if (!at.runs() || !peer.runs()) {
    both_since_ = 0;
    return;
  }
  const uint64_t now = scheduler.now().value;
  const auto mine = at.title();
  const auto theirs = peer.title();
  const bool both_hold = (!mine || mine->held_by(at.id)) && (!theirs || theirs->held_by(peer.id));
  const bool able = at.able() && peer.able();
  if (both_hold || !able) {
    both_since_ = 0;
  } else if (both_since_ == 0) {
    both_since_ = now;
  }
  constexpr uint64_t kFences = 500 * kMs;
  const bool in_time = both_since_ == 0 || now < both_since_ + kFences;
  if (mistaken_ && in_time) return;
  violated("{} runs the VM, and so does {}", at.name, peer.name);
}

void World::opened(Site& at) {
  event();
  note("{}: the gate is open at {} records", at.name, at.data.size());
  check_alone(at);
  if (at.data.size() == 0) violated("{}: opens the VM, and has nothing of it", at.name);
  // A copy that a mistaken word left, and that has not heard of it: what it does counts no more.
  // Nor has one heard of a take by a member whose silence doesn't count: it was still seeded.
  // But none starts from cold what its standby has taken: whoever takes has not been asked for
  // longer than an answer counts.
  if (!knows_newest(at)) {
    const auto mine = at.title();
    const bool taken = taken_by_ && *taken_by_ != at.id && mine;
    if (taken && !at.guest && mine->stands_by(*taken_by_))
      violated("{}: starts from cold what {} has taken", at.name, site(*taken_by_).name);
    mistaken_ = mistaken_ || (taken && !mine->stands_by(*taken_by_));
    if (mistaken_) return;
  }
  if (!given_up_ && !at.data.has(truth_)) {
    violated("{}: the guest was promised {} records, and goes on without them", at.name,
             truth_.position.sequence.value);
  }
  const auto known = at.title();
  if (known && known->head != nullptr && !at.data.has(known->head->statement().line)) {
    violated("{}: the title names a position that is not on its line", at.name);
  }
  given_up_ = false;
  owner_ = at.id;
  truth_ = at.data.end();
}

// What was queued when a fence fell is not started behind it.
void World::guest_started(Site& at) {
  const auto known = at.title();
  if (known && known->head != nullptr && !known->held_by(at.id))
    violated("{}: starts the guest of a VM that it knows to be another's", at.name);
}

void World::promised(Site& at) {
  if (owner_ == at.id) truth_ = at.data.end();
}

// ---- What goes wrong ----------------------------------------------------------------------------

void World::kill(Site& at, Victim victim) {
  switch (victim) {
    case Victim::kNone:
      return;
    case Victim::kDaemon:
      return at.kill_daemon();
    case Victim::kVault:
      return at.kill_vault();
    case Victim::kKeeper:
      return at.kill_keeper();
    case Victim::kHost:
      return at.kill_host(rng.between(500, 12'000) * kMs);
  }
}

void World::hit(Site& at, const Case& which) {
  reached_case_ = true;
  note("*** {}", name_of(which));
  if (which.cut) cut_link(rng.between(1'000, 15'000) * kMs);
  kill(at, which.victim);
}

void World::before(Site& at, Act act, Effect effect) {
  note("{}: {}: {}", at.name, to_string(act), to_string(effect));
  if (scene_kill_ && scene_kill_->act == act && scene_kill_->effect == effect &&
      scene_kill_->when == When::kBefore) {
    scene_kill_.reset();
    at.kill_daemon();
    return;
  }
  if (case_ && !reached_case_ && case_->act == act && case_->effect == effect &&
      case_->when == When::kBefore && case_->victim != Victim::kNone)
    hit(at, *case_);
  if (chaos_ && rng.chance(1, 60)) kill(at, static_cast<Victim>(rng.between(1, 4)));
}

void World::after(Site& at, Act act, Effect effect) {
  if (scene_kill_ && scene_kill_->act == act && scene_kill_->effect == effect &&
      scene_kill_->when == When::kAfter) {
    scene_kill_.reset();
    at.kill_daemon();
    return;
  }
  if (case_ && !reached_case_ && case_->act == act && case_->effect == effect &&
      case_->when == When::kAfter && case_->victim != Victim::kNone)
    hit(at, *case_);
  if (chaos_ && rng.chance(1, 60)) kill(at, static_cast<Victim>(rng.between(1, 4)));
}

Fate World::fate(Site& at, Act act, Effect effect) {
  if (case_ && !reached_case_ && case_->act == act && case_->effect == effect &&
      case_->victim == Victim::kNone) {
    hit(at, *case_);
    return case_->fate;
  }
  if (scene_loses_ == effect) {
    scene_loses_.reset();
    return Fate::kQuestionLost;
  }
  if (chaos_ && rng.chance(1, 12)) return static_cast<Fate>(rng.between(1, 4));
  return Fate::kNone;
}

// ---- The loop -----------------------------------------------------------------------------------

void World::tick() {
  scheduler.after(kTick, [this] { tick(); });
  for (Site* at : {a_.get(), b_.get()}) {
    if (rng.chance(1, 3)) at->guest_works();
    if (ships_) at->ship_to(other(*at));
    at->peer_refuses();
  }
  // Everybody has heard of it: from now on the promises are whole again.
  if (mistaken_ && !a_->job() && !b_->job() && !(a_->runs() && b_->runs()) && knows_newest(*a_) &&
      knows_newest(*b_) && !has_rivals())
    mistaken_ = false;
}

void World::run_for(uint64_t us) {
  const Micros end(scheduler.now().value + us);
  while (!verdict_ && scheduler.next_event() <= end) scheduler.run_one();
  if (!verdict_) scheduler.run_until(end);
}

bool World::run_until(uint64_t limit_us, const std::function<bool()>& what) {
  const uint64_t end = scheduler.now().value + limit_us;
  while (!verdict_ && scheduler.now().value < end) {
    if (what()) return true;
    run_for(100 * kMs);
  }
  return !verdict_ && what();
}

// ---- The operator -------------------------------------------------------------------------------

bool World::runs_alone_and_protected() {
  for (Site* at : {a_.get(), b_.get()}) {
    Site& peer = other(*at);
    const auto mine = at->title();
    const auto theirs = peer.title();
    if (!mine || !theirs || mine->head == nullptr || theirs->head == nullptr) continue;
    if (!at->runs() || at->record.role != Role::kActive || !mine->held_by(at->id)) continue;
    if (!mine->stands_by(peer.id) || mine->head->digest() != theirs->head->digest()) continue;
    return peer.record.role == Role::kStandby && peer.keeper.kind == KeeperKind::kReplica &&
           !peer.keeper.sealed && !peer.guest && at->data.begins_as(peer.data, peer.data.size()) &&
           !at->busy() && !peer.busy();
  }
  return false;
}

void World::start_at(Site& at) {
  at.command({.act = Act::kStart}, {}, [this, &at](const Step& last) {
    const bool silent =
        last.what == Step::What::kRefused && last.refusal == Refusal::kStandbySilent;
    // A word is given where it is true: the other site does not run it, and stays so until it has
    // talked to this one, for nobody gives it a word meanwhile.
    const Site& peer = other(at);
    if (!silent || !knows_newest(at) || peer.guest || peer.host_up || !at.vault.up()) return;
    scheduler.after(100 * kMs, [this, &at] {
      if (!at.vault.up() || other(at).host_up || at.busy()) return;
      at.command({.act = Act::kStart, .without_peer = true}, at.vault.give_word(title::Act::kGoOn));
    });
  });
}

bool World::knows_newest(Site& at) {
  const auto known = at.title();
  return known && known->head != nullptr && known->head->digest() == newest_;
}

void World::take_on_word(Site& by) {
  if (!by.daemon_up || !by.vault.up() || by.busy() || !by.has_vm) return;
  const auto known = by.title();
  if (!known || known->held_by(by.id)) return;
  // Of two words one was wrong: a conflict, which is settled by name.
  if (!knows_newest(by) && !(mistaken_ && rng.chance(1, 3))) return;
  if (other(by).host_up) mistaken_ = true;  // it may run it yet
  by.command({.act = Act::kTakeOver, .source_is_off = true}, by.vault.give_word(title::Act::kTake));
}

// What leads on, as the product's errors name it.
bool World::mend_by_command(Site& at) {
  const auto known = at.title();
  if (!known || known->head == nullptr || !at.daemon_up || at.busy()) return false;
  Site& peer = other(at);
  if (!at.has_vm) return false;
  // "at site B: holdfast vm show", says the one that gave it away; and there: "failover unplanned".
  const auto theirs = peer.title();
  if (!known->held_by(at.id) && at.record.role == Role::kStandby && theirs &&
      theirs->held_by(at.id) && !peer.busy() &&
      theirs->head->statement().epoch > known->head->statement().epoch)
    return at.command({.act = Act::kTakeOver});
  if (!known->held_by(at.id)) return false;
  if (at.record.role == Role::kStandby) return at.command({.act = Act::kTakeOver});
  if (at.record.role != Role::kActive) return false;
  if (!at.guest) {
    start_at(at);
    return true;
  }
  if (!at.runs()) return false;
  const bool stands = at.protection && at.protection->state == lifecycle::Protected::kStands;
  if (stands && peer.has_vm) return false;
  if (stands) return at.command({.act = Act::kWithdraw, .peer = peer.id});  // and protected anew
  // What the other site was left with after it was taken from is in the way there; vm delete,
  // there.
  if (peer.has_vm && peer.record.role == Role::kSuperseded && peer.vault.up()) {
    peer.delete_copy();
    return true;
  }
  if (at.protection && at.protection->state == lifecycle::Protected::kWithdrawing)
    return at.command({.act = Act::kWithdraw, .peer = peer.id});
  return at.command({.act = Act::kProtect, .peer = peer.id});
}

bool World::has_rivals() {
  for (Site* at : {a_.get(), b_.get()}) {
    const auto known = at->title();
    if (known && !known->rivals.empty()) return true;
  }
  return false;
}

// Two words, each true when it was given, or one that was not: two whole lines, a conflict with a
// name, and the command that it names.
bool World::settle_rivals() {
  if (!has_rivals() || !link || !a_->able() || !b_->able()) return false;
  const bool keep_a = a_->runs() || !b_->runs();
  Site& keep = keep_a ? *a_ : *b_;
  Site& lose = other(keep);
  const auto title = lose.title();
  const auto kept = keep.title();
  if (!title || !kept || !kept->held_by(keep.id) || keep.record.role != Role::kActive) {
    lose.talk_to(keep);
    return true;
  }
  if (!title->held_by(lose.id) || !lose.give_up_to(keep)) {
    lose.talk_to(keep);
    return true;
  }
  ++conflicts_;
  owner_ = keep.id;
  given_up_ = false;
  truth_ = keep.data.end();
  newest_ = keep.title()->head->digest();
  return true;
}

void World::operate() {
  if (a_->busy() || b_->busy()) return;
  if (settle_rivals()) return;
  const bool first = rng.chance(1, 2);
  if (!mend_by_command(first ? *a_ : *b_)) mend_by_command(first ? *b_ : *a_);
}

bool World::settle_down(uint64_t limit_us) {
  note("=== everything is mended");
  chaos_ = false;
  ships_ = true;
  fail_guests_ = 0;
  scene_kill_.reset();
  scene_loses_.reset();
  link = true;
  a_->peer_came();
  b_->peer_came();
  a_->mend();
  b_->mend();
  const uint64_t end = scheduler.now().value + limit_us;
  while (!verdict_ && scheduler.now().value < end) {
    if (runs_alone_and_protected()) {
      if (!has_rivals()) check_nothing_is_dropped();
      return !verdict_;
    }
    run_for(rng.between(200, 900) * kMs);
    operate();
  }
  return false;
}

// Statements that nobody may sign: by a key that is not the issuer's, and by who is not entitled.
void World::forge() {
  Site& at = rng.chance(1, 2) ? *a_ : *b_;
  const auto known = at.title();
  if (!known || known->head == nullptr || !at.has_vm) return;
  const title::Statement& head = known->head->statement();
  const SiteId outsider = other(at).id;
  if (head.holder == outsider) return;
  title::Statement next = head;
  next.kind = title::Kind::kHandOver;
  next.follows = known->head->digest();
  next.beside = {};
  next.holder = outsider;
  next.word = title::WordKind::kNone;
  next.epoch = head.epoch.next();
  const bool stolen_key = rng.chance(1, 2);
  next.issuer = stolen_key ? outsider : head.holder;
  if (!head.names(outsider) || next.line.empty()) {
    next.line = at.data.end();
    if (next.line.empty() || !head.names(outsider)) return;
  }
  next.members = head.members.with(outsider, title::Standing::kMember)
                     .with(head.holder, title::Standing::kStandby);
  if (title::out_of_form(next) != nullptr) return;
  struct Wrong final : title::Signer {
    explicit Wrong(const SiteId& id) : issuer(id) {}
    SiteId site() const override { return issuer; }
    crypto::Signature sign(ByteSpan) const override { return {}; }
    SiteId issuer;
  };
  const title::SignedPtr forged = stolen_key ? title::Signed::sign(next, signer(outsider))
                                             : title::Signed::sign(next, Wrong(next.issuer));
  at.learn_forged(outsider, title::encode_bundle(std::vector{forged}));
  const auto after = at.title();
  if (after && after->head != nullptr && after->head->digest() == forged->digest())
    violated("{}: a statement that nobody may sign became the head", at.name);
}

// Its operator hears nothing of it, and the other one's may say so.
void World::lose_site(Site& at) {
  at.kill_host(rng.between(500, 15'000) * kMs);
  if (rng.chance(1, 2)) return;
  scheduler.after(rng.between(1'000, 7'000) * kMs, [this, &at] {
    if (!at.host_up && chaos_) take_on_word(other(at));
  });
}

// A link that is cut is taken for a site that is lost. The one that is taken from works on, and so
// does its operator.
void World::mistake(Site& holder) {
  if (!rng.chance(1, 2) || !link || !holder.host_up || holder.busy()) return;
  const uint64_t cut = rng.between(8'000, 15'000) * kMs;
  if (!holder.guest) {  // just as it starts, and has been answered
    slow_start_ = rng.chance(1, 2);
    holder.command({.act = Act::kStart});
    run_for(rng.between(5, 200) * kMs);
  } else {
    scheduler.after(rng.between(cut / 2, cut), [this, &holder] {
      if (chaos_ && !link) holder.command({.act = rng.chance(2, 3) ? Act::kStop : Act::kStart});
    });
  }
  cut_link(cut);
  take_on_word(other(holder));
  if (rng.chance(1, 2)) return;
  // And its own operator is as wrong about the other one: two sites are told to run it.
  scheduler.after(rng.between(1'000'000, 3'000'000), [this, &holder] {
    if (chaos_ && !link) holder.command({.act = Act::kStop});
  });
  scheduler.after(cut - 500 * kMs, [this, &holder] {
    const auto known = holder.title();
    if (!chaos_ || link || holder.busy() || holder.guest || !known || !known->held_by(holder.id))
      return;
    mistaken_ = true;
    holder.command({.act = Act::kStart, .without_peer = true},
                   holder.vault.give_word(title::Act::kGoOn));
  });
  cut_link(cut + 4 * kSecond);
}

// What is protected anew is lost before all of it is there.
void World::lose_seeding(Site& holder) {
  if (!holder.runs() || !holder.protection || holder.busy() || !link) return;
  holder.command({.act = Act::kWithdraw, .peer = other(holder).id});
  scheduler.after(rng.between(300, 1'500) * kMs, [this, &holder] {
    if (!chaos_ || !holder.daemon_up || holder.protection) return;
    ships_ = rng.chance(1, 2);
    scheduler.after(rng.between(20, 150) * kMs, [this] { ships_ = false; });
    holder.command({.act = Act::kProtect, .peer = other(holder).id});
    scheduler.after(rng.between(500, 2'000) * kMs, [this, &holder] {
      if (chaos_) lose_site(holder);
    });
    scheduler.after(12 * kSecond, [this] { ships_ = true; });
  });
}

void World::misfortune() {
  Site& at = rng.chance(1, 2) ? *a_ : *b_;
  Site& peer = other(at);
  const auto known = at.title();
  const bool holds = known && known->held_by(at.id);
  switch (rng.below(20)) {
    case 0:
      return kill(at, static_cast<Victim>(rng.between(1, 3)));
    case 1:
      return lose_site(holds ? at : peer);
    case 2:
      return cut_link(rng.between(100, 12'000) * kMs);
    case 3:
      return at.guest_stops_itself();
    case 4:
      at.guest_dies();
      return;
    case 5:
      if (holds && at.guest) at.command({.act = Act::kStop});
      return;
    case 6:
      if (rng.chance(1, 2)) return lose_seeding(holds ? at : peer);
      if (holds && at.protection) at.command({.act = Act::kWithdraw, .peer = peer.id});
      return;
    case 7:
      if (rng.chance(1, 2)) at.vault.files().keep_copy();
      return forge();
    case 8:  // its site is gone, and somebody says so
      if (!peer.host_up) return take_on_word(at);
      return;
    case 9:  // somebody is wrong
      return mistake(holds ? at : peer);
    case 10:  // nothing is shipped for a while
      if (!ships_) return;
      ships_ = false;
      scheduler.after(rng.between(500, 14'000) * kMs, [this] { ships_ = true; });
      return;
    case 11:
    case 12:
    case 13:
    case 14:
      for (Site* standby : {&at, &peer})
        if (standby->has_vm && standby->record.role == Role::kStandby)
          standby->command({.act = Act::kTakeOver});
      return;
    default:
      return operate();
  }
}

void World::begin_protected() {
  a_->create();
  a_->command({.act = Act::kStart});
  run_until(60 * kSecond, [this] { return a_->runs() && !a_->busy(); });
  a_->command({.act = Act::kProtect, .peer = b_->id});
  if (!run_until(60 * kSecond, [this] { return runs_alone_and_protected(); }) && !verdict_)
    violated("the VM is not protected in the first place");
}

void World::run_seed() {
  begin_protected();
  chaos_ = true;
  const uint64_t rounds = rng.between(90, 150);
  for (uint64_t round = 0; round < rounds && !verdict_; ++round) {
    run_for(rng.between(50, 1800) * kMs);
    misfortune();
  }
  if (!settle_down(240 * kSecond) && !verdict_) {
    violated("the VM does not come to run, protected: A {} B {}", a_->describe(), b_->describe());
  }
}

// ---- Cases --------------------------------------------------------------------------------------

void World::set_up(const Case& which) {
  Site& a = *a_;
  Site& b = *b_;
  const auto rests = [&] { return !a.busy() && !b.busy(); };
  const auto stop = [&] {
    a.command({.act = Act::kStop});
    run_until(20 * kSecond, rests);
  };
  const bool seeding = which.act == Act::kProtect ||
                       (which.act == Act::kFollow &&
                        (which.effect == Effect::kExchange || which.effect == Effect::kFindLine ||
                         which.effect == Effect::kSign));
  if (!seeding) {
    begin_protected();
  } else {
    a.create();
    a.command({.act = Act::kStart});
    run_until(60 * kSecond, [&] { return a.runs() && rests(); });
  }
  if (which.act == Act::kWithdraw && which.scene == Scene::kRefusedThere)
    refuses_withdrawal_ = true;
  if (which.act == Act::kProtect && which.scene == Scene::kRefusedThere) {
    b.has_vm = true;
    b.record.role = Role::kSuperseded;
  }
  case_ = which;
  switch (which.scene) {
    case Scene::kMistakenTake:
    case Scene::kDaemonMissedIt:
      if (which.scene == Scene::kDaemonMissedIt)
        scene_kill_ = Case{.act = Act::kFence, .effect = Effect::kStoreSuperseded};
      cut_link(14 * kSecond);
      return take_on_word(b);
    case Scene::kStopped:
      stop();
      return start_at(a);
    case Scene::kOtherSiteOff:
      if (which.act == Act::kTakeOver) {
        a.kill_host(25 * kSecond);
        return take_on_word(b);
      }
      if (which.act == Act::kStart) {
        stop();
        b.kill_host(25 * kSecond);
        run_for(7 * kSecond);
        return start_at(a);
      }
      b.kill_host(40 * kSecond);
      run_for(kSecond);
      a.command({.act = Act::kWithdraw, .peer = b.id, .without_peer = true},
                a.vault.give_word(title::Act::kExpel));
      return;
    case Scene::kWithdrawalUnheard:
      scene_loses_ = Effect::kAskWithdrawal;
      a.command({.act = Act::kWithdraw, .peer = b.id});
      return;
    case Scene::kWithdrawalStuck:
      link = false;
      a.command({.act = Act::kWithdraw, .peer = b.id});
      run_until(20 * kSecond, rests);
      link = true;
      b.command({.act = Act::kTakeOver});
      return;
    case Scene::kTailStuck:
      ships_ = false;
      scheduler.after(16 * kSecond, [this] { ships_ = true; });
      run_until(5 * kSecond, [&] { return a.data.size() > b.data.size() + 3; });
      b.command({.act = Act::kTakeOver});
      return;
    case Scene::kSourceComesBack:
      a.kill_daemon();
      return take_on_word(b);
    case Scene::kGuestDiesInStart:
      fail_guests_ = 1;
      if (which.act == Act::kTakeOver) {
        b.command({.act = Act::kTakeOver});
      } else {
        stop();
        start_at(a);
      }
      return;
    case Scene::kGuestAlone:
      a.guest_dies();
      return start_at(a);
    case Scene::kTakenNotRun:
      case_.reset();
      scene_kill_ =
          Case{.act = Act::kTakeOver, .effect = Effect::kStoreTaken, .when = When::kAfter};
      b.command({.act = Act::kTakeOver});
      run_until(20 * kSecond,
                [&] { return b.record.role == Role::kActive && b.daemon_up && !b.busy(); });
      case_ = which;
      return start_at(b);
    case Scene::kSealLeft:
      scene_kill_ =
          Case{.act = Act::kTakeOver, .effect = Effect::kSealReplica, .when = When::kAfter};
      a.kill_host(15 * kSecond);
      return take_on_word(b);
    case Scene::kReplicaDown:
      b.lose_replica_unit();
      b.command({.act = Act::kTakeOver});
      return;
    case Scene::kPlain:
    case Scene::kRefusedThere:
      break;
  }
  switch (which.act) {
    case Act::kStop:
      a.command({.act = Act::kStop});
      return;
    case Act::kWithdraw:
      a.command({.act = Act::kWithdraw, .peer = b.id});
      return;
    case Act::kProtect:
      a.command({.act = Act::kProtect, .peer = b.id});
      return;
    default:
      if (seeding) {
        a.command({.act = Act::kProtect, .peer = b.id});
      } else {
        b.command({.act = Act::kTakeOver});
      }
  }
}

void World::run_case(const Case& which) {
  set_up(which);
  run_until(45 * kSecond, [this] { return reached_case_; });
  run_for(rng.between(200, 12'000) * kMs);
  if (!reached_case_) {
    if (!verdict_) violated("the case is not reached: {}", name_of(which));
    return;
  }
  if (!settle_down(240 * kSecond) && !verdict_) {
    violated("the VM does not come to run, protected: A {} B {}", a_->describe(), b_->describe());
  }
}

}  // namespace hf::sim::life
