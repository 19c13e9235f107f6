// Walks every order of steps within its bounds, breadth-first, and checks five properties:
//   one-runs   with words that were true when they were said, never two sites run
//   followed   what a site signed is never passed over by a title that does not follow it
//   has-data   who holds the title has the data up to the position that it names
//   kept       no durable write vanishes while a site that had it lives (in a line or a branch)
//   way-on     from every world, good steps lead to running, and protected where two sites live; by
//              reverse reachability over the walked graph. Where none does: a dead end
// Beyond the bound of statements only good steps are walked, `--repairs` statements more.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <unordered_map>
#include <unordered_set>

#include "explorer/world.h"
#include "title/testing/keyed_signer.h"

using namespace hf;
using namespace hf::explorer;

namespace {

struct Options {
  Bounds bounds;
  size_t worlds_max = 20'000'000;
  size_t worlds_min = 0;
  bool must_find = false;
  bool check_cut = false;
};

struct Walked {
  uint32_t from = 0;
  uint32_t name = 0;
  bool reached = false;
  bool checked = false;  // for a way on
};

using Key = std::array<uint64_t, 2>;
struct KeyHash {
  size_t operator()(const Key& key) const { return key[0]; }
};
Key hash(const std::string& key) {
  const auto bytes = title::testing::keyed_hash({}, as_bytes(key));
  return {load_le<uint64_t>(bytes.data()), load_le<uint64_t>(bytes.data() + 8)};
}

class Walk {
 public:
  explicit Walk(const Options& options) : options_(options) {}

  // The broken property, or nullptr.
  const char* run() {
    const Bounds& bounds = options_.bounds;
    World first = first_world(bounds);
    seen_.emplace(hash(first.key()), 0);
    walked_.push_back({.name = name("the first world")});
    todo_.push_back(std::move(first));
    for (uint32_t at = 0; !todo_.empty(); ++at) {
      const World world = std::move(todo_.front());
      todo_.pop_front();
      if (world.statements <= bounds.statements) cores_.insert(hash(world.core()));
      if (const char* property = broken(world); property != nullptr) return tell(at, property);
      const bool repairs = world.statements >= bounds.statements;
      walked_[at].reached = reached(world);
      walked_[at].checked = world.statements <= bounds.statements && has_data(world);
      for_each_step(world, bounds, repairs, [&](Step&& step) { take(at, std::move(step)); });
      if (walked_.size() > options_.worlds_max) {
        std::printf("bound of %zu worlds reached; no way on was looked for\n", options_.worlds_max);
        return nullptr;
      }
    }
    return way_on();
  }
  size_t worlds() const { return walked_.size(); }
  size_t checked() const { return checked_; }
  size_t dead_ends() const { return dead_ends_; }
  const std::unordered_set<Key, KeyHash>& cores() const { return cores_; }

 private:
  uint32_t name(const std::string& text) {
    const auto [found, fresh] = name_ids_.emplace(text, names_.size());
    if (fresh) names_.push_back(text);
    return found->second;
  }

  void take(uint32_t from, Step&& step) {
    const auto [found, fresh] =
        seen_.emplace(hash(step.to.key()), static_cast<uint32_t>(walked_.size()));
    if (fresh) {
      walked_.push_back({.from = from, .name = name(step.name)});
      todo_.push_back(std::move(step.to));
    }
    if (step.good && found->second != from) good_.emplace_back(found->second, from);
  }

  const char* way_on() {
    std::vector<uint32_t> first(walked_.size() + 1, 0);
    for (const auto& [to, from] : good_) ++first[to + 1];
    for (size_t i = 1; i < first.size(); ++i) first[i] += first[i - 1];
    std::vector<uint32_t> before(good_.size());
    std::vector<uint32_t> next(first.begin(), first.end() - 1);
    for (const auto& [to, from] : good_) before[next[to]++] = from;
    std::vector<bool> leads(walked_.size(), false);
    std::vector<uint32_t> todo;
    for (uint32_t i = 0; i < walked_.size(); ++i) {
      if (walked_[i].reached) leads[i] = true, todo.push_back(i);
    }
    while (!todo.empty()) {
      const uint32_t at = todo.back();
      todo.pop_back();
      for (uint32_t i = first[at]; i < first[at + 1]; ++i) {
        if (!leads[before[i]]) leads[before[i]] = true, todo.push_back(before[i]);
      }
    }
    std::optional<uint32_t> nearest;
    for (uint32_t i = 0; i < walked_.size(); ++i) {
      if (!walked_[i].checked) continue;
      ++checked_;
      if (leads[i]) continue;
      ++dead_ends_;
      if (!nearest) nearest = i;
    }
    return nearest ? tell(*nearest, "way-on") : nullptr;
  }

  const char* tell(uint32_t at, const char* property) const {
    std::vector<uint32_t> path;
    for (uint32_t x = at;; x = walked_[x].from) {
      path.push_back(x);
      if (x == 0) break;
    }
    std::printf("VIOLATED %s after:\n", property);
    for (size_t i = path.size(); i-- > 0;) {
      std::printf("  %s\n", names_[walked_[path[i]].name].c_str());
    }
    return property;
  }

  const Options& options_;
  std::deque<World> todo_;
  std::vector<Walked> walked_;
  std::vector<std::pair<uint32_t, uint32_t>> good_;  // to, from
  std::unordered_map<Key, uint32_t, KeyHash> seen_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, uint32_t> name_ids_;
  std::unordered_set<Key, KeyHash> cores_;
  size_t checked_ = 0;
  size_t dead_ends_ = 0;
};

struct Named {
  const char* name;
  bool Faults::* fault;
};
constexpr Named kFaults[] = {
    {"number-instead-of-ancestry", &Faults::number_instead_of_ancestry},
    {"not-asked-before-start", &Faults::not_asked_before_start},
    {"empty-replica-taken", &Faults::empty_replica_taken},
    {"no-branch-kept", &Faults::no_branch_kept},
    {"no-return", &Faults::no_return},
    {"permission-remembered", &Faults::permission_remembered},
    {"dropped-unasked", &Faults::dropped_unasked},
    {"hearsay", &Faults::hearsay},
    {"hand-over-unasked", &Faults::hand_over_unasked},
    {"answer-used-late", &Faults::answer_used_late},
};

[[noreturn]] void usage() {
  std::fprintf(
      stderr,
      "usage: holdfast-explore [--sites N] [--statements N] [--repairs N] [--writes N]\n"
      "    [--crashes N] [--words N] [--no-losses] [--at-once] [--from created|protected|taken]\n"
      "    [--worlds-max N] [--worlds-min N] [--fault NAME [--must-find]] [--check-cut]\nfaults:");
  for (const Named& fault : kFaults) std::fprintf(stderr, " %s", fault.name);
  std::fprintf(stderr, "\n");
  std::exit(2);
}

void set_fault(Faults& faults, const std::string& name) {
  for (const Named& known : kFaults) {
    if (name == known.name) {
      faults.*known.fault = true;
      return;
    }
  }
  usage();
}

Options parse(int argc, char** argv) {
  Options out;
  const auto number = [&](int& i) {
    if (i + 1 >= argc) usage();
    return std::atoi(argv[++i]);
  };
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--sites") {
      out.bounds.sites = number(i);
    } else if (word == "--statements") {
      out.bounds.statements = number(i);
    } else if (word == "--repairs") {
      out.bounds.repairs = number(i);
    } else if (word == "--writes") {
      out.bounds.writes = number(i);
    } else if (word == "--crashes") {
      out.bounds.crashes = number(i);
    } else if (word == "--words") {
      out.bounds.words = number(i);
    } else if (word == "--no-losses") {
      out.bounds.losses = false;
    } else if (word == "--at-once") {
      out.bounds.at_once = true;
    } else if (word == "--from") {
      if (i + 1 >= argc) usage();
      const std::string from = argv[++i];
      out.bounds.protected_at_first = from != "created";
      out.bounds.taken_at_first = from == "taken";
    } else if (word == "--worlds-max") {
      out.worlds_max = static_cast<size_t>(number(i));
    } else if (word == "--worlds-min") {
      out.worlds_min = static_cast<size_t>(number(i));
    } else if (word == "--fault") {
      if (i + 1 >= argc) usage();
      set_fault(out.bounds.faults, argv[++i]);
    } else if (word == "--check-cut") {
      out.check_cut = true;
    } else if (word == "--must-find") {
      out.must_find = true;
    } else {
      usage();
    }
  }
  if (out.bounds.sites < 2 || out.bounds.sites > kSites || out.bounds.writes + 1 > kWritesMax) {
    usage();
  }
  return out;
}

// What steps.cpp leaves out is walked too: it leads to nothing that the cut walk does not reach.
int check_cut(const Options& options) {
  Options uncut = options;
  uncut.bounds.uncut = true;
  Walk some(options);
  Walk all(uncut);
  const bool clean = some.run() == nullptr && all.run() == nullptr;
  const bool same = some.cores() == all.cores();
  std::printf("worlds %zu, without the cut %zu; cores %zu, without the cut %zu: %s\n",
              some.worlds(), all.worlds(), some.cores().size(), all.cores().size(),
              same ? "the same" : "OTHERS");
  return clean && same && all.worlds() > some.worlds() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (options.check_cut) return check_cut(options);
  const auto began = std::chrono::steady_clock::now();
  Walk walk(options);
  const char* property = walk.run();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  std::printf(
      "%zu worlds, %zu dead_ends of %zu checked for a way on, %zu that differ in what is durable "
      "or "
      "runs, %s%s (%d sites, %d statements, %d writes; %.1f s)\n",
      walk.worlds(), walk.dead_ends(), walk.checked(), walk.cores().size(),
      property == nullptr ? "no violation" : "violated ", property == nullptr ? "" : property,
      options.bounds.sites, options.bounds.statements, options.bounds.writes, seconds);
  if (options.must_find) return property != nullptr ? 0 : 1;
  return property == nullptr && walk.worlds() >= options.worlds_min ? 0 : 1;
}
