// Words: what an operator says where nobody who could be asked can know it: that a silent site does
// not run a VM, or never comes back. A word is for one act: bound to VM, head, act, position and
// the silent sites by name. Given over the operators' socket, used once, within kWordLife; a list
// of them within kListLife, as long as its head stands and its site has said nothing.
//
// In memory only: they end with the vault's process.
#pragma once

#include <map>
#include <vector>

#include "title/chain.h"

namespace hf::title {

inline constexpr uint64_t kSecond = 1'000'000;  // of an Instant
inline constexpr uint64_t kWordLife = 60 * kSecond;
inline constexpr uint64_t kListLife = 30 * 60 * kSecond;
inline constexpr size_t kWordsMax = 4096;  // entries of one list, and of all words that stand

enum class Act : uint8_t {
  kTake,
  kGoOn,
  kExpel,
  kTakeOver,     // a take that follows two rivals
  kDistrust,     // a take from, or the expulsion of, a site that may answer
  kHandOver,     // behind the durable position
  kRewind,       // likewise
  kSettleDoubt,  // sign again, although not every member has answered
};

struct Word {
  VmId vm;
  Digest head;
  Act act = Act::kTake;
  WordKind kind = WordKind::kNone;
  Line line;                   // up to where the line is to go on; zero where no act depends on it
  std::vector<SiteId> silent;  // whose silence it excuses, at most kMembersMax

  bool names(const SiteId& site) const;
  bool operator==(const Word&) const = default;
};

using Token = StrongBytes<struct TokenTag, 32>;

class Words {
 public:
  // `token`: fresh and random. kLimit: too many stand. kInvalidArgument: an entry without a VM, or
  // with more sites than a VM has.
  Status give(const Token& token, std::vector<Word> entries, bool list, Instant now);
  // The entry for this VM and act, if it stands; nothing is spent. Null: kWordUnknown.
  const Word* find(const Token& token, const VmId& vm, Act act, Instant now) const;
  // After the act was signed. Asserts that it stood.
  void spend(const Token& token, const VmId& vm, Act act);
  // Signed or MACed signs of life. How many entries that ended, for an event: of any list the ones
  // that name the site, of a single word the one for this VM.
  size_t heard(const SiteId& site, const VmId& vm);
  size_t size() const;

 private:
  struct Given {
    std::vector<Word> entries;
    Instant at;
    bool list = false;
    bool stands(Instant now) const;
  };
  void drop_old(Instant now);
  std::map<Token, Given> given_;
};

}  // namespace hf::title
