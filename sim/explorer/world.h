// A world of the explorer: two or three sites with the product's own chains and askings, their data
// as a tree of writes, one link, messages on their way, and a clock of two seconds a tick.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>

#include "title/judge.h"

namespace hf::explorer {

using namespace hf::title;  // NOLINT(google-build-using-namespace)

inline constexpr int kSites = 3;
inline constexpr int kWritesMax = 6;
inline constexpr uint64_t kTick = 2 * kSecond;
// Older than any limit that a step can depend on; what is older is set here. Words' 60 s and an
// excuse's ten minutes never end in a walk: more is allowed than the product allows.
inline constexpr uint64_t kOldest = 6 * kSecond;

struct Bounds {
  int sites = 2;
  int statements = 3;  // signed from the first world on
  int repairs = 4;     // and beyond, by the commands that errors name
  int writes = 1;
  int crashes = 1;
  int words = 2;
  bool losses = true;    // a site may be lost
  bool at_once = false;  // a question to one site and its answer are one step, and a tick is long
  bool uncut = false;    // worlds that differ in nothing that counts are not made one (steps.cpp)
  bool protected_at_first = true;
  bool taken_at_first = false;  // the last site has taken it while A was down, and A is back
  Faults faults;
};

enum class Phase : uint8_t { kOff, kReleased, kRunning };

struct Site {
  Site(const VmId& vm, const SiteId& id, Instant now, const Faults& faults)
      : chain(vm, id, faults), asking(id, now, faults) {}
  Chain chain;
  Asking asking;
  std::vector<Digest> issued;
  bool exists = true;
  bool up = true;
  Phase phase = Phase::kOff;
  int8_t line = -1;      // its newest write
  uint8_t branches = 0;  // ends of branches kept
  uint8_t holds = 0;     // writes that it ever had durably
  // What the oracle knows of it, whatever the product believes: sites that a word excuses until the
  // first incarnation is open; that it was just handed the VM; that it may start again unasked.
  uint8_t excused = 0;
  std::optional<Instant> handed, giving;
  // A start takes as long as it likes, and the walk opens the gate at any moment of it; but a way
  // on is only what leads on when it takes 20 s: longer than anything counts that was asked before.
  std::optional<Instant> released;
};

struct Message {
  SignedAnswer answer;
  std::vector<SignedPtr> bundle;
};
using MessagePtr = std::shared_ptr<const Message>;

struct World {
  std::vector<Site> site;
  std::array<std::array<std::optional<Question>, kSites>, kSites> question;  // [from][to]
  std::array<std::array<MessagePtr, kSites>, kSites> answer;                 // [from][to]
  std::array<int8_t, kWritesMax> parent{};
  int8_t writes = 0;
  int8_t statements = 0;
  int8_t crashes = 0;
  int8_t words = 0;
  bool link = true;
  bool destroyed = false;
  bool mistaken = false;
  Instant now{1000 * kSecond};

  std::string key() const;
  // What is durable or runs: without time, messages, and what is in memory only.
  std::string core() const;
  bool talk(int a, int b) const;
  bool prefix(int a, int b) const;  // write a stands in the line that ends with b
  Line line(int write) const;
  int write_of(const Line& line) const;
};

struct Step {
  World to;
  std::string name;
  bool good;  // time, a repair, a delivery, or a command that an error names
};

World first_world(const Bounds& bounds);
// Every step from `world`. `repairs_only`: only good ones.
void for_each_step(const World& world, const Bounds& bounds, bool repairs_only,
                   const std::function<void(Step&&)>& take);

// The property that `world` breaks: one-runs, followed, has-data, kept; nullptr: none.
const char* broken(const World& world);
// Running, and protected where two sites live.
bool reached(const World& world);
// Some site could: it has the data, and nobody expelled it on a word that was mistaken.
bool has_data(const World& world);

}  // namespace hf::explorer
