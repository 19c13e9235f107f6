// What the clients ask about titles.
#include <thread>

#include "vault/protocol/ask.h"
#include "vault/protocol/operator_client.h"

namespace hf::vault {
namespace {

// A reply of one part.
template <typename T>
auto whole(T (*decode)(Reader&), std::string_view what) {
  return [decode, what](ByteSpan result) -> Result<T> {
    Reader reader(result);
    T value = decode(reader);
    TRY(reader.finish(what));
    return value;
  };
}

Bytes take_bundle(Reader& reader) { return reader.bytes(kMaxBundle); }

}  // namespace

Result<TitleView> AdminClient::title(VmId vm) {
  return ask(options_, Op::kTitle, body_of(vm), whole(decode_title_view, "title"));
}

Result<Bytes> AdminClient::title_lacking(VmId vm, std::span<const Digest> known) {
  if (known.size() > kMaxKnown) return too_long("what is known");
  Writer body = body_of(vm);
  body.u32(static_cast<uint32_t>(known.size()));
  for (const Digest& digest : known) body.id(digest);
  return ask(options_, Op::kTitleLacking, body, whole(take_bundle, "statements"));
}

Result<TitleLearned> AdminClient::title_learn(VmId vm, SiteId from, ByteSpan bundle, bool begin) {
  if (bundle.size() > kMaxBundle) return too_long("a bundle of statements");
  Writer body = body_of(vm);
  body.id(from);
  body.u8(begin ? 1 : 0);
  body.blob(bundle, kMaxBundle);
  return ask(options_, Op::kTitleLearn, body, whole(decode_title_learned, "what was learned"));
}

Result<title::Question> AdminClient::title_ask(VmId vm, SiteId to) {
  Writer body = body_of(vm);
  body.id(to);
  return ask(options_, Op::kTitleAsk, body,
             [](ByteSpan result) { return decode_question(result); });
}

Result<Bytes> AdminClient::title_answer(const title::Question& question, OwnWord word) {
  Writer body;
  body.raw(encode_question(question));
  body.u8(static_cast<uint8_t>((word.accepts ? 1U : 0U) | (word.prepared ? 2U : 0U)));
  return ask(options_, Op::kTitleAnswer, body, whole(take_bundle, "an answer"));
}

Result<title::Judged<void>> AdminClient::title_take_answer(VmId vm, ByteSpan answer) {
  if (answer.size() > title::kAnswerSizeMax) return too_long("an answer");
  Writer body = body_of(vm);
  body.blob(answer, title::kAnswerSizeMax);
  return ask(options_, Op::kTitleTakeAnswer, body, whole(decode_judged, "what an answer came to"));
}

Result<TitleSigned> AdminClient::title_propose(const TitleProposal& proposal) {
  Writer body;
  encode(body, proposal);
  return ask(options_, Op::kTitlePropose, body, whole(decode_title_signed, "title"));
}

Status KeyClient::open_gate(VmId vm) {
  return ask(options_, Op::kOpenGate, body_of(vm), expect_empty);
}

Status KeyClient::await_gate(VmId vm, std::chrono::milliseconds limit) {
  using SteadyClock = std::chrono::steady_clock;
  using std::chrono::milliseconds;
  const SteadyClock::time_point until = SteadyClock::now() + limit;
  for (milliseconds pause(2);; pause = std::min(pause * 2, milliseconds(100))) {
    Status open = open_gate(vm);
    if (open.ok() || open.error().code != ErrorCode::kUnavailable) return open;
    if (SteadyClock::now() + pause >= until) return open;
    std::this_thread::sleep_for(pause);
  }
}

Status KeyClient::show_line(VmId vm, const ShownLine& line) {
  Writer body = body_of(vm);
  encode(body, line);
  return ask(options_, Op::kShowLine, body, expect_empty);
}

Result<GivenWord> OperatorClient::give_word(VmId vm, title::Act act) {
  Writer body = body_of(vm);
  body.u8(static_cast<uint8_t>(act));
  return ask(options_, Op::kGiveWord, body, whole(decode_given_word, "a word"));
}

}  // namespace hf::vault
