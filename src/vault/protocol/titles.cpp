#include "vault/protocol/titles.h"

#include "base/fields.h"

namespace hf::vault {
namespace {

constexpr auto kKindLast = static_cast<uint8_t>(title::Kind::kCheckpoint);
constexpr auto kCauseLast = static_cast<uint8_t>(title::Cause::kNotYet);
constexpr auto kActionLast = static_cast<uint8_t>(title::Action::kPrepareThere);
constexpr auto kActLast = static_cast<uint8_t>(title::Act::kSettleDoubt);
constexpr auto kWordLast = static_cast<uint8_t>(title::WordKind::kStartPolicy);

template <typename Enum>
Enum enumerator(Reader& reader, uint8_t last) {
  const uint8_t value = reader.u8();
  if (value > last) reader.fail();
  return static_cast<Enum>(value);
}

void put_statement(Writer& to, const title::SignedPtr& statement) {
  to.blob(statement == nullptr ? Bytes() : statement->encode(), title::kSignedSizeMax);
}

title::SignedPtr take_statement(Reader& reader) {
  const ByteSpan bytes = reader.blob(title::kSignedSizeMax);
  if (bytes.empty()) return nullptr;
  Result<title::SignedPtr> statement = title::Signed::decode(bytes);
  if (!statement.ok()) {
    reader.fail();
    return nullptr;
  }
  return *statement;
}

void put_refused(Writer& to, const title::Refused& refused) {
  to.u8(static_cast<uint8_t>(refused.cause));
  to.u8(static_cast<uint8_t>(refused.action));
  to.id(refused.site);
}

title::Refused take_refused(Reader& reader) {
  title::Refused refused;
  refused.cause = enumerator<title::Cause>(reader, kCauseLast);
  refused.action = enumerator<title::Action>(reader, kActionLast);
  refused.site = reader.id<SiteId>();
  return refused;
}

}  // namespace

Bytes encode_question(const title::Question& question) {
  Writer out;
  out.id(question.vm);
  out.id(question.from);
  out.id(question.to);
  out.id(question.nonce);
  out.id(question.about);
  HF_ASSERT(out.bytes().size() == kQuestionSize);
  return out.take();
}

Result<title::Question> decode_question(ByteSpan bytes) {
  Reader reader(bytes);
  title::Question question;
  question.vm = reader.id<VmId>();
  question.from = reader.id<SiteId>();
  question.to = reader.id<SiteId>();
  question.nonce = reader.id<title::Nonce>();
  question.about = reader.id<Digest>();
  TRY(reader.finish("a question about a title"));
  return question;
}

void encode(Writer& to, const TitleView& view) {
  HF_ASSERT(view.rivals.size() <= title::kRivalsMax);
  put_statement(to, view.head);
  to.u32(static_cast<uint32_t>(view.rivals.size()));
  for (const title::SignedPtr& rival : view.rivals) put_statement(to, rival);
  to.u8(view.in_doubt ? 1 : 0);
  to.u64(view.depth);
  HF_ASSERT(view.ancestors.size() <= title::kAncestorsMax);
  to.u32(static_cast<uint32_t>(view.ancestors.size()));
  for (const Digest& one : view.ancestors) to.id(one);
}

TitleView decode_title_view(Reader& reader) {
  TitleView view{.head = take_statement(reader)};
  const uint32_t rivals = reader.u32();
  if (rivals > title::kRivalsMax) reader.fail();
  for (uint32_t i = 0; i < rivals && !reader.failed(); ++i) {
    view.rivals.push_back(take_statement(reader));
    if (view.rivals.back() == nullptr) reader.fail();
  }
  view.in_doubt = reader.u8() != 0;
  view.depth = reader.u64();
  const uint32_t ancestors = reader.u32();
  if (ancestors > title::kAncestorsMax) reader.fail();
  for (uint32_t i = 0; i < ancestors && !reader.failed(); ++i) {
    view.ancestors.push_back(reader.id<Digest>());
  }
  return view;
}

void encode(Writer& to, const TitleLearned& learned) {
  HF_ASSERT(learned.wanted.size() <= title::kWantedMax);
  HF_ASSERT(learned.refused.size() <= title::kBundleMax);
  encode(to, learned.view);
  to.u8(learned.head_changed ? 1 : 0);
  to.u8(learned.fence ? 1 : 0);
  to.u32(static_cast<uint32_t>(learned.wanted.size()));
  for (const Digest& digest : learned.wanted) to.id(digest);
  to.u32(static_cast<uint32_t>(learned.refused.size()));
  for (const title::RefusedStatement& refused : learned.refused) {
    to.id(refused.digest);
    to.u8(static_cast<uint8_t>(refused.cause));
  }
}

TitleLearned decode_title_learned(Reader& reader) {
  TitleLearned learned{.view = decode_title_view(reader)};
  learned.head_changed = reader.u8() != 0;
  learned.fence = reader.u8() != 0;
  const uint32_t wanted = reader.u32();
  if (wanted > title::kWantedMax) reader.fail();
  for (uint32_t i = 0; i < wanted && !reader.failed(); ++i) {
    learned.wanted.push_back(reader.id<Digest>());
  }
  const uint32_t refused = reader.u32();
  if (refused > title::kBundleMax) reader.fail();
  for (uint32_t i = 0; i < refused && !reader.failed(); ++i) {
    title::RefusedStatement one{.digest = reader.id<Digest>()};
    one.cause = enumerator<title::Cause>(reader, kCauseLast);
    learned.refused.push_back(one);
  }
  return learned;
}

void encode(Writer& to, const TitleProposal& proposal) {
  to.id(proposal.vm);
  to.id(proposal.about);
  to.u8(static_cast<uint8_t>(proposal.kind));
  to.id(proposal.subject);
  to.u32(proposal.start_after);
  to.id(proposal.token);
}

TitleProposal decode_title_proposal(Reader& reader) {
  TitleProposal proposal;
  proposal.vm = reader.id<VmId>();
  proposal.about = reader.id<Digest>();
  proposal.kind = enumerator<title::Kind>(reader, kKindLast);
  if (static_cast<uint8_t>(proposal.kind) == 0) reader.fail();
  proposal.subject = reader.id<SiteId>();
  proposal.start_after = reader.u32();
  proposal.token = reader.id<title::Token>();
  return proposal;
}

void encode(Writer& to, const TitleSigned& outcome) {
  to.u8(outcome.has_value() ? 1 : 0);
  if (outcome.has_value()) return encode(to, *outcome);
  put_refused(to, outcome.error());
}

TitleSigned decode_title_signed(Reader& reader) {
  if (reader.u8() != 0) return decode_title_view(reader);
  return std::unexpected(take_refused(reader));
}

void encode(Writer& to, const title::Judged<void>& judged) {
  to.u8(judged.has_value() ? 1 : 0);
  if (!judged.has_value()) put_refused(to, judged.error());
}

title::Judged<void> decode_judged(Reader& reader) {
  if (reader.u8() != 0) return {};
  return std::unexpected(take_refused(reader));
}

void encode(Writer& to, const ShownLine& shown) {
  HF_ASSERT(shown.holds.size() <= kMaxShownHolds);
  encode(to, shown.end);
  to.u8(shown.whole ? 1 : 0);
  to.u32(static_cast<uint32_t>(shown.holds.size()));
  for (const title::Line& line : shown.holds) encode(to, line);
}

ShownLine decode_shown_line(Reader& reader) {
  ShownLine shown{.end = decode_line(reader)};
  shown.whole = reader.u8() != 0;
  const uint32_t holds = reader.u32();
  if (holds > kMaxShownHolds) reader.fail();
  for (uint32_t i = 0; i < holds && !reader.failed(); ++i) {
    shown.holds.push_back(decode_line(reader));
  }
  return shown;
}

void encode(Writer& to, const title::Line& line) {
  to.id(line.position.incarnation);
  to.u64(line.position.sequence.value);
  to.id(line.chain);
}

title::Line decode_line(Reader& reader) {
  title::Line line;
  line.position.incarnation = reader.id<IncarnationId>();
  const uint64_t sequence = reader.u64();
  if (sequence > kNumberMax) {
    reader.fail();
  } else {
    line.position.sequence = Sequence(sequence);
  }
  line.chain = reader.id<Digest>();
  return line;
}

void encode(Writer& to, const GivenWord& given) {
  HF_ASSERT(given.word.silent.size() <= title::kMembersMax);
  to.id(given.token);
  to.id(given.word.vm);
  to.id(given.word.head);
  to.u8(static_cast<uint8_t>(given.word.act));
  to.u8(static_cast<uint8_t>(given.word.kind));
  encode(to, given.word.line);
  to.u32(static_cast<uint32_t>(given.word.silent.size()));
  for (const SiteId& site : given.word.silent) to.id(site);
}

GivenWord decode_given_word(Reader& reader) {
  GivenWord given;
  given.token = reader.id<title::Token>();
  given.word.vm = reader.id<VmId>();
  given.word.head = reader.id<Digest>();
  given.word.act = enumerator<title::Act>(reader, kActLast);
  given.word.kind = enumerator<title::WordKind>(reader, kWordLast);
  given.word.line = decode_line(reader);
  const uint32_t sites = reader.u32();
  if (sites > title::kMembersMax) reader.fail();
  for (uint32_t i = 0; i < sites && !reader.failed(); ++i) {
    given.word.silent.push_back(reader.id<SiteId>());
  }
  return given;
}

}  // namespace hf::vault
