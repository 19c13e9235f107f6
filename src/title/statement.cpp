#include "title/statement.h"

#include <algorithm>
#include <string>

#include "title/wire.h"

namespace hf::title {
namespace {

constexpr uint8_t kKindMax = static_cast<uint8_t>(Kind::kCheckpoint);
constexpr uint8_t kWordMax = static_cast<uint8_t>(WordKind::kStartPolicy);

bool may_be_beside(Kind kind) {
  return kind == Kind::kExpel || kind == Kind::kTake || kind == Kind::kGiveUp ||
         kind == Kind::kJoin;
}

bool must_have_line(Kind kind) {
  return kind == Kind::kStandBy || kind == Kind::kRewind || kind == Kind::kHandOver ||
         kind == Kind::kTake || kind == Kind::kGoOn || kind == Kind::kGiveUp || kind == Kind::kJoin;
}

bool word_fits(Kind kind, WordKind word) {
  switch (kind) {
    case Kind::kTake:  // without one: where nobody holds it any more (entitlement.h)
      return word == WordKind::kNone || word == WordKind::kSourceIsOff ||
             word == WordKind::kLostForGood || word == WordKind::kDistrusted ||
             word == WordKind::kStartPolicy;
    case Kind::kGoOn:
      return word == WordKind::kWithoutPeer;
    case Kind::kExpel:
      return word == WordKind::kLostForGood || word == WordKind::kDistrusted;
    case Kind::kRewind:
    case Kind::kHandOver:
      return word == WordKind::kNone || word == WordKind::kWritesGivenUp;
    default:
      return word == WordKind::kNone;
  }
}

const char* out_of_form_by_kind(const Statement& s) {
  const bool create = s.kind == Kind::kCreate;
  if (create != s.vm.is_zero()) return "names a VM where it makes one, or the other way round";
  if (create != s.follows.is_zero()) return "follows nothing, or a create something";
  if (create == s.origin.is_zero()) return "has an origin without making a VM, or none";
  if (!s.beside.is_zero()) {
    if (!may_be_beside(s.kind)) return "joins two chains, which its kind can't";
    if (s.beside == s.follows) return "joins a chain with itself";
  } else if (s.kind == Kind::kGiveUp || s.kind == Kind::kJoin) {
    return "settles no conflict";
  }
  if (!word_fits(s.kind, s.word)) return "stands on a word that its kind can't have";
  if (must_have_line(s.kind) && s.line.empty()) return "names no position";
  return nullptr;
}

}  // namespace

std::string_view to_string(Kind kind) {
  switch (kind) {
    case Kind::kCreate:
      return "create";
    case Kind::kProtect:
      return "protect";
    case Kind::kStandBy:
      return "stand by";
    case Kind::kPolicy:
      return "policy";
    case Kind::kRewind:
      return "rewind";
    case Kind::kHandOver:
      return "hand-over";
    case Kind::kResign:
      return "resign";
    case Kind::kExpel:
      return "expel";
    case Kind::kTake:
      return "take";
    case Kind::kGoOn:
      return "go on";
    case Kind::kGiveUp:
      return "give up";
    case Kind::kJoin:
      return "join";
    case Kind::kEnd:
      return "end";
    case Kind::kCheckpoint:
      return "checkpoint";
  }
  return "unknown";
}

std::string_view to_string(WordKind word) {
  switch (word) {
    case WordKind::kNone:
      return "nobody's";
    case WordKind::kSourceIsOff:
      return "source is off";
    case WordKind::kWithoutPeer:
      return "without peer";
    case WordKind::kLostForGood:
      return "lost for good";
    case WordKind::kDistrusted:
      return "distrusted";
    case WordKind::kWritesGivenUp:
      return "writes given up";
    case WordKind::kStartPolicy:
      return "start policy";
  }
  return "unknown";
}

Result<Members> Members::make(std::span<const Member> members) {
  if (members.size() > kMembersMax) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "too many members"};
  }
  Members out;
  for (const Member& member : members) {
    if (out.count_ > 0 && out.members_[out.count_ - 1].site >= member.site) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "members out of order"};
    }
    out.members_[out.count_++] = member;
  }
  return out;
}

const Member* Members::find(const SiteId& site) const {
  for (const Member& member : all()) {
    if (member.site == site) return &member;
  }
  return nullptr;
}

bool Members::is(const SiteId& site, Standing standing) const {
  const Member* member = find(site);
  return member != nullptr && member->standing == standing;
}

Members Members::with(const SiteId& site, Standing standing) const {
  Members out = *this;
  const auto begin = out.members_.begin();
  const auto end = begin + out.count_;
  const auto at = std::ranges::lower_bound(begin, end, site, {}, &Member::site);
  if (at != end && at->site == site) {
    at->standing = standing;
    return out;
  }
  HF_ASSERT(!full());
  std::move_backward(at, end, end + 1);
  *at = {site, standing};
  ++out.count_;
  return out;
}

Members Members::without(const SiteId& site) const {
  Members out;
  for (const Member& member : all()) {
    if (member.site != site) out.members_[out.count_++] = member;
  }
  return out;
}

bool Members::operator==(const Members& other) const {
  return std::ranges::equal(all(), other.all());
}

const char* out_of_form(const Statement& s) {
  if (s.issuer.is_zero()) return "has no issuer";
  if (s.epoch.value == 0 || s.epoch.value > kNumberMax) return "has an epoch out of bounds";
  if (s.time.value > kNumberMax) return "has a time out of bounds";
  if (s.start_after > kStartAfterMax) return "has a start policy out of bounds";
  if (s.line.position.sequence.value > kNumberMax) return "has a position out of bounds";
  const bool nowhere = s.line == Line{};
  if (!nowhere && (s.line.empty() || s.line.position.incarnation.is_zero())) {
    return "has half a position";
  }
  if ((s.kind == Kind::kEnd) != s.holder.is_zero()) {
    // A statement over an end says nothing but that somebody takes.
    return "has no holder, or an end one";
  }
  if (!s.holder.is_zero() && !s.members.is(s.holder, Standing::kMember)) {
    return "has a holder that is no member, or its own standby";
  }
  return out_of_form_by_kind(s);
}

Bytes encode(const Statement& s) {
  HF_ASSERT(out_of_form(s) == nullptr);
  Bytes bytes(kStatementFixedSize + s.members.size() * kMemberSize);
  FieldWriter out(bytes);
  out.number(kStatementMagic);
  out.number(kStatementVersion);
  out.number(static_cast<uint8_t>(s.kind));
  out.number(static_cast<uint8_t>(s.word));
  out.bytes(s.vm.span());
  out.bytes(s.follows.span());
  out.bytes(s.beside.span());
  out.bytes(s.issuer.span());
  out.bytes(s.holder.span());
  out.number(s.epoch.value);
  out.number(s.time.value);
  out.number(s.start_after);
  out.number(static_cast<uint8_t>(s.members.size()));
  out.zeroes(3);
  write_line(out, s.line);
  out.bytes(s.origin.span());
  HF_ASSERT(out.at() == kStatementFixedSize);
  for (const Member& member : s.members.all()) {
    out.bytes(member.site.span());
    out.number(static_cast<uint8_t>(member.standing));
    out.zeroes(7);
  }
  HF_ASSERT(out.at() == bytes.size());
  return bytes;
}

namespace {

Error corrupt(std::string what) {
  return {.code = ErrorCode::kCorrupt, .cause = "a statement that " + std::move(what)};
}

Result<Members> decode_members(FieldReader& in, size_t count) {
  std::array<Member, kMembersMax> members{};
  for (size_t i = 0; i < count; ++i) {
    members[i].site = in.id<SiteId>();
    const auto standing = in.number<uint8_t>();
    if (standing > static_cast<uint8_t>(Standing::kStandby)) {
      return corrupt("has a member of unknown standing");
    }
    members[i].standing = static_cast<Standing>(standing);
    if (!in.zeroes(7)) return corrupt("has a reserved byte set");
    if (members[i].site.is_zero()) return corrupt("has a member without a name");
  }
  auto made = Members::make(std::span(members).first(count));
  if (!made.ok()) return corrupt("has " + made.error().cause);
  return made;
}

}  // namespace

Result<Statement> decode_statement(ByteSpan bytes) {
  if (bytes.size() < kStatementFixedSize) return corrupt("is too short");
  FieldReader in(bytes);
  if (in.number<uint32_t>() != kStatementMagic) return corrupt("lacks its magic number");
  if (in.number<uint16_t>() != kStatementVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "a statement of another version"};
  }
  const auto kind = in.number<uint8_t>();
  const auto word = in.number<uint8_t>();
  if (kind == 0 || kind > kKindMax) return corrupt("is of an unknown kind");
  if (word > kWordMax) return corrupt("stands on an unknown word");
  Statement s;
  s.kind = static_cast<Kind>(kind);
  s.word = static_cast<WordKind>(word);
  s.vm = in.id<VmId>();
  s.follows = in.id<Digest>();
  s.beside = in.id<Digest>();
  s.issuer = in.id<SiteId>();
  s.holder = in.id<SiteId>();
  s.epoch = Epoch(in.number<uint64_t>());
  s.time = Micros(in.number<uint64_t>());
  s.start_after = in.number<uint32_t>();
  const size_t count = in.number<uint8_t>();
  if (!in.zeroes(3)) return corrupt("has a reserved byte set");
  if (count > kMembersMax) return corrupt("has too many members");
  if (bytes.size() != kStatementFixedSize + count * kMemberSize) {
    return corrupt("is of another length than its members make");
  }
  s.line = read_line(in);
  s.origin = in.id<Digest>();
  s.members = TRY(decode_members(in, count));
  if (const char* wrong = out_of_form(s); wrong != nullptr) return corrupt(wrong);
  return s;
}

}  // namespace hf::title
