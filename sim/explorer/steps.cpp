// Every step from a world. The rules are the product's (title/judge.h): a step is offered when the
// judge lets the site sign, release or open, and only then.
#include <algorithm>

#include "explorer/world.h"
#include "title/testing/keyed_signer.h"

namespace hf::explorer {

namespace {

constexpr uint64_t kGivingLimit = 4 * kSecond;

class Walker {
 public:
  Walker(const World& world, const Bounds& bounds, bool repairs_only,
         const std::function<void(Step&&)>& take)
      : w_(world), bounds_(bounds), repairs_only_(repairs_only), take_(take) {}

  void walk() {
    tick();
    link();
    for (int s = 0; s < count(); ++s) {
      if (!at(w_, s).exists) continue;
      disasters(s);
      if (!at(w_, s).up) continue;
      messages(s);
      if (at(w_, s).chain.empty()) continue;
      runs(s);
      lets_go(s);
      if (room()) {
        holder_signs(s);
        takes(s);
        settles(s);
      }
    }
  }

 private:
  int count() const { return static_cast<int>(w_.site.size()); }
  static const Site& at(const World& w, int s) { return w.site[static_cast<size_t>(s)]; }
  static Site& at(World& w, int s) { return w.site[static_cast<size_t>(s)]; }
  static SiteId id(const World& w, int s) { return at(w, s).chain.self(); }
  static std::string name(int s) { return std::string(1, static_cast<char>('A' + s)); }
  bool room() const {
    return w_.statements < bounds_.statements + (repairs_only_ ? bounds_.repairs : 0);
  }
  void add(World&& to, std::string text, bool good) {
    if (repairs_only_ && !good) return;
    settle(to);
    take_({std::move(to), std::move(text), good});
  }
  // Forgets what makes no difference any more, so that worlds that differ in nothing else are one
  // (`--check-cut` walks with and without, and finds the same cores and dead ends):
  // - what Asking itself forgets (its tidy()), and times beyond every limit;
  // - a question on its way that is too old: its answer counts nowhere, and what else it would
  //   bring, "learns from" brings;
  // - an answer on its way that counts nowhere any more, or was taken, with no statement that its
  //   receiver lacks: to deliver it (again) changes nothing.
  void settle(World& t) const {
    for (Site& site : t.site) {
      if (!site.exists) continue;
      if (!bounds_.uncut) site.asking.tidy(site.chain, t.now);
      site.asking.saturate(t.now, kOldest);
      if (site.phase != Phase::kReleased) site.released.reset();
      if (site.released && t.now.value - site.released->value > kOldest) {
        site.released = Instant(t.now.value - kOldest);
      }
      const auto over = [&](const std::optional<Instant>& at, uint64_t span) {
        return at && t.now.value - at->value > span;
      };
      if (over(site.handed, kAnswerLife)) site.handed.reset();
      if (over(site.giving, kGivingLimit)) site.giving.reset();
    }
    if (bounds_.uncut && !repairs_only_) return;
    for (size_t from = 0; from < t.site.size(); ++from) {
      for (size_t to = 0; to < t.site.size(); ++to) {
        auto& asked = t.question[from][to];
        if (asked && (repairs_only_ || !t.site[from].asking.awaits_question(*asked))) asked.reset();
        MessagePtr& message = t.answer[from][to];
        if (message == nullptr) continue;
        const bool moot = !t.site[to].asking.awaits(message->answer.answer) ||
                          t.site[to].asking.answer(id(t, static_cast<int>(from)), t.now) != nullptr;
        const bool known = std::ranges::all_of(message->bundle, [&](const SignedPtr& statement) {
          return t.site[to].chain.find(statement->digest()) != nullptr;
        });
        if (repairs_only_ || (moot && known)) message.reset();
      }
    }
  }
  Judge judge(int s) const {
    const Site& me = at(w_, s);
    return Judge(me.chain, me.asking, me.chain.digest(), w_.now, Micros(0));
  }
  OwnLine own(int s) const {
    const Site& me = at(w_, s);
    OwnLine own{.end = w_.line(me.line), .whole = me.line >= 0};
    for (int x = me.line; x >= 0; x = w_.parent[static_cast<size_t>(x)]) {
      own.holds.push_back(w_.line(x));
    }
    return own;
  }
  Stillness still(int s) const {
    const bool off = at(w_, s).phase == Phase::kOff;
    return {.keepers_dead = off, .qemu_reaped = off};
  }

  // What a changed head does at once.
  static void fence(Site& me) {
    if (!me.chain.holder_is(me.chain.self())) {
      me.phase = Phase::kOff;
      me.excused = 0;
      me.handed.reset();
      me.giving.reset();
    }
    me.asking.head_changed(me.chain);
  }
  World sign(int s, const Statement& statement, const Word* word = nullptr) {
    World t = w_;
    Site& me = at(t, s);
    const title::testing::KeyedSigner signer(me.chain.self());
    const SignedPtr own = Signed::sign(statement, signer);
    me.chain.add_own(own, Micros(0));
    me.issued.push_back(own->digest());
    ++t.statements;
    me.handed.reset();
    fence(me);
    if (word != nullptr && statement.holder == me.chain.self() && statement.kind != Kind::kExpel) {
      me.asking.excuse(*word, own->digest(), t.now);
      if (me.phase != Phase::kRunning) me.excused = bits(*word);
    }
    return t;
  }
  uint8_t bits(const Word& word) const {
    unsigned out = 0;
    for (int p = 0; p < count(); ++p) {
      if (word.names(id(w_, p))) out |= 1U << p;
    }
    return static_cast<uint8_t>(out);
  }

  void hear(World& t, int s, int from) const {
    at(t, s).asking.heard(id(t, from), t.now);
    at(t, s).excused &= static_cast<uint8_t>(~(1U << from));
  }

  // Time: who can talk is heard of, by the keepers' signs of life.
  void tick() {
    World t = w_;
    t.now = Instant(t.now.value + (repairs_only_ || bounds_.at_once ? kOldest : kTick));
    for (int a = 0; a < count(); ++a) {
      for (int b = 0; b < count(); ++b) {
        if (a == b || !t.talk(a, b) || at(t, a).chain.empty() || at(t, b).chain.empty()) continue;
        hear(t, a, b);
      }
    }
    add(std::move(t), "two seconds pass", true);
  }

  void link() {
    World t = w_;
    t.link = !w_.link;
    add(std::move(t), w_.link ? "link cut" : "link back", !w_.link);
  }

  void disasters(int s) {
    const Site& me = at(w_, s);
    if (!me.up) {
      World t = w_;
      at(t, s).up = true;
      at(t, s).asking.restarted(t.now);
      add(std::move(t), "restart " + name(s), true);
    }
    if (repairs_only_) return;
    if (me.up && w_.crashes < bounds_.crashes) {
      World t = w_;
      crash(t, s);
      at(t, s).up = false;
      at(t, s).phase = Phase::kOff;
      add(std::move(t), "crash " + name(s), false);
      if (bounds_.at_once) return lose(s);
      // The vault's process alone: guests go on, and what is in memory only is gone.
      World v = w_;
      crash(v, s);
      if (at(v, s).phase == Phase::kReleased) at(v, s).phase = Phase::kOff;
      at(v, s).asking.restarted(v.now);
      add(std::move(v), "vault of " + name(s) + " restarts", false);
    }
    lose(s);
  }
  void lose(int s) {
    const Site& me = at(w_, s);
    if (bounds_.losses && !w_.destroyed) {
      World t = w_;
      crash(t, s);
      at(t, s) = Site(me.chain.vm(), me.chain.self(), t.now, bounds_.faults);
      at(t, s).exists = at(t, s).up = false;
      for (int p = 0; p < count(); ++p) {
        t.question[static_cast<size_t>(p)][static_cast<size_t>(s)].reset();
        t.answer[static_cast<size_t>(p)][static_cast<size_t>(s)].reset();
      }
      t.destroyed = true;
      t.crashes = w_.crashes;
      add(std::move(t), "destroy " + name(s), false);
    }
  }
  static void crash(World& t, int s) {
    Site& me = at(t, s);
    me.excused = 0;
    me.handed.reset();
    me.giving.reset();
    ++t.crashes;
    for (auto& asked : t.question[static_cast<size_t>(s)]) asked.reset();
  }

  static void learn(World& t, int s, std::span<const SignedPtr> bundle, int from) {
    Site& me = at(t, s);
    const title::testing::KeyedVerifier verifier;
    const Digest was = me.chain.empty() ? Digest{} : me.chain.digest();
    me.chain.learn(bundle, id(t, from), verifier, t.now, Micros(0));
    if (me.chain.empty() || me.chain.digest() == was) return;
    me.handed.reset();
    fence(me);
  }
  std::vector<SignedPtr> bundle(int from, int to) const {
    const Chain& theirs = at(w_, from).chain;
    const Chain& ours = at(w_, to).chain;
    if (theirs.empty()) return {};
    const bool named =
        theirs.title().names(ours.self()) || (!ours.empty() && ours.title().names(theirs.self()));
    if (!named) return {};
    std::vector<Digest> known;
    if (!ours.empty()) known.push_back(ours.digest());
    return theirs.lacking(known);
  }

  // In the layer of repairs a question and its answers are one step: a way on is one that exists,
  // and one on which nothing is late will do.
  void ask_at_once(int s, std::optional<int> only = std::nullopt) {
    World t = w_;
    const auto meant = [&](int p) { return p != s && (!only || *only == p); };
    for (int p = 0; p < count(); ++p) {
      if (meant(p) && w_.talk(s, p)) learn(t, s, bundle(p, s), p);
    }
    if (at(t, s).chain.empty()) return;
    for (int p = 0; p < count(); ++p) {
      if (!meant(p)) continue;
      const Question question =
          at(t, s).asking.ask(at(t, s).chain, id(w_, p), fresh_nonce(), t.now);
      if (!w_.talk(s, p)) continue;
      const Answer said = answer_of(p, question);
      const title::testing::KeyedSigner signer(id(w_, p));
      const title::testing::KeyedVerifier verifier;
      at(t, p).asking.answered(id(w_, s), w_.now);
      hear(t, p, s);
      hear(t, s, p);
      (void)at(t, s).asking.take_answer(SignedAnswer::sign(said, signer), verifier, t.now);
    }
    for (int p = 0; p < count(); ++p) {
      if (meant(p) && w_.talk(s, p)) noted_handed(t, s, p);
    }
    add(std::move(t), name(s) + " asks " + (only ? name(*only) : "") + " and is answered", true);
  }

  void messages(int s) {
    if (repairs_only_) return ask_at_once(s);
    if (bounds_.at_once) {
      for (int p = 0; p < count(); ++p) {
        if (p != s) ask_at_once(s, p);
      }
      return;
    }
    ask(s);
    for (int p = 0; p < count(); ++p) {
      if (p == s) continue;
      const auto from = static_cast<size_t>(p);
      const auto to = static_cast<size_t>(s);
      if (w_.question[from][to] && w_.talk(s, p)) answer(s, p, *w_.question[from][to]);
      // What is on its way arrives whenever it likes, link or no link, and as often.
      if (w_.answer[from][to] != nullptr) {
        World t = w_;
        take_answer(t, s, p);
        add(std::move(t), name(s) + " gets the answer of " + name(p), true);
      }
      if (w_.talk(s, p)) {
        World t = w_;
        learn(t, s, bundle(p, s), p);
        if (!at(t, s).chain.empty()) {
          hear(t, s, p);
          add(std::move(t), name(s) + " learns from " + name(p), true);
        }
      }
    }
  }
  void ask(int s) {
    const Site& me = at(w_, s);
    if (me.chain.empty()) return;
    World t = w_;
    for (int p = 0; p < count(); ++p) {
      if (p == s) continue;
      const Question question = at(t, s).asking.ask(me.chain, id(w_, p), fresh_nonce(), w_.now);
      auto& sent = t.question[static_cast<size_t>(s)][static_cast<size_t>(p)];
      sent.reset();
      if (w_.talk(s, p)) sent = question;
    }
    add(std::move(t), name(s) + " asks", true);
  }
  static Nonce fresh_nonce() {
    static uint64_t last = 0;
    Nonce nonce;
    store_le(nonce.bytes.data(), ++last);
    return nonce;
  }
  Answer answer_of(int s, const Question& question) const {
    const Site& me = at(w_, s);
    Answer said = answer_from(me.chain, question);
    said.accepts = true;
    said.whole = said.prepared = me.line >= 0;
    said.line = w_.line(me.line);
    return said;
  }
  void answer(int s, int asker, const Question& question) {
    World t = w_;
    const Site& me = at(w_, s);
    const Answer said = answer_of(s, question);
    const title::testing::KeyedSigner signer(me.chain.self());
    at(t, s).asking.answered(id(w_, asker), w_.now);
    hear(t, s, asker);
    t.answer[static_cast<size_t>(s)][static_cast<size_t>(asker)] = std::make_shared<const Message>(
        Message{SignedAnswer::sign(said, signer), bundle(s, asker)});
    t.question[static_cast<size_t>(asker)][static_cast<size_t>(s)].reset();
    add(std::move(t), name(s) + " answers " + name(asker), true);
  }
  void take_answer(World& t, int s, int from) const {
    const Message& message = *w_.answer[static_cast<size_t>(from)][static_cast<size_t>(s)];
    const title::testing::KeyedVerifier verifier;
    learn(t, s, message.bundle, from);
    Site& me = at(t, s);
    if (!me.asking.take_answer(message.answer, verifier, t.now)) return;
    me.excused &= static_cast<uint8_t>(~(1U << from));
    noted_handed(t, s, from);
  }
  // The giver itself has just said so.
  void noted_handed(World& t, int s, int from) const {
    Site& me = at(t, s);
    const Answer* said = me.asking.answer(id(t, from), t.now);
    const Statement& title = me.chain.title();
    if (said != nullptr && title.kind == Kind::kHandOver && title.holder == me.chain.self() &&
        title.issuer == said->from && said->head == me.chain.digest()) {
      me.handed = t.now;
    }
  }

  void runs(int s) {
    const Site& me = at(w_, s);
    if (me.phase == Phase::kOff && me.line >= 0 && !bounds_.at_once && judge(s).may_release()) {
      World t = w_;
      at(t, s).phase = Phase::kReleased;
      at(t, s).released = t.now;
      add(std::move(t), name(s) + " begins to start", true);
    }
    const Phase before_open = bounds_.at_once ? Phase::kOff : Phase::kReleased;
    if (me.phase == before_open && judge(s).may_open(own(s))) {
      const bool long_start =
          bounds_.at_once || (me.released && w_.now.value - me.released->value >= kOldest);
      World t = w_;
      Site& mine = at(t, s);
      mine.phase = Phase::kRunning;
      mine.asking.opened(mine.chain.digest());
      mine.excused = 0;
      mine.handed.reset();
      mine.giving.reset();
      add(std::move(t), name(s) + " opens its gate", long_start);
    }
    if (me.phase != Phase::kRunning) return;
    World t = w_;
    Site& mine = at(t, s);
    mine.phase = Phase::kOff;
    mine.asking.giving(mine.chain.digest(), kGivingLimit, t.now);
    mine.giving = t.now;
    add(std::move(t), name(s) + " stops, to hand over", true);
    if (w_.writes <= bounds_.writes) {
      World n = w_;
      n.parent[static_cast<size_t>(n.writes)] = me.line;
      at(n, s).line = n.writes;
      at(n, s).holds |= static_cast<uint8_t>(1U << n.writes);
      ++n.writes;
      add(std::move(n), name(s) + " writes", false);
    }
  }

  // A line here becomes another one. What it loses is kept where the judge asks for it.
  void switch_line(World& t, int s, int to) const {
    Site& me = at(t, s);
    const bool loses = !t.prefix(me.line, to);
    if (loses && !judge(s).may_switch_line(true, false)) {
      me.branches |= static_cast<uint8_t>(1U << me.line);
    }
    me.line = static_cast<int8_t>(to);
    for (int x = to; x >= 0; x = t.parent[static_cast<size_t>(x)]) {
      me.holds |= static_cast<uint8_t>(1U << x);
    }
  }

  void holder_signs(int s) {
    const Site& me = at(w_, s);
    if (const auto signable = judge(s).may_resign()) {
      add(sign(s, *signable), name(s) + " resigns", false);
    }
    rewind(s);
    if (!me.chain.holder_is(me.chain.self())) return;
    for (int p = 0; p < count(); ++p) {
      if (p == s) continue;
      if (const auto signable = judge(s).may_protect(id(w_, p))) {
        add(sign(s, *signable), "protect " + name(s) + " to " + name(p), true);
      }
      if (const auto signable = judge(s).may_stand_by(id(w_, p), own(s))) {
        add(sign(s, *signable), name(p) + " stands by", true);
      }
      if (const auto signable = judge(s).may_hand_over(id(w_, p), own(s), still(s), nullptr)) {
        add(sign(s, *signable), "hand over " + name(s) + " to " + name(p), true);
      }
      expel(s, p);
      if (at(w_, p).chain.empty() || !w_.talk(s, p)) continue;
      if (at(w_, p).line != me.line && !at(w_, p).chain.has_rivals() &&
          judge(s).may_ship(id(w_, p), at(w_, p).chain.digest())) {
        World t = w_;
        switch_line(t, p, me.line);
        add(std::move(t), "ship " + name(s) + " to " + name(p), true);
      }
    }
  }
  void rewind(int s) {
    const Site& me = at(w_, s);
    const int back = me.line < 0 ? -1 : w_.parent[static_cast<size_t>(me.line)];
    if (back < 0 || !me.chain.holder_is(me.chain.self())) return;
    const Word word{.vm = me.chain.vm(),
                    .head = me.chain.digest(),
                    .act = Act::kRewind,
                    .kind = WordKind::kWritesGivenUp,
                    .line = w_.line(back)};
    // Kept first where the judge asks for it, and only there.
    const bool kept = !judge(s).may_rewind(w_.line(back), own(s), still(s), false, &word);
    if (const auto signable = judge(s).may_rewind(w_.line(back), own(s), still(s), kept, &word)) {
      World t = sign(s, *signable);
      if (kept) at(t, s).branches |= static_cast<uint8_t>(1U << me.line);
      at(t, s).line = static_cast<int8_t>(back);
      add(std::move(t), name(s) + " goes back", false);
    }
  }
  void expel(int s, int p) {
    if (const auto signable = judge(s).may_expel(id(w_, p), nullptr)) {
      add(sign(s, *signable), name(s) + " expels " + name(p) + " unasked", false);
    }
    const Word word = word_of(s, Act::kExpel, WordKind::kLostForGood);
    if (!may_say(word)) return;
    if (const auto signable = judge(s).may_expel(id(w_, p), &word)) {
      const bool gone = !at(w_, p).exists;
      World t = sign(s, *signable);
      said(t, gone, gone);
      add(std::move(t), name(s) + " expels " + name(p) + (gone ? "" : " (mistaken)"), gone);
    }
  }

  // ---- Words ----
  Word word_of(int s, Act act, WordKind kind) const {
    const Site& me = at(w_, s);
    Word word{.vm = me.chain.vm(),
              .head = me.chain.digest(),
              .act = act,
              .kind = kind,
              .line = w_.line(me.line)};
    for (int p = 0; p < count(); ++p) {
      if (p != s && me.asking.silent(id(w_, p), w_.now)) word.silent.push_back(id(w_, p));
    }
    return word;
  }
  bool may_say(const Word& word) const {
    // That a site is lost which is lost may always be said: it is how one goes on.
    return !word.silent.empty() && (repairs_only_ || lost(word) || w_.words < bounds_.words);
  }
  void said(World& t, bool truth, bool gone) const {
    if (!repairs_only_ && !gone) ++t.words;
    if (!truth) t.mistaken = true;
  }
  // "It does not run the VM, and stays off until it has talked to this site", of each that is
  // named.
  bool off_until_it_talks(int s, const Word& word) const {
    const Site& me = at(w_, s);
    for (int p = 0; p < count(); ++p) {
      const Site& other = at(w_, p);
      if (p == s || !other.exists || !word.names(id(w_, p))) continue;
      if (other.phase == Phase::kRunning) return false;
      const auto recent = [&](const std::optional<Instant>& since, uint64_t span) {
        return since && w_.now.value - since->value <= span;
      };
      if (other.up && ((other.excused >> s & 1) != 0 || recent(other.handed, kAnswerLife) ||
                       recent(other.giving, kGivingLimit))) {
        return false;
      }
      if (other.chain.empty()) continue;
      // It would start without asking this site.
      const Statement& title = other.chain.title();
      if (title.holder == id(w_, p) && !title.is_standby(id(w_, s))) return false;
      // It is the holder as far as anyone this site can't hear knows, and asks nobody for it here.
      if (me.chain.holder_is(id(w_, p)) && !me.chain.title().is_standby(id(w_, s)) &&
          !other.chain.follows(other.chain.digest(), me.chain.digest())) {
        return false;
      }
    }
    return true;
  }
  bool lost(const Word& word) const {
    for (int p = 0; p < count(); ++p) {
      if (at(w_, p).exists && word.names(id(w_, p))) return false;
    }
    return true;
  }

  void takes(int s) {
    struct Taken {
      Act act;
      WordKind kind;
      const char* text;
    };
    for (const Taken& how :
         {Taken{Act::kTake, WordKind::kSourceIsOff, " takes"},
          Taken{Act::kGoOn, WordKind::kWithoutPeer, " goes on without its peer"},
          Taken{Act::kTakeOver, WordKind::kLostForGood, " takes over a rival"}}) {
      if (how.act != Act::kTakeOver && at(w_, s).phase != Phase::kOff) continue;
      Word word = word_of(s, how.act, how.kind);
      if (bounds_.faults.not_asked_before_start && word.silent.empty()) {
        for (int p = 0; p < count(); ++p) {
          if (p != s) word.silent.push_back(id(w_, p));
        }
      }
      if (!may_say(word)) continue;
      const auto signable = how.act == Act::kTake   ? judge(s).may_take(own(s), &word, 0)
                            : how.act == Act::kGoOn ? judge(s).may_go_on(own(s), &word)
                                                    : judge(s).may_take_over(own(s), &word);
      if (!signable) continue;
      const bool gone = lost(word);
      const bool truth = how.act == Act::kTakeOver ? gone : off_until_it_talks(s, word);
      World t = sign(s, *signable, &word);
      said(t, truth, gone);
      add(std::move(t), name(s) + how.text + (truth ? "" : " (mistaken)"), gone);
    }
  }

  // What leads on without a signature.
  void lets_go(int s) {
    const Site& me = at(w_, s);
    if (me.chain.in_doubt() && judge(s).may_settle_doubt(nullptr)) {
      World t = w_;
      at(t, s).chain.clear_doubt();
      add(std::move(t), name(s) + " is in doubt no more", true);
    }
    if (!judge(s).may_let_go()) return;
    World t = w_;
    Site& mine = at(t, s);
    const uint8_t holds = mine.holds;
    const auto kept = static_cast<uint8_t>(mine.branches | (me.line >= 0 ? 1U << me.line : 0U));
    mine = Site(me.chain.vm(), me.chain.self(), t.now, bounds_.faults);
    mine.holds = holds;
    mine.branches = kept;  // the new VM
    for (auto& asked : t.question[static_cast<size_t>(s)]) asked.reset();
    add(std::move(t), name(s) + " makes a new VM of its copy", true);
  }

  void settles(int s) {
    if (!at(w_, s).chain.has_rivals()) return;
    if (const auto signable = judge(s).may_join(own(s))) {
      add(sign(s, *signable), name(s) + " joins its titles", true);
    }
    // To give up is to stop first.
    if (const auto signable = judge(s).may_give_up({.keepers_dead = true, .qemu_reaped = true})) {
      add(sign(s, *signable), name(s) + " gives up", true);
    }
  }

  const World& w_;
  const Bounds& bounds_;
  bool repairs_only_;
  const std::function<void(Step&&)>& take_;
};

}  // namespace

void for_each_step(const World& world, const Bounds& bounds, bool repairs_only,
                   const std::function<void(Step&&)>& take) {
  Walker(world, bounds, repairs_only, take).walk();
}

}  // namespace hf::explorer
