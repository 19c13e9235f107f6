#include "title/answer.h"

#include "title/wire.h"

namespace hf::title {
namespace {

constexpr uint8_t kAccepts = 1;
constexpr uint8_t kWhole = 2;
constexpr uint8_t kPrepared = 4;
constexpr uint8_t kInDoubt = 8;
constexpr uint8_t kSaysAll = kAccepts | kWhole | kPrepared | kInDoubt;

Bytes encode_answer(const Answer& answer) {
  HF_ASSERT(answer.rivals.size() <= kRivalsMax && (answer.whole || answer.line == Line{}));
  Bytes bytes(kAnswerFixedSize + answer.rivals.size() * sizeof(Digest));
  FieldWriter out(bytes);
  out.number(kAnswerMagic);
  out.number(kAnswerVersion);
  out.number(static_cast<uint8_t>((answer.accepts ? kAccepts : 0) | (answer.whole ? kWhole : 0) |
                                  (answer.prepared ? kPrepared : 0) |
                                  (answer.in_doubt ? kInDoubt : 0)));
  out.number(static_cast<uint8_t>(answer.rivals.size()));
  out.bytes(answer.vm.span());
  out.bytes(answer.from.span());
  out.bytes(answer.to.span());
  out.bytes(answer.nonce.span());
  out.bytes(answer.about.span());
  out.bytes(answer.head.span());
  write_line(out, answer.line);
  HF_ASSERT(out.at() == kAnswerFixedSize);
  for (const Digest& rival : answer.rivals) out.bytes(rival.span());
  return bytes;
}

Error corrupt(const char* what) { return {.code = ErrorCode::kCorrupt, .cause = what}; }

}  // namespace

SignedAnswer SignedAnswer::sign(const Answer& answer, const Signer& signer) {
  HF_ASSERT(answer.from == signer.site());
  return {.answer = answer,
          .signature = signer.sign(labelled(kAnswerLabel, encode_answer(answer)))};
}

bool SignedAnswer::verify(const Verifier& verifier) const {
  return verifier.verify(answer.from, labelled(kAnswerLabel, encode_answer(answer)), signature);
}

Bytes SignedAnswer::encode() const {
  Bytes bytes = encode_answer(answer);
  bytes.insert(bytes.end(), signature.begin(), signature.end());
  return bytes;
}

Result<SignedAnswer> SignedAnswer::decode(ByteSpan bytes) {
  if (bytes.size() < kAnswerFixedSize + crypto::kSignatureSize) {
    return corrupt("an answer that is too short");
  }
  FieldReader in(bytes);
  if (in.number<uint32_t>() != kAnswerMagic) return corrupt("no answer");
  if (in.number<uint16_t>() != kAnswerVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "an answer of another version"};
  }
  const auto says = in.number<uint8_t>();
  const size_t rivals = in.number<uint8_t>();
  if ((says & ~kSaysAll) != 0) return corrupt("an answer with a reserved bit set");
  if (rivals > kRivalsMax) return corrupt("an answer with too many rivals");
  if (bytes.size() != kAnswerFixedSize + rivals * sizeof(Digest) + crypto::kSignatureSize) {
    return corrupt("an answer of another length than its rivals make");
  }
  SignedAnswer out;
  Answer& answer = out.answer;
  answer.accepts = (says & kAccepts) != 0;
  answer.whole = (says & kWhole) != 0;
  answer.prepared = (says & kPrepared) != 0;
  answer.in_doubt = (says & kInDoubt) != 0;
  answer.vm = in.id<VmId>();
  answer.from = in.id<SiteId>();
  answer.to = in.id<SiteId>();
  answer.nonce = in.id<Nonce>();
  answer.about = in.id<Digest>();
  answer.head = in.id<Digest>();
  answer.line = read_line(in);
  if (!answer.whole && answer.line != Line{}) return corrupt("an answer with half a line");
  if (answer.whole && (answer.line.empty() || answer.line.position.incarnation.is_zero() ||
                       answer.line.position.sequence.value > kNumberMax)) {
    return corrupt("an answer with an impossible line");
  }
  for (size_t i = 0; i < rivals; ++i) answer.rivals.push_back(in.id<Digest>());
  std::ranges::copy(in.bytes(crypto::kSignatureSize), out.signature.begin());
  return out;
}

Answer answer_from(const Chain& chain, const Question& question) {
  Answer answer{.vm = question.vm,
                .from = question.to,
                .to = question.from,
                .nonce = question.nonce,
                .about = question.about};
  if (chain.empty()) return answer;
  answer.head = chain.digest();
  for (const SignedPtr& rival : chain.rivals()) answer.rivals.push_back(rival->digest());
  answer.in_doubt = chain.in_doubt();
  return answer;
}

}  // namespace hf::title
