// First contacts: the link's messages as PairingSessions.
#include "peer/address.h"
#include "peer/link_client_impl.h"

namespace hf::peer {

using namespace std::chrono_literals;

namespace {

Error closed() {
  return {.code = ErrorCode::kUnavailable, .cause = "the other site closed the connection"};
}

class Session final : public PairingSession {
 public:
  Session(std::shared_ptr<Wire> wire, uint64_t id, std::shared_ptr<PairChannel> channel, PairUp up,
          std::vector<crypto::Certificate> chain)
      : wire_(std::move(wire)),
        id_(id),
        channel_(std::move(channel)),
        up_(std::move(up)),
        chain_(std::move(chain)) {}
  // What was sent before is still delivered: the link closes once it is written.
  ~Session() override { static_cast<void>(wire_->send(LinkType::kClose, id_, {})); }

  bool incoming() const override { return up_.incoming; }
  const Digest& exporter() const override { return up_.exporter; }
  const std::vector<crypto::Certificate>& peer_chain() const override { return chain_; }
  const std::string& peer_address() const override { return up_.address; }

  Status send(const sys::JsonObject& message) override {
    const std::string text = sys::to_text(message);
    if (text.size() > kPairMessageMax)
      return Error{.code = ErrorCode::kLimit, .cause = "a message to the other site is too long"};
    return wire_->send_text(LinkType::kPairMessage, id_, text);
  }

  Result<sys::JsonObject> receive(Millis limit) override {
    Bytes body;
    {
      std::unique_lock lock(channel_->mutex);
      const bool came = channel_->changed.wait_for(
          lock, limit, [this] { return channel_->over || !channel_->inbox.empty(); });
      if (!came)
        return Error{.code = ErrorCode::kTimeout, .cause = "the other site did not answer"};
      if (channel_->inbox.empty()) return channel_->error.value_or(closed());
      body = std::move(channel_->inbox.front());
      channel_->inbox.pop_front();
    }
    sys::JsonObject message =
        TRY(sys::parse_json_object(as_text(body), {.bytes_max = kPairMessageMax, .depth_max = 8}));
    if (!sys::has_member(message, "error")) return message;
    return decode_error_body(body).error;
  }

 private:
  std::shared_ptr<Wire> wire_;
  uint64_t id_;
  std::shared_ptr<PairChannel> channel_;
  PairUp up_;
  std::vector<crypto::Certificate> chain_;
};

Result<std::vector<crypto::Certificate>> parse_chain(const PairUp& up) {
  std::vector<crypto::Certificate> chain;
  for (const std::string& pem : up.chain) chain.push_back(TRY(crypto::Certificate::from_pem(pem)));
  return chain;
}

}  // namespace

Result<std::unique_ptr<PairingSession>> LinkClientImpl::pair(const std::string& address,
                                                             Millis limit) {
  const SteadyTime end = std::chrono::steady_clock::now() + limit;
  PairDial dial{.addresses = TRY(numeric_addresses(address)),
                .limit_ms = static_cast<uint64_t>(std::clamp<Millis>(limit, 1ms, 60s).count())};
  const uint64_t id = next_id_++;
  auto channel = std::make_shared<PairChannel>();
  WirePtr wire;
  {
    const std::lock_guard lock(mutex_);
    if (wire_ == nullptr) return status_.ok() ? link_gone() : status_.error();
    wire = wire_;
    pairings_[id] = channel;
  }
  Status sent = wire->send_text(LinkType::kPairDial, id, sys::encode_json_text(dial));
  if (!sent.ok()) {
    forget_pairing(id);
    return sent.error();
  }
  std::optional<PairUp> up;
  {
    std::unique_lock lock(channel->mutex);
    channel->changed.wait_until(lock, end, [&] { return channel->over || channel->up; });
    up = channel->up;
    if (!up && channel->over) return channel->error.value_or(closed());
  }
  Result<std::vector<crypto::Certificate>> chain =
      up ? parse_chain(*up)
         : Error{.code = ErrorCode::kTimeout, .cause = address + " did not answer in time"};
  if (!chain.ok()) {
    forget_pairing(id);
    static_cast<void>(wire->send(LinkType::kClose, id, {}));
    return std::move(chain).error();
  }
  return std::unique_ptr<PairingSession>(
      std::make_unique<Session>(wire, id, channel, *std::move(up), *std::move(chain)));
}

std::shared_ptr<PairChannel> LinkClientImpl::forget_pairing(uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto at = pairings_.find(id);
  if (at == pairings_.end()) return nullptr;
  std::shared_ptr<PairChannel> channel = at->second;
  pairings_.erase(at);
  return channel;
}

Status LinkClientImpl::take_pair_up(const WirePtr& wire, const LinkMessage& message) {
  PairUp up = TRY(decode_body<PairUp>(message.body));
  if (!up.incoming) {
    std::shared_ptr<PairChannel> channel;
    {
      const std::lock_guard lock(mutex_);
      const auto at = pairings_.find(message.id);
      if (at == pairings_.end()) return {};  // nobody waits any more, and the link was told
      channel = at->second;
    }
    const std::lock_guard lock(channel->mutex);
    channel->up = std::move(up);
    channel->changed.notify_all();
    return {};
  }
  auto channel = std::make_shared<PairChannel>();
  {
    const std::lock_guard lock(mutex_);
    if (pairings_running_ >= kPairingsMax || !options_.handlers.on_pairing) {
      channel.reset();
    } else {
      ++pairings_running_;
      pairings_[message.id] = channel;
    }
  }
  if (channel == nullptr) return wire->send(LinkType::kClose, message.id, {});
  const bool posted = aside_.post([this, wire, id = message.id, channel, up = std::move(up)] {
    run_pairing(wire, id, channel, up);
  });
  if (posted) return {};
  forget_pairing(message.id);
  {
    const std::lock_guard lock(mutex_);
    --pairings_running_;
  }
  return wire->send(LinkType::kClose, message.id, {});
}

void LinkClientImpl::run_pairing(const WirePtr& wire, uint64_t id,
                                 std::shared_ptr<PairChannel> channel, PairUp up) {
  Result<std::vector<crypto::Certificate>> chain = parse_chain(up);
  if (chain.ok()) {
    Session session(wire, id, channel, std::move(up), *std::move(chain));
    options_.handlers.on_pairing(session);
  } else {
    static_cast<void>(wire->send(LinkType::kClose, id, {}));
  }
  forget_pairing(id);
  const std::lock_guard lock(mutex_);
  --pairings_running_;
}

Status LinkClientImpl::take_pair_message(const LinkMessage& message) {
  if (message.body.size() > kPairMessageMax)
    return Error{.code = ErrorCode::kLimit, .cause = "a message of a first contact is too long"};
  std::shared_ptr<PairChannel> channel;
  {
    const std::lock_guard lock(mutex_);
    const auto at = pairings_.find(message.id);
    if (at == pairings_.end()) return {};
    channel = at->second;
  }
  const std::lock_guard lock(channel->mutex);
  // More than the exchange has: what is too much is lost, and the proof fails.
  if (channel->inbox.size() < kPairInboxMax)
    channel->inbox.emplace_back(message.body.begin(), message.body.end());
  channel->changed.notify_all();
  return {};
}

}  // namespace hf::peer
