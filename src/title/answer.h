// Answer: what one site's vault says to another's question about a VM, signed. It is about the head
// that the question names: with another head, the answer is that head. So a lost, doubled or late
// message needs no memory of outcomes.
//
//   offset size
//        0    4  magic "HFTA"
//        4    2  format version 1
//        6    1  says: bit 0 accepts, 1 whole, 2 prepared, 3 in doubt
//        7    1  rivals, at most kRivalsMax
//        8   16  VM
//       24   16  the site that answers
//       40   16  the site that asked
//       56   32  its nonce
//       88   32  the head that the question was about
//      120   32  the answering site's head; zero: it knows nothing of the VM
//      152   72  position of its line: incarnation, sequence, chain; zero without bit 1
//      224   32  digest of a rival; and so on
//
// Signed, 64 bytes of signature come after.
#pragma once

#include "title/chain.h"

namespace hf::title {

inline constexpr uint32_t kAnswerMagic = 0x41544648;  // "HFTA"
inline constexpr uint16_t kAnswerVersion = 1;
inline constexpr size_t kAnswerFixedSize = 224;
inline constexpr size_t kAnswerSizeMax =
    kAnswerFixedSize + kRivalsMax * sizeof(Digest) + crypto::kSignatureSize;

struct AnswerLayout {
  uint8_t magic[4];
  uint8_t version[2];
  uint8_t says;
  uint8_t rivals;
  uint8_t vm[16];
  uint8_t from[16];
  uint8_t to[16];
  uint8_t nonce[32];
  uint8_t about[32];
  uint8_t head[32];
  uint8_t line[72];
};
static_assert(sizeof(AnswerLayout) == kAnswerFixedSize);
static_assert(offsetof(AnswerLayout, nonce) == 56);
static_assert(offsetof(AnswerLayout, head) == 120);
static_assert(offsetof(AnswerLayout, line) == 152);

using Nonce = StrongBytes<struct NonceTag, 32>;

struct Answer {
  VmId vm;
  SiteId from;
  SiteId to;
  Nonce nonce;
  Digest about;
  Digest head;
  std::vector<Digest> rivals;
  bool accepts = false;   // it takes the VM: consent, quota, room
  bool whole = false;     // its line is whole up to `line`, synced, checked
  bool prepared = false;  // it has shown that it could run the VM
  bool in_doubt = false;
  Line line;
  bool operator==(const Answer&) const = default;
};

struct SignedAnswer {
  Answer answer;
  crypto::Signature signature{};

  // `answer.from` is the signer's site (asserted).
  static SignedAnswer sign(const Answer& answer, const Signer& signer);
  // kCorrupt, kUnsupported.
  static Result<SignedAnswer> decode(ByteSpan bytes);
  Bytes encode() const;
  bool verify(const Verifier& verifier) const;
};

// What a question asks, as it reaches the other site.
struct Question {
  VmId vm;
  SiteId from;
  SiteId to;
  Nonce nonce;
  Digest about;
};

// The answer of a site that knows `chain`, but for what its keepers say (`whole`, `prepared`,
// `line`) and its operator's consent. Whoever sends it tells Asking::answered() first.
Answer answer_from(const Chain& chain, const Question& question);

}  // namespace hf::title
