// Statement: one link of a VM's title, the signed chain that says who may run it. This header and
// docs/formats/title.md specify its bytes; all numbers are little-endian.
//
//   offset size
//        0    4  magic "HFTS"
//        4    2  format version 1
//        6    1  kind
//        7    1  on whose word
//        8   16  VM; zero in a create, whose own digest is the VM's id
//       24   32  digest of the statement that it follows; zero in a create
//       56   32  of the one beside it, where two chains are joined; else zero
//       88   16  issuer: the site whose vault signs
//      104   16  holder; zero after an end
//      120    8  epoch
//      128    8  time, microseconds since the Unix epoch: for people, nothing is decided by it
//      136    4  start policy: seconds of the holder's silence after which a standby may take by
//                itself; 0: hold
//      140    1  members, at most kMembersMax
//      141    3  zero
//      144   32  position: incarnation
//      176    8  position: sequence
//      184   32  position: chain value after it
//      216   32  origin: random in a create, so that no two have one id; else zero
//      248   24  a member, ascending by id: site (16), standing (1), zero (7); and so on
//
// Signed, 64 bytes of Ed25519 signature come after. Digest and signature cover a label and these
// bytes (signing.h); the digest does not cover the signature, so nobody can give a statement a
// second name by signing it again.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "crypto/crypto.h"

namespace hf::title {

inline constexpr uint32_t kStatementMagic = 0x53544648;  // "HFTS"
inline constexpr uint16_t kStatementVersion = 1;
inline constexpr size_t kStatementFixedSize = 248;
inline constexpr size_t kMemberSize = 24;
inline constexpr size_t kMembersMax = 16;
inline constexpr size_t kStatementSizeMax = kStatementFixedSize + kMembersMax * kMemberSize;
inline constexpr size_t kSignedSizeMax = kStatementSizeMax + crypto::kSignatureSize;
inline constexpr uint32_t kStartAfterMax = 24 * 3600;  // seconds

struct StatementLayout {
  uint8_t magic[4];
  uint8_t version[2];
  uint8_t kind;
  uint8_t word;
  uint8_t vm[16];
  uint8_t follows[32];
  uint8_t beside[32];
  uint8_t issuer[16];
  uint8_t holder[16];
  uint8_t epoch[8];
  uint8_t time[8];
  uint8_t start_after[4];
  uint8_t members;
  uint8_t zero[3];
  uint8_t incarnation[32];
  uint8_t sequence[8];
  uint8_t chain[32];
  uint8_t origin[32];
};
static_assert(sizeof(StatementLayout) == kStatementFixedSize);
static_assert(offsetof(StatementLayout, follows) == 24);
static_assert(offsetof(StatementLayout, issuer) == 88);
static_assert(offsetof(StatementLayout, epoch) == 120);
static_assert(offsetof(StatementLayout, members) == 140);
static_assert(offsetof(StatementLayout, incarnation) == 144);
static_assert(offsetof(StatementLayout, origin) == 216);

enum class Kind : uint8_t {
  kCreate = 1,
  kProtect = 2,  // one more member, being seeded
  kStandBy = 3,  // it has the line: from now on its silence counts
  kPolicy = 4,
  kRewind = 5,
  kHandOver = 6,
  kResign = 7,
  kExpel = 8,
  kTake = 9,     // from a silent holder
  kGoOn = 10,    // a take by the holder, whose standby is silent
  kGiveUp = 11,  // of two rivals: the other is the holder
  kJoin = 12,    // of two rivals that name one holder
  kEnd = 13,
  kCheckpoint = 14,
};
std::string_view to_string(Kind kind);

// On whose word a statement was made, where one was needed.
enum class WordKind : uint8_t {
  kNone = 0,
  kSourceIsOff = 1,    // take: the holder does not run it, and stays off until it has talked to us
  kWithoutPeer = 2,    // go on: the same of a standby
  kLostForGood = 3,    // that site never comes back with this state
  kDistrusted = 4,     // that site may answer what it likes
  kWritesGivenUp = 5,  // behind the durable position
  kStartPolicy = 6,    // nobody's: the title's start policy, which the operator chose before
};
std::string_view to_string(WordKind word);

// A member has the VM's key wrapped for it. What it is besides (the holder is kMember):
enum class Standing : uint8_t { kMember = 0, kBeingSeeded = 1, kStandby = 2 };

struct Member {
  SiteId site;
  Standing standing = Standing::kMember;
  auto operator<=>(const Member&) const = default;
};

// At most kMembersMax, ascending, each site once.
class Members {
 public:
  Members() = default;
  // kInvalidArgument: not ascending, twice the same, too many.
  static Result<Members> make(std::span<const Member> members);

  std::span<const Member> all() const { return {members_.data(), count_}; }
  size_t size() const { return count_; }
  bool full() const { return count_ == kMembersMax; }
  const Member* find(const SiteId& site) const;
  bool contains(const SiteId& site) const { return find(site) != nullptr; }
  bool is(const SiteId& site, Standing standing) const;
  // These with `site` standing so, whatever it was before. Not full, or it is in (asserted).
  Members with(const SiteId& site, Standing standing) const;
  Members without(const SiteId& site) const;
  bool operator==(const Members& other) const;

 private:
  std::array<Member, kMembersMax> members_{};
  uint8_t count_ = 0;
};

// A place in the VM's line, with the chain value that proves all before it. Zero: nothing.
struct Line {
  Position position;
  Digest chain;
  bool empty() const { return position.sequence.value == 0; }
  bool operator==(const Line&) const = default;
};

struct Statement {
  Kind kind = Kind::kCreate;
  WordKind word = WordKind::kNone;
  VmId vm;
  Digest follows;
  Digest beside;
  SiteId issuer;
  SiteId holder;
  Epoch epoch;
  Micros time;
  uint32_t start_after = 0;  // seconds; 0: hold
  Line line;
  Digest origin;
  Members members;

  bool is_standby(const SiteId& site) const { return members.is(site, Standing::kStandby); }
  bool names(const SiteId& site) const { return members.contains(site); }
  bool operator==(const Statement&) const = default;
};

// Why it is out of form by itself, whatever it follows; nullptr: it isn't.
const char* out_of_form(const Statement& statement);

// It must be in form (asserted).
Bytes encode(const Statement& statement);
// kCorrupt: not one that encode() could have written; kUnsupported: another version.
Result<Statement> decode_statement(ByteSpan bytes);

}  // namespace hf::title
