#include "keeper/service/feed.h"

#include <algorithm>
#include <optional>

namespace hf::keeper {
namespace {

// How often durable progress is looked for while somebody waits for it: a bound on what this socket
// adds to the age of a record at the other site.
constexpr uint64_t kPollUs = 4'000;
constexpr size_t kFeedConnectionsMax = 8;

Error bad_request(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = "feed: " + cause};
}

}  // namespace

Bytes encode_feed_request(const FeedRequest& request) {
  Bytes raw(kFeedRequestSize);
  store_le<uint32_t>(&raw[0], kFeedMagic);
  store_le<uint32_t>(&raw[4], kFeedVersion);
  std::ranges::copy(request.after.incarnation.bytes, raw.begin() + 8);
  store_le<uint64_t>(&raw[40], request.after.sequence.value);
  store_le<uint32_t>(&raw[48], request.max_bytes);
  store_le<uint32_t>(&raw[52], request.wait_ms);
  return raw;
}

Result<FeedRequest> decode_feed_request(ByteSpan raw) {
  HF_ASSERT(raw.size() == kFeedRequestSize);
  if (load_le<uint32_t>(&raw[0]) != kFeedMagic) return bad_request("wrong magic");
  if (load_le<uint32_t>(&raw[4]) != kFeedVersion) return bad_request("unknown version");
  FeedRequest request;
  std::copy_n(raw.begin() + 8, 32, request.after.incarnation.bytes.begin());
  request.after.sequence = Sequence(load_le<uint64_t>(&raw[40]));
  request.max_bytes = load_le<uint32_t>(&raw[48]);
  request.wait_ms = load_le<uint32_t>(&raw[52]);
  if (request.max_bytes < journal::kRecordSizeMax || request.max_bytes > kFeedBytesMax) {
    return bad_request("max_bytes out of range");
  }
  if (request.wait_ms > kFeedWaitMsMax) return bad_request("wait_ms out of range");
  return request;
}

bool is_seed_request(ByteSpan raw) {
  return raw.size() >= 4 && load_le<uint32_t>(raw.data()) == kFeedSeedMagic;
}

Bytes encode_seed_request(const SeedRequest& request) {
  Bytes raw(kFeedRequestSize);
  store_le<uint32_t>(&raw[0], kFeedSeedMagic);
  store_le<uint32_t>(&raw[4], kFeedVersion);
  store_le<uint32_t>(&raw[8], static_cast<uint32_t>(request.question));
  store_le<uint64_t>(&raw[16], request.base);
  store_le<uint64_t>(&raw[24], request.offset);
  store_le<uint32_t>(&raw[32], request.length);
  return raw;
}

Result<SeedRequest> decode_seed_request(ByteSpan raw) {
  HF_ASSERT(raw.size() == kFeedRequestSize);
  if (!is_seed_request(raw)) return bad_request("wrong magic");
  if (load_le<uint32_t>(&raw[4]) != kFeedVersion) return bad_request("unknown version");
  SeedRequest request;
  const auto question = load_le<uint32_t>(&raw[8]);
  request.base = load_le<uint64_t>(&raw[16]);
  request.offset = load_le<uint64_t>(&raw[24]);
  request.length = load_le<uint32_t>(&raw[32]);
  const auto zero = [](std::byte byte) { return byte == std::byte{0}; };
  if (!std::ranges::all_of(raw.subspan(12, 4), zero) ||
      !std::ranges::all_of(raw.subspan(36), zero)) {
    return bad_request("reserved bytes set");
  }
  if (question == static_cast<uint32_t>(SeedQuestion::kDescribe)) {
    if (request != SeedRequest{}) return bad_request("a description has no range");
    return request;
  }
  if (question != static_cast<uint32_t>(SeedQuestion::kFetch)) {
    return bad_request("unknown question");
  }
  request.question = SeedQuestion::kFetch;
  if (request.length == 0 || request.length > journal::kSeedReadMax) {
    return bad_request("length out of range");
  }
  return request;
}

Bytes encode_feed_reply(const FeedReply& reply) {
  Bytes raw(kFeedReplySize);
  store_le<uint32_t>(&raw[0], kFeedMagic);
  store_le<uint32_t>(&raw[4], static_cast<uint32_t>(reply.status));
  store_le<uint64_t>(&raw[8], reply.durable.value);
  store_le<uint64_t>(&raw[16], reply.oldest_time.value);
  store_le<uint32_t>(&raw[24], reply.length);
  return raw;
}

Result<FeedReply> decode_feed_reply(ByteSpan raw) {
  HF_ASSERT(raw.size() == kFeedReplySize);
  if (load_le<uint32_t>(&raw[0]) != kFeedMagic) return bad_request("wrong magic in the reply");
  FeedReply reply;
  const auto status = load_le<uint32_t>(&raw[4]);
  if (status > static_cast<uint32_t>(FeedStatus::kFailed)) return bad_request("unknown status");
  reply.status = static_cast<FeedStatus>(status);
  reply.durable = Sequence(load_le<uint64_t>(&raw[8]));
  reply.oldest_time = Micros(load_le<uint64_t>(&raw[16]));
  reply.length = load_le<uint32_t>(&raw[24]);
  if (reply.length > kFeedBytesMax) return bad_request("reply is too long");
  return reply;
}

class FeedConnection final : public LocalConnection {
 public:
  FeedConnection(LocalServer& server, sys::UniqueFd socket, FeedServer& feed)
      : LocalConnection(server, std::move(socket)), feed_(feed) {}

  void answer(FeedReply reply, ByteSpan records) {
    reply.length = static_cast<uint32_t>(records.size());
    Bytes raw = encode_feed_reply(reply);
    raw.insert(raw.end(), records.begin(), records.end());
    send(std::move(raw));
  }
  const FeedRequest& request() const { return request_; }
  const std::optional<SeedRequest>& seed() const { return seed_; }
  Micros deadline() const { return deadline_; }

 private:
  void on_received(ByteSpan bytes) override {
    if (pending_.size() + bytes.size() > kFeedRequestSize) return fail();  // one request at a time
    pending_.insert(pending_.end(), bytes.begin(), bytes.end());
    if (pending_.size() < kFeedRequestSize) return receive_more();
    seed_.reset();
    if (is_seed_request(pending_)) {
      auto seed = decode_seed_request(pending_);
      pending_.clear();
      if (!seed.ok()) return answer({.status = FeedStatus::kBadRequest}, {});
      seed_ = *seed;
      if (seed_->question == SeedQuestion::kDescribe) return feed_.describe_seed(*this);
      return feed_.want(*this);
    }
    auto request = decode_feed_request(pending_);
    pending_.clear();
    if (!request.ok()) return answer({.status = FeedStatus::kBadRequest}, {});
    request_ = *request;
    deadline_ = Micros(server().reactor().now().value + uint64_t{request_.wait_ms} * 1000);
    feed_.want(*this);
  }
  void on_closing() override { feed_.forget(*this); }

  FeedServer& feed_;
  Bytes pending_;
  FeedRequest request_;
  std::optional<SeedRequest> seed_;  // this, and not request_, is asked
  Micros deadline_;
};

FeedServer::FeedServer(sys::Reactor& reactor, sys::UniqueFd listener, journal::Journal& journal)
    : reactor_(reactor),
      journal_(journal),
      server_(reactor, std::move(listener), kFeedConnectionsMax,
              [this](LocalServer& server, sys::UniqueFd socket) {
                return std::make_unique<FeedConnection>(server, std::move(socket), *this);
              }) {}

FeedServer::~FeedServer() { reactor_.disarm(*this); }

void FeedServer::stop() {
  server_.stop();
  reactor_.disarm(*this);
}

void FeedServer::want(FeedConnection& connection) {
  queue_.push_back(&connection);
  serve_next();
}

void FeedServer::describe_seed(FeedConnection& connection) {
  const Result<Bytes> seed = journal_.describe_seed();
  if (seed.ok()) {
    return connection.answer({.durable = journal_.durable_end().position.sequence}, *seed);
  }
  const bool none = seed.error().code == ErrorCode::kNotFound;
  connection.answer({.status = none ? FeedStatus::kMergedAway : FeedStatus::kFailed}, {});
}

void FeedServer::forget(FeedConnection& connection) {
  std::erase(queue_, &connection);
  std::erase(waiting_, &connection);
  if (reading_ == &connection) reading_ = nullptr;
}

void FeedServer::serve_next() {
  if (read_in_flight_ || queue_.empty()) return;
  reading_ = queue_.front();
  queue_.pop_front();
  read_in_flight_ = true;
  if (const auto& seed = reading_->seed()) {
    return journal_.read_seed(seed->base, seed->offset, seed->length, *this);
  }
  journal_.read_sealed(reading_->request().after, reading_->request().max_bytes, *this);
}

void FeedServer::on_sealed(Result<journal::SealedBatch> batch) {
  read_in_flight_ = false;
  FeedConnection* connection = std::exchange(reading_, nullptr);
  if (connection != nullptr) {
    if (!batch.ok()) {
      FeedStatus status = FeedStatus::kFailed;
      if (batch.error().code == ErrorCode::kConflict) status = FeedStatus::kForked;
      if (batch.error().code == ErrorCode::kNotFound) status = FeedStatus::kMergedAway;
      connection->answer({.status = status}, {});
    } else if (batch->records.empty() && reactor_.now() < connection->deadline()) {
      waiting_.push_back(connection);
      poll_later();
    } else {
      connection->answer({.durable = batch->durable, .oldest_time = batch->oldest_time},
                         batch->records);
    }
  }
  serve_next();
}

void FeedServer::poll_later() {
  if (!armed()) reactor_.arm(*this, Micros(reactor_.now().value + kPollUs));
}

void FeedServer::on_timer() {
  const Sequence durable = journal_.durable_end().position.sequence;
  std::deque<FeedConnection*> still;
  for (FeedConnection* connection : waiting_) {
    const bool due = reactor_.now() >= connection->deadline();
    if (due || durable > connection->request().after.sequence) {
      queue_.push_back(connection);
    } else {
      still.push_back(connection);
    }
  }
  waiting_.swap(still);
  if (!waiting_.empty()) poll_later();
  serve_next();
}

}  // namespace hf::keeper
