// What the vault's callers say and hear of titles: who may run a VM (src/title, and
// docs/formats/title.md). The daemon carries questions, answers and statements from vault to vault,
// and proposes; what is signed is judged here.
#pragma once

#include <optional>
#include <vector>

#include "title/answer.h"
#include "title/refusal.h"
#include "title/words.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {

// A frame holds this many bytes of statements; who asks again with what came gets the rest.
inline constexpr size_t kMaxBundle = 64 * 1024;
inline constexpr size_t kMaxKnown = 1 + title::kRivalsMax + title::kAncestorsMax;
inline constexpr size_t kMaxShownHolds = 4;

// What a site knows of a VM's title. `head` is null where it knows nothing.
struct TitleView {
  title::SignedPtr head;
  std::vector<title::SignedPtr> rivals;  // ascending by digest
  bool in_doubt = false;
  uint64_t depth = 0;             // statements in all
  std::vector<Digest> ancestors;  // some of what the head follows: title::Chain::ancestors()
};

// What another site's statements came to.
struct TitleLearned {
  TitleView view;
  bool head_changed = false;
  bool fence = false;  // it named this site as the holder, and does no more: no keeper is released
  std::vector<Digest> wanted;
  std::vector<title::RefusedStatement> refused;
};

// What is to be signed, about which head: a compare-and-set.
struct TitleProposal {
  VmId vm;
  Digest about;
  title::Kind kind = title::Kind::kProtect;
  SiteId subject;            // protect, stand by, expel, hand-over: the site; else zero
  uint32_t start_after = 0;  // policy
  title::Token token;        // of an operator's word; zero: there is none
};

// Signed, or why not and what leads on.
using TitleSigned = title::Judged<TitleView>;

// Of an operator's word, as it was given.
struct GivenWord {
  title::Token token;
  title::Word word;
};

// What this site's keeper has shown of the VM's line here, since it was started.
struct ShownLine {
  title::Line end;                 // durable
  bool whole = false;              // all of it up to `end` is here
  std::vector<title::Line> holds;  // others' positions that lie on it, at most kMaxShownHolds
};

// What the daemon says of this site when it is asked about a VM.
struct OwnWord {
  bool accepts = false;   // consent, quota, room
  bool prepared = false;  // it could run the VM
};

inline constexpr size_t kQuestionSize = 112;
Bytes encode_question(const title::Question& question);
Result<title::Question> decode_question(ByteSpan bytes);  // kCorrupt

void encode(Writer& to, const TitleView& view);
void encode(Writer& to, const TitleLearned& learned);
void encode(Writer& to, const TitleProposal& proposal);
void encode(Writer& to, const TitleSigned& outcome);
void encode(Writer& to, const GivenWord& given);
void encode(Writer& to, const title::Line& line);
void encode(Writer& to, const ShownLine& shown);
void encode(Writer& to, const title::Judged<void>& judged);
TitleView decode_title_view(Reader& reader);
TitleLearned decode_title_learned(Reader& reader);
TitleProposal decode_title_proposal(Reader& reader);
TitleSigned decode_title_signed(Reader& reader);
GivenWord decode_given_word(Reader& reader);
title::Line decode_line(Reader& reader);
ShownLine decode_shown_line(Reader& reader);
title::Judged<void> decode_judged(Reader& reader);

}  // namespace hf::vault
