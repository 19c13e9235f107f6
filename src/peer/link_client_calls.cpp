// Questions and streams, ours and those of other sites.
#include <algorithm>

#include "peer/link_client_impl.h"

namespace hf::peer {

using namespace std::chrono_literals;

namespace {

constexpr Millis kTakenBackWithin{500};  // the link says whether a question had left
constexpr size_t kGatheringMax = 1024;   // questions that are coming in
constexpr size_t kStreamsMax = 2 * kStreamsPerPeerMax * 16;

Error flooded() {
  return {.code = ErrorCode::kLimit, .cause = "holdfast-link sends more than can be taken"};
}

Error busy() {
  return {.code = ErrorCode::kLimit,
          .cause = "the other site's holdfastd has too much to do",
          .effect = "nothing was done",
          .mend = "try again"};
}

}  // namespace

// ---- Our questions ----

Result<Bytes> LinkClientImpl::call(SiteId site, ByteSpan request, Millis limit,
                                   Delivery* delivery) {
  Delivery unasked;
  if (delivery == nullptr) delivery = &unasked;
  delivery->unheard = true;  // until the link has all of it
  limit = std::clamp<Millis>(limit, 1ms, kQuestionLimitMax);
  if (request.size() > kRequestMax)
    return Error{.code = ErrorCode::kLimit, .cause = "a question to another site is too long"};
  const SteadyTime begun = std::chrono::steady_clock::now();
  const SteadyTime give_up = begun + std::clamp<Millis>(delivery->within, 1ms, limit);
  const uint64_t id = next_id_++;
  auto call = std::make_shared<Call>();
  call->site = site;
  WirePtr wire;
  std::string name = site.hex();
  {
    // A link that is being started again is waited for, as far as the limit allows.
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, give_up, [this] { return wire_ != nullptr || stopping_; });
    if (wire_ == nullptr) {
      Error error = status_.ok() ? link_gone() : status_.error();
      error.effect = "nothing was sent to the other site";
      return error;
    }
    wire = wire_;
    calls_[id] = call;
    if (const auto peer = peers_.find(site); peer != peers_.end())
      name = peer->second.settings.name;
  }
  Bytes head = encode_site(site);
  head.resize(head.size() + kAskHeadSize);
  store_le<uint32_t>(head.data() + 16, static_cast<uint32_t>(request.size()));
  store_le<uint32_t>(head.data() + 20, static_cast<uint32_t>(limit.count()));
  const Status sent =
      wire->send_parts(LinkType::kAsk, LinkType::kAskMore, id, std::move(head), request);
  if (!sent.ok()) {
    const std::lock_guard lock(mutex_);
    calls_.erase(id);
    return sent.error();
  }
  std::optional<Result<Bytes>> result = wait_answer(wire, id, *call, give_up, begun + limit);
  delivery->unheard = result && !result->ok() && call->unheard;
  if (result) return *std::move(result);
  return Error{
      .code = ErrorCode::kTimeout,
      .cause = "site " + name + " did not answer within " + std::to_string(limit.count()) + " ms",
      .effect = "whether it did what it was asked is not known",
      .mend = "holdfast site peers shows whether it can be reached"};
}

// At `end` the link is asked whether the question had left: only it knows.
std::optional<Result<Bytes>> LinkClientImpl::wait_answer(const WirePtr& wire, uint64_t id,
                                                         Call& call, SteadyTime give_up,
                                                         SteadyTime end) {
  std::unique_lock lock(mutex_);
  auto answered = [&] { return call.result.has_value(); };
  auto tell = [&](LinkType type) {
    lock.unlock();
    static_cast<void>(wire->send(type, id, {}));
    lock.lock();
  };
  if (!changed_.wait_until(lock, give_up, answered) && give_up < end) {
    tell(LinkType::kGiveUp);
    changed_.wait_until(lock, end, answered);
  }
  if (!answered()) {
    tell(LinkType::kCancel);
    changed_.wait_for(lock, kTakenBackWithin, answered);
    // That it had left says no more than that nobody answered.
    if (answered() && !call.result->ok() && !call.unheard) call.result.reset();
  }
  calls_.erase(id);
  return std::move(call.result);
}

// What comes for a question that nobody waits for any more is dropped.
void LinkClientImpl::settle(uint64_t id, Result<Bytes> result) {
  const auto at = calls_.find(id);
  HF_ASSERT(at != calls_.end());
  at->second->result = std::move(result);
  calls_.erase(at);
  changed_.notify_all();
}

Status LinkClientImpl::take_answer(const LinkMessage& message) {
  const std::lock_guard lock(mutex_);
  const auto at = calls_.find(message.id);
  if (at == calls_.end()) return {};
  Call& call = *at->second;
  if ((message.flags & kFlagError) != 0) {
    call.unheard = (message.flags & kFlagUnheard) != 0;
    settle(message.id, decode_error_body(message.body).error);
    return {};
  }
  const Answer answer = TRY(decode_answer(message.body));
  call.parts = PartCounter(answer.total);
  call.gathered.assign(answer.part.begin(), answer.part.end());
  TRY(call.parts.take(answer.part.size()));
  if (call.parts.whole()) settle(message.id, std::move(call.gathered));
  return {};
}

Status LinkClientImpl::take_answer_more(const LinkMessage& message) {
  const std::lock_guard lock(mutex_);
  const auto at = calls_.find(message.id);
  if (at == calls_.end()) return {};
  Call& call = *at->second;
  TRY(call.parts.take(message.body.size()));
  call.gathered.insert(call.gathered.end(), message.body.begin(), message.body.end());
  if (call.parts.whole()) settle(message.id, std::move(call.gathered));
  return {};
}

// ---- Other sites' questions ----

Status LinkClientImpl::take_ask(const WirePtr& wire, const LinkMessage& message) {
  const SiteId site = TRY(decode_site(message.body));
  const Ask ask = TRY(decode_ask(message.body.subspan(16)));
  Question question{.site = site,
                    .limit = Millis(ask.limit_ms),
                    .came = std::chrono::steady_clock::now(),
                    .parts = PartCounter(ask.total)};
  question.gathered.assign(ask.part.begin(), ask.part.end());
  TRY(question.parts.take(ask.part.size()));
  if (question.parts.whole()) {
    run_question(wire, message.id, std::move(question));
    return {};
  }
  const std::lock_guard lock(mutex_);
  if (questions_.size() >= kGatheringMax) return flooded();
  questions_[message.id] = std::move(question);
  return {};
}

Status LinkClientImpl::take_ask_more(const WirePtr& wire, const LinkMessage& message) {
  Question whole;
  {
    const std::lock_guard lock(mutex_);
    const auto at = questions_.find(message.id);
    if (at == questions_.end()) return {};  // it was cancelled
    Question& question = at->second;
    TRY(question.parts.take(message.body.size()));
    question.gathered.insert(question.gathered.end(), message.body.begin(), message.body.end());
    if (!question.parts.whole()) return {};
    whole = std::move(question);
    questions_.erase(at);
  }
  run_question(wire, message.id, std::move(whole));
  return {};
}

// One that waits for a worker gives its place back: else a site that asks and cancels without end
// has them all.
void LinkClientImpl::take_cancel(uint64_t id) {
  for (Workers* lane : {&short_, &orders_, &long_}) lane->drop(id);
  const std::lock_guard lock(mutex_);
  questions_.erase(id);
}

Workers& LinkClientImpl::lane_of(ByteSpan request) {
  const LinkHandlers& handlers = options_.handlers;
  switch (handlers.lane_of ? handlers.lane_of(request) : Lane::kLong) {
    case Lane::kShort:
      return short_;
    case Lane::kOrder:
      return orders_;
    case Lane::kLong:
      break;
  }
  return long_;
}

void LinkClientImpl::run_question(const WirePtr& wire, uint64_t id, Question question) {
  if (!options_.handlers.on_request) {
    return answer_unheard(
        wire, id,
        {.code = ErrorCode::kUnsupported, .cause = "the other site answers no questions"});
  }
  Workers& lane = lane_of(question.gathered);
  const SiteId site = question.site;
  const bool posted = lane.post(site, id, [this, wire, id, question = std::move(question)] {
    // One that waited here too long is not done behind its asker's back.
    if (std::chrono::steady_clock::now() - question.came >= question.limit)
      return answer_unheard(wire, id, busy());
    answer(wire, id,
           options_.handlers.on_request(question.site, question.gathered, question.limit));
  });
  if (!posted) answer_unheard(wire, id, busy());
}

void LinkClientImpl::answer_unheard(const WirePtr& wire, uint64_t id, const Error& error) {
  static_cast<void>(wire->send(LinkType::kAnswer, id, encode_error_body({.error = error}),
                               kFlagError | kFlagUnheard));
}

void LinkClientImpl::answer(const WirePtr& wire, uint64_t id, const Result<Bytes>& answer) {
  if (answer.ok() && answer->size() <= kAnswerMax) {
    Bytes head(kAnswerHeadSize);
    store_le<uint32_t>(head.data(), static_cast<uint32_t>(answer->size()));
    static_cast<void>(
        wire->send_parts(LinkType::kAnswer, LinkType::kAnswerMore, id, std::move(head), *answer));
    return;
  }
  const Error error =
      answer.ok() ? Error{.code = ErrorCode::kLimit, .cause = "the other site's answer is too long"}
                  : answer.error();
  static_cast<void>(
      wire->send(LinkType::kAnswer, id, encode_error_body({.error = error}), kFlagError));
}

// ---- Streams ----

Result<StreamId> LinkClientImpl::open_stream(SiteId site, VmId vm, sys::UniqueFd keeper) {
  const uint64_t id = next_id_++;
  WirePtr wire;
  {
    const std::lock_guard lock(mutex_);
    if (wire_ == nullptr) return status_.ok() ? link_gone() : status_.error();
    wire = wire_;
    streams_[id] = {.id = StreamId(id), .site = site, .vm = vm, .incoming = false};
    wire_ids_[StreamId(id)] = id;
  }
  const Status sent =
      wire->send(LinkType::kOpen, id, encode_open_body({.site = site, .vm = vm}), 0, keeper.get());
  if (sent.ok()) return StreamId(id);
  const std::lock_guard lock(mutex_);
  // If it is not here any more, its end is reported: the reader saw the link go first.
  if (streams_.erase(id) == 0) return StreamId(id);
  wire_ids_.erase(StreamId(id));
  return sent.error();
}

void LinkClientImpl::close_stream(StreamId id) {
  WirePtr wire;
  uint64_t wire_id = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto at = wire_ids_.find(id);
    if (at == wire_ids_.end() || wire_ == nullptr) return;
    wire_id = at->second;
    wire = wire_;
  }
  static_cast<void>(wire->send(LinkType::kClose, wire_id, {}));
}

Status LinkClientImpl::take_stream_ask(const WirePtr& wire, const LinkMessage& message) {
  const OpenBody open = TRY(decode_open_body(message.body));
  if ((message.id & kLinkIdBit) == 0) return flooded();
  StreamAsk ask{.id = StreamId(kLinkIdBit | next_id_++), .site = open.site, .vm = open.vm};
  {
    const std::lock_guard lock(mutex_);
    if (streams_.size() >= kStreamsMax || streams_.contains(message.id)) return flooded();
    streams_[message.id] = {.id = ask.id, .site = ask.site, .vm = ask.vm, .incoming = true};
    wire_ids_[ask.id] = message.id;
  }
  const bool posted = stream_workers_.post(
      ask.site, message.id, [this, wire, id = message.id, ask] { run_stream_ask(wire, id, ask); });
  if (posted) return {};
  return wire->send(LinkType::kRefuse, message.id, encode_error_body({.error = busy()}));
}

void LinkClientImpl::run_stream_ask(const WirePtr& wire, uint64_t id, const StreamAsk& ask) {
  StreamReply reply;
  if (options_.handlers.on_stream_asked) {
    reply = options_.handlers.on_stream_asked(ask);
  } else {
    reply.refusal = StreamRefusal{
        .error = {.code = ErrorCode::kUnsupported, .cause = "the other site takes no streams"}};
  }
  if (reply.keeper && !reply.refusal) {
    static_cast<void>(wire->send(LinkType::kAccept, id, {}, 0, reply.keeper.get()));
    return;
  }
  const StreamRefusal refusal = reply.refusal.value_or(
      StreamRefusal{.error = {.code = ErrorCode::kInternal, .cause = "no reason was given"}});
  static_cast<void>(
      wire->send(LinkType::kRefuse, id,
                 encode_error_body({.error = refusal.error, .detail = refusal.detail})));
}

bool LinkClientImpl::post_stream_event(StreamEvent event) {
  if (!options_.handlers.on_stream) return true;
  return post_event([this, event = std::move(event)] { options_.handlers.on_stream(event); });
}

Status LinkClientImpl::take_opened(const LinkMessage& message) {
  const std::lock_guard lock(mutex_);
  const auto at = streams_.find(message.id);
  if (at == streams_.end()) return {};
  const Stream& stream = at->second;
  const bool posted = post_stream_event({.id = stream.id,
                                         .kind = StreamEvent::Kind::kOpened,
                                         .site = stream.site,
                                         .vm = stream.vm,
                                         .incoming = stream.incoming});
  return posted ? Status() : flooded();
}

Status LinkClientImpl::take_ended(const LinkMessage& message) {
  stream_workers_.drop(message.id);  // if it is one that nobody has looked at yet
  const std::shared_ptr<PairChannel> pairing = forget_pairing(message.id);
  std::optional<ErrorBody> why;
  if (!message.body.empty()) why = decode_error_body(message.body);
  if (pairing) {
    pairing->end(why ? std::optional(why->error) : std::nullopt);
    return {};
  }
  const std::lock_guard lock(mutex_);
  const auto at = streams_.find(message.id);
  if (at == streams_.end()) return {};
  const Stream stream = at->second;
  streams_.erase(at);
  wire_ids_.erase(stream.id);
  StreamEvent event{.id = stream.id,
                    .kind = StreamEvent::Kind::kEnded,
                    .site = stream.site,
                    .vm = stream.vm,
                    .incoming = stream.incoming};
  if (why) {
    event.error = why->error;
    event.refused = message.type == LinkType::kRefuse;
    event.detail = std::move(why->detail);
  }
  return post_stream_event(std::move(event)) ? Status() : flooded();
}

}  // namespace hf::peer
