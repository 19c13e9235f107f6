// Questions of a session: ours on their way there and back, theirs likewise. The bytes are not held
// here: each part goes on as it comes, counted against what was announced.
#include "link/session.h"

namespace hf::link {

using peer::FrameType;
using peer::LinkType;

namespace {

// holdfastd at either end has its own clock; this one only clears up after it.
constexpr uint64_t kGraceUs = 3'000'000;

Error broke_rules(std::string cause) {
  return {.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

Error too_many() {
  return {.code = ErrorCode::kLimit,
          .cause = "too many questions between the two sites are under way",
          .effect = "nothing was done",
          .mend = "try again"};
}

Error daemon_ended() {
  return {.code = ErrorCode::kUnavailable,
          .cause = "the other site's holdfastd ended while it was asked",
          .effect = "whether it did what it was asked is not known",
          .mend = "try again"};
}

Error daemon_silent() {
  return {.code = ErrorCode::kUnavailable,
          .cause = "the other site's host is up, but its holdfastd does not answer",
          .effect = "nothing was done",
          .mend = "holdfast site start there"};
}

}  // namespace

// ---- Ours ----

void Session::ask(uint64_t link_id, uint32_t total, uint32_t limit_ms, ByteSpan part) {
  if (ours_.size() >= peer::kQuestionsPerPeerMax)
    return end_ours(link_id, too_many(), peer::kFlagUnheard);
  OurQuestion question{.mux_id = next_id(next_question_),
                       .asked = peer::PartCounter(total),
                       .small = total <= part.size()};
  if (!question.asked.take(part.size()).ok())
    return end_ours(link_id, too_many(), peer::kFlagUnheard);
  question.limit = std::make_unique<CallbackTimer>(uplink_.loop(), [this, link_id] {
    const auto at = ours_.find(link_id);
    queue(peer::encode_frame(FrameType::kCancel, at->second.mux_id, {}));
    end_ours(link_id, {.code = ErrorCode::kTimeout, .cause = "site " + name_ + " did not answer"});
  });
  question.limit->arm(Micros(uint64_t{limit_ms} * 1000 + kGraceUs));
  queue(peer::encode_ask(question.mux_id, {.total = total, .limit_ms = limit_ms, .part = part}),
        question.small ? Rank::kFirst : Rank::kSecond);
  our_ids_[question.mux_id] = link_id;
  ours_[link_id] = std::move(question);
}

void Session::ask_more(uint64_t link_id, ByteSpan part) {
  const auto at = ours_.find(link_id);
  if (at == ours_.end()) return;
  if (part.empty() || !at->second.asked.take(part.size()).ok())
    return end_ours(link_id, too_many());
  queue(peer::encode_frame(FrameType::kAskMore, at->second.mux_id, part), Rank::kSecond);
}

void Session::end_ours(uint64_t link_id, const Error& error, uint8_t more_flags) {
  if (const auto at = ours_.find(link_id); at != ours_.end()) {
    our_ids_.erase(at->second.mux_id);
    // Its timer may be what calls.
    uplink_.loop().bury(std::move(at->second.limit));
    ours_.erase(at);
  }
  uplink_.send(LinkType::kAnswer, link_id, peer::encode_error_body({.error = error}),
               peer::kFlagError | more_flags);
  uplink_.drop_id(link_id);
}

Status Session::take_answer(const peer::Frame& frame) {
  const auto id = our_ids_.find(frame.header.id);
  if (id == our_ids_.end()) return {};  // nobody waits for it any more
  const uint64_t link_id = id->second;
  OurQuestion& question = ours_.at(link_id);
  if (question.answered) return broke_rules("a second answer");
  bool whole = true;
  if ((frame.header.flags & peer::kFlagError) != 0) {
    if (frame.body.size() > peer::kErrorBodyMax) return broke_rules("an error that is too long");
  } else {
    const peer::Answer answer = TRY(peer::decode_answer(frame.body));
    question.answered.emplace(answer.total);
    TRY(question.answered->take(answer.part.size()));
    whole = question.answered->whole();
  }
  uplink_.send(LinkType::kAnswer, link_id, frame.body, frame.header.flags);
  if (!whole) return {};
  ours_.erase(link_id);
  our_ids_.erase(id);
  uplink_.drop_id(link_id);
  return {};
}

Status Session::take_answer_more(const peer::Frame& frame) {
  const auto id = our_ids_.find(frame.header.id);
  if (id == our_ids_.end()) return {};
  const uint64_t link_id = id->second;
  OurQuestion& question = ours_.at(link_id);
  if (!question.answered) return broke_rules("an answer that begins in the middle");
  TRY(question.answered->take(frame.body.size()));
  uplink_.send(LinkType::kAnswerMore, link_id, frame.body);
  if (!question.answered->whole()) return {};
  ours_.erase(link_id);
  our_ids_.erase(id);
  uplink_.drop_id(link_id);
  return {};
}

void Session::cancel(uint64_t link_id) {
  const auto at = ours_.find(link_id);
  if (at == ours_.end()) return;
  queue(peer::encode_frame(FrameType::kCancel, at->second.mux_id, {}));
  end_ours(link_id, {.code = ErrorCode::kTimeout, .cause = "site " + name_ + " did not answer"});
}

// ---- Theirs ----

void Session::refuse_question(uint64_t mux_id, const Error& error, uint8_t more_flags) {
  queue(peer::encode_frame(FrameType::kAnswer, mux_id, peer::encode_error_body({.error = error}),
                           peer::kFlagError | more_flags));
}

Status Session::take_ask(const peer::Frame& frame) {
  const uint64_t mux_id = frame.header.id;
  const peer::Ask ask = TRY(peer::decode_ask(frame.body));
  if ((mux_id % 2 == 1) == dialled_by_us()) return broke_rules("a question with an id of ours");
  if (theirs_.contains(mux_id)) return broke_rules("a question that is there already");
  if (theirs_.size() >= peer::kQuestionsPerPeerMax) {
    refuse_question(mux_id, too_many(), peer::kFlagUnheard);
    return {};
  }
  if (!uplink_.reachable()) {
    refuse_question(mux_id, daemon_silent(), peer::kFlagUnheard);
    return {};
  }
  const uint64_t link_id = uplink_.new_id(site_);
  TheirQuestion question{.link_id = link_id, .asked = peer::PartCounter(ask.total)};
  TRY(question.asked.take(ask.part.size()));
  question.limit = std::make_unique<CallbackTimer>(uplink_.loop(), [this, mux_id] {
    refuse_question(mux_id, {.code = ErrorCode::kTimeout,
                             .cause = "the other site's holdfastd did not answer in time"});
    uplink_.send(LinkType::kCancel, theirs_.at(mux_id).link_id, {});
    end_theirs(mux_id);
  });
  question.limit->arm(Micros(uint64_t{ask.limit_ms} * 1000 + kGraceUs));
  theirs_[mux_id] = std::move(question);
  their_ids_[link_id] = mux_id;
  Bytes body = peer::encode_site(site_);
  body.insert(body.end(), frame.body.begin(), frame.body.end());
  uplink_.send(LinkType::kAsk, link_id, body);
  return {};
}

Status Session::take_ask_more(const peer::Frame& frame) {
  const auto at = theirs_.find(frame.header.id);
  if (at == theirs_.end()) return {};  // it was refused
  TRY(at->second.asked.take(frame.body.size()));
  uplink_.send(LinkType::kAskMore, at->second.link_id, frame.body);
  return {};
}

void Session::take_cancel(uint64_t mux_id) {
  const auto at = theirs_.find(mux_id);
  if (at == theirs_.end()) return;
  uplink_.send(LinkType::kCancel, at->second.link_id, {});
  end_theirs(mux_id);
}

void Session::end_theirs(uint64_t mux_id) {
  const auto at = theirs_.find(mux_id);
  uplink_.drop_id(at->second.link_id);
  their_ids_.erase(at->second.link_id);
  uplink_.loop().bury(std::move(at->second.limit));
  theirs_.erase(at);
}

void Session::answer(uint64_t link_id, ByteSpan body, uint8_t flags) {
  const auto id = their_ids_.find(link_id);
  if (id == their_ids_.end()) return;
  const uint64_t mux_id = id->second;
  TheirQuestion& question = theirs_.at(mux_id);
  if (question.answered) return;
  bool whole = true;
  bool small = true;
  if ((flags & peer::kFlagError) == 0) {
    const Result<peer::Answer> answer = peer::decode_answer(body);
    if (!answer.ok() || body.size() > peer::kFrameBodyMax) return;
    question.answered.emplace(answer->total);
    static_cast<void>(question.answered->take(answer->part.size()));
    whole = question.answered->whole();
    small = whole;
  } else if (body.size() > peer::kErrorBodyMax) {
    return;
  }
  question.small = small;
  queue(peer::encode_frame(FrameType::kAnswer, mux_id, body, flags),
        small ? Rank::kFirst : Rank::kSecond);
  if (whole) end_theirs(mux_id);
}

void Session::answer_more(uint64_t link_id, ByteSpan part) {
  const auto id = their_ids_.find(link_id);
  if (id == their_ids_.end()) return;
  const uint64_t mux_id = id->second;
  TheirQuestion& question = theirs_.at(mux_id);
  if (!question.answered || part.empty() || part.size() > peer::kFrameBodyMax ||
      !question.answered->take(part.size()).ok())
    return;
  queue(peer::encode_frame(FrameType::kAnswerMore, mux_id, part), Rank::kSecond);
  if (question.answered->whole()) end_theirs(mux_id);
}

// ---- The ends ----

void Session::end_questions(const Error& why) {
  Error error = why;
  error.code = ErrorCode::kUnavailable;
  if (error.effect.empty()) error.effect = "whether it did what it was asked is not known";
  if (error.mend.empty()) error.mend = "try again";
  while (!ours_.empty()) end_ours(ours_.begin()->first, error);
  while (!theirs_.empty()) {
    uplink_.send(LinkType::kCancel, theirs_.begin()->second.link_id, {});
    end_theirs(theirs_.begin()->first);
  }
}

void Session::daemon_gone() {
  while (!ours_.empty()) cancel(ours_.begin()->first);
  while (!theirs_.empty()) {
    const uint64_t mux_id = theirs_.begin()->first;
    // Where an answer has begun, the other side's limit ends it.
    if (!theirs_.begin()->second.answered) refuse_question(mux_id, daemon_ended());
    end_theirs(mux_id);
  }
  std::vector<Stream*> waiting;
  for (const auto& [id, stream] : streams_) {
    if (stream->state() != Stream::State::kOpen) waiting.push_back(stream.get());
  }
  for (Stream* stream : waiting) end_stream(*stream, daemon_silent(), true);
}

}  // namespace hf::link
