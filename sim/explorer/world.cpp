#include "explorer/world.h"

#include <algorithm>

#include "title/testing/keyed_signer.h"

namespace hf::explorer {

namespace {

SiteId site_id(int site) {
  SiteId id;
  id.bytes[0] = static_cast<std::byte>(site + 1);
  return id;
}

void put(std::string& to, ByteSpan bytes) { to += as_text(bytes); }

}  // namespace

bool World::talk(int a, int b) const {
  const Site& one = site[static_cast<size_t>(a)];
  const Site& two = site[static_cast<size_t>(b)];
  return link && one.exists && two.exists && one.up && two.up;
}

bool World::prefix(int a, int b) const {
  if (a < 0) return true;
  for (int at = b; at >= 0; at = parent[static_cast<size_t>(at)]) {
    if (at == a) return true;
  }
  return false;
}

Line World::line(int write) const {
  Line line;
  if (write < 0) return line;
  uint64_t depth = 0;
  for (int at = write; at >= 0; at = parent[static_cast<size_t>(at)]) ++depth;
  line.position.incarnation.bytes[0] = std::byte{1};
  line.position.sequence = Sequence(depth);
  line.chain.bytes[0] = static_cast<std::byte>(write + 1);
  return line;
}

int World::write_of(const Line& line) const {
  return std::to_integer<int>(line.chain.bytes[0]) - 1;
}

std::string World::key() const {
  std::string key;
  key.reserve(1024);
  Bytes memory;
  for (const Site& s : site) {
    key += static_cast<char>(s.exists | s.up << 1 | static_cast<int>(s.phase) << 2);
    if (!s.exists) continue;
    key += static_cast<char>(s.line);
    key += static_cast<char>(s.branches);
    key += static_cast<char>(s.holds);
    key += static_cast<char>(s.excused);
    for (const auto& at : {s.handed, s.giving, s.released}) {
      key += static_cast<char>(at ? (now.value - at->value) / kSecond : 99);
    }
    key += static_cast<char>(s.chain.in_doubt());
    if (!s.chain.empty()) {
      put(key, s.chain.digest().span());
      for (const SignedPtr& rival : s.chain.rivals()) put(key, rival->digest().span());
    }
    key += '|';
    memory.clear();
    if (s.up) s.asking.describe(now, memory);
    put(key, memory);
  }
  for (size_t from = 0; from < site.size(); ++from) {
    for (size_t to = 0; to < site.size(); ++to) {
      const auto& asked = question[from][to];
      key += static_cast<char>(asked.has_value());
      if (asked) put(key, asked->about.span());
      const MessagePtr& message = answer[from][to];
      key += static_cast<char>(message != nullptr);
      if (message == nullptr) continue;
      const Answer& said = message->answer.answer;
      key += static_cast<char>(site[to].asking.awaits(said));
      key += static_cast<char>(said.whole | said.prepared << 1 | said.accepts << 2);
      key += static_cast<char>(write_of(said.line));
      put(key, said.about.span());
      put(key, said.head.span());
      for (const Digest& rival : said.rivals) put(key, rival.span());
      for (const SignedPtr& statement : message->bundle) put(key, statement->digest().span());
    }
  }
  for (int w = 0; w < writes; ++w) key += static_cast<char>(parent[static_cast<size_t>(w)]);
  for (const int n : {int{statements}, int{crashes}, int{words}}) key += static_cast<char>(n);
  key += static_cast<char>(link | destroyed << 1 | mistaken << 2);
  return key;
}

std::string World::core() const {
  std::string core;
  for (const Site& s : site) {
    core += static_cast<char>(s.exists | s.up << 1 | static_cast<int>(s.phase) << 2);
    for (const int n : {int{s.line}, int{s.branches}, int{s.holds}}) core += static_cast<char>(n);
    core += static_cast<char>(s.chain.in_doubt());
    if (s.chain.empty()) continue;
    put(core, s.chain.digest().span());
    for (const SignedPtr& rival : s.chain.rivals()) put(core, rival->digest().span());
    core += '|';
  }
  for (int w = 0; w < writes; ++w) core += static_cast<char>(parent[static_cast<size_t>(w)]);
  core += static_cast<char>(link | destroyed << 1 | mistaken << 2);
  return core;
}

World first_world(const Bounds& bounds) {
  World w;
  Digest origin;
  origin.bytes[0] = std::byte{1};
  const title::testing::KeyedSigner signer(site_id(0));
  const title::testing::KeyedVerifier verifier;
  std::vector<SignedPtr> all{Signed::sign(make_create(site_id(0), origin, 0, Micros(0)), signer)};
  const VmId vm = all[0]->vm();
  const Instant long_ago(w.now.value - kOldest);
  for (int s = 0; s < bounds.sites; ++s) {
    w.site.emplace_back(vm, site_id(s), long_ago, bounds.faults);
  }
  w.parent[0] = -1;
  w.writes = 1;  // the disk as it was made
  if (bounds.protected_at_first) {
    for (int s = 1; s < bounds.sites; ++s) {
      for (const Kind kind : {Kind::kProtect, Kind::kStandBy}) {
        const Statement& last = all.back()->statement();
        Statement next = last;
        next.kind = kind;
        next.vm = vm;
        next.follows = all.back()->digest();
        next.origin = {};
        next.line = w.line(0);
        next.members = members_after(kind, site_id(0), site_id(s), {.follows = last});
        all.push_back(Signed::sign(next, signer));
      }
    }
  }
  for (int s = 0; s < bounds.sites; ++s) {
    Site& site = w.site[static_cast<size_t>(s)];
    if (s > 0 && !bounds.protected_at_first) continue;
    const Learned learned = site.chain.learn(all, site_id(0), verifier, w.now, Micros(0));
    HF_ASSERT(learned.last == Outcome::kHead);
    site.chain.clear_doubt();  // at A: they are its own, and it lacked them
    site.line = 0;
    site.holds = 1;
    for (int p = 0; p < bounds.sites; ++p) {
      if (p != s) site.asking.heard(site_id(p), w.now);
    }
  }
  if (bounds.taken_at_first) {
    const int taker = bounds.sites - 1;
    Site& site = w.site[static_cast<size_t>(taker)];
    const Statement& last = all.back()->statement();
    Statement next = last;
    next.kind = Kind::kTake;
    next.word = WordKind::kSourceIsOff;
    next.follows = all.back()->digest();
    next.issuer = next.holder = site_id(taker);
    next.epoch = last.epoch.next();
    next.members = members_after(Kind::kTake, site_id(taker), {}, {.follows = last});
    const SignedPtr take = Signed::sign(next, title::testing::KeyedSigner(site_id(taker)));
    site.chain.add_own(take, Micros(0));
    site.issued.push_back(take->digest());
  }
  for (const SignedPtr& statement : all) w.site[0].issued.push_back(statement->digest());
  return w;
}

const char* broken(const World& w) {
  int running = 0;
  unsigned had = 0;
  unsigned has = 0;
  for (const Site& s : w.site) {
    running += s.phase == Phase::kRunning;
    if (!s.exists) continue;
    had |= s.holds;
    for (int e = 0; e < w.writes; ++e) {
      if (s.line != e && (s.branches >> e & 1) == 0) continue;
      for (int x = e; x >= 0; x = w.parent[static_cast<size_t>(x)]) has |= 1U << x;
    }
  }
  for (const Site& s : w.site) {
    if (!s.exists || s.chain.empty()) continue;
    for (const Digest& issued : s.issued) {
      if (!s.chain.follows(s.chain.digest(), issued)) return "followed";
    }
    const Statement& title = s.chain.title();
    if (title.holder == s.chain.self() && !title.line.empty() &&
        !w.prefix(w.write_of(title.line), s.line)) {
      return "has-data";
    }
  }
  if (running > 1 && !w.mistaken) return "one-runs";
  if ((had & ~has) != 0) return "kept";
  return nullptr;
}

bool reached(const World& w) {
  int living = 0;
  for (const Site& s : w.site) living += s.exists;
  for (size_t s = 0; s < w.site.size(); ++s) {
    const Site& me = w.site[s];
    if (me.phase != Phase::kRunning || !me.chain.holder_is(me.chain.self())) continue;
    if (living == 1) return true;
    for (size_t p = 0; p < w.site.size(); ++p) {
      const Site& other = w.site[p];
      if (p != s && w.talk(static_cast<int>(s), static_cast<int>(p)) && !other.chain.empty() &&
          other.chain.digest() == me.chain.digest() && !other.chain.has_rivals() &&
          me.chain.title().is_standby(other.chain.self()) && other.line >= 0 &&
          other.line == me.line) {
        return true;
      }
    }
  }
  return false;
}

bool has_data(const World& w) {
  for (const Site& s : w.site) {
    if (!s.exists || s.line < 0 || s.chain.empty()) continue;
    const bool member = std::ranges::all_of(w.site, [&](const Site& other) {
      return !other.exists || other.chain.empty() || other.chain.title().names(s.chain.self());
    });
    if (member) return true;
  }
  return false;
}

}  // namespace hf::explorer
