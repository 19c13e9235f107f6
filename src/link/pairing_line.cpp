#include "link/pairing_line.h"

#include <algorithm>

namespace hf::link {

using peer::LinkType;

namespace {

constexpr Micros kFirstMessageLimit = seconds(5);
constexpr Micros kLimit = seconds(60);
constexpr Micros kCloseLimit = seconds(2);
constexpr size_t kMessagesMax = 8;
constexpr size_t kOutMax = kMessagesMax * (peer::kPairMessageMax + peer::kFrameHeaderSize);
// From the socket, handshake and TLS's own bytes included.
constexpr uint64_t kReceivedMax = 2 * kOutMax;
constexpr uint64_t kIgnoredMax = uint64_t{64} << 10;  // of it, after the end

Error closed() {
  return {.code = ErrorCode::kUnavailable, .cause = "the other site closed the connection"};
}

}  // namespace

PairingLine::PairingLine(Uplink& uplink, PairingOwner& owner, uint64_t id,
                         std::unique_ptr<TlsChannel> channel, std::string address)
    : uplink_(uplink),
      owner_(owner),
      id_(id),
      channel_(std::move(channel)),
      address_(std::move(address)),
      pump_task_(uplink.loop(), [this] { pump(); }),
      limit_(uplink.loop(),
             [this] {
               closing_
                   ? over()
                   : end({.code = ErrorCode::kTimeout, .cause = "the other site did not answer"});
             }),
      received_max_(kReceivedMax) {}

PairingLine::~PairingLine() {
  if (watched_) uplink_.loop().forget(channel_->fd(), *this);
}

Status PairingLine::start() {
  TRY(uplink_.loop().watch(channel_->fd(), *this));
  watched_ = true;
  limit_.arm(incoming() ? kFirstMessageLimit : kLimit);
  peer::PairUp up{.incoming = incoming(), .exporter = channel_->exporter(), .address = address_};
  for (const crypto::Certificate& one : TRY(channel_->peer_chain()))
    up.chain.push_back(one.to_pem());
  const std::string text = sys::encode_json_text(up);
  if (text.size() > peer::kLinkBodyMax)
    return Error{.code = ErrorCode::kLimit, .cause = "its certificates are too long"};
  uplink_.send(LinkType::kPairUp, id_, as_bytes(text));
  pump_task_.defer();
  return {};
}

void PairingLine::on_ready(uint32_t) { pump_task_.defer(); }

void PairingLine::send(ByteSpan message) {
  if (over_ || closing_ || message.empty() || message.size() > peer::kPairMessageMax) return;
  const Bytes frame = peer::encode_frame(peer::FrameType::kPair, 0, message);
  if (out_.size() + frame.size() > kOutMax)
    return end({.code = ErrorCode::kLimit, .cause = "the other site takes no messages"});
  out_.insert(out_.end(), frame.begin(), frame.end());
  pump_task_.defer();
}

void PairingLine::close() {
  if (over_ || closing_) return;
  closing_ = true;
  received_max_ = std::min(received_max_, channel_->received() + kIgnoredMax);
  limit_.arm(kCloseLimit);
  pump_task_.defer();
}

void PairingLine::end(const Error& why) {
  if (over_) return;
  if (!closing_) uplink_.send(LinkType::kEnded, id_, peer::encode_error_body({.error = why}));
  over();
}

void PairingLine::over() {
  if (over_) return;
  over_ = true;
  limit_.disarm();
  channel_->say_goodbye();
  if (watched_) uplink_.loop().forget(channel_->fd(), *this);
  watched_ = false;
  owner_.pairing_over(*this);
}

void PairingLine::pump() {
  if (over_) return;
  Status status = write_some();
  if (status.ok() && !over_) status = read_some();
  if (!status.ok() && !over_) end(status.error());
}

Status PairingLine::write_some() {
  while (!out_.empty()) {
    const TlsChannel::Moved moved = TRY(channel_->write(out_));
    if (moved.step == TlsChannel::Step::kBlocked) return {};
    if (moved.step == TlsChannel::Step::kClosed) return closed();
    out_.erase(out_.begin(), out_.begin() + static_cast<ptrdiff_t>(moved.bytes));
  }
  if (closing_ && !shut_) {
    // Closing with something unread would take back what was just said.
    shut_ = true;
    channel_->say_goodbye();
    ::shutdown(channel_->fd(), SHUT_WR);
  }
  return {};
}

Status PairingLine::read_some() {
  std::byte buffer[4096];
  for (;;) {
    const TlsChannel::Moved moved = TRY(channel_->read(buffer));
    if (channel_->received() > received_max_)
      return Error{.code = ErrorCode::kCorrupt, .cause = "more than a first contact has"};
    if (moved.step == TlsChannel::Step::kBlocked) return {};
    if (moved.step == TlsChannel::Step::kYield) {
      pump_task_.defer();
      return {};
    }
    if (moved.step == TlsChannel::Step::kClosed) return closed();
    if (closing_) continue;
    in_.insert(in_.end(), buffer, buffer + moved.bytes);
    while (const std::optional<peer::Frame> frame = TRY(peer::first_frame(in_))) {
      if (frame->header.type != peer::FrameType::kPair || ++messages_in_ > kMessagesMax)
        return Error{.code = ErrorCode::kCorrupt, .cause = "a message that does not belong here"};
      if (messages_in_ == 1) limit_.arm(kLimit);
      uplink_.send(LinkType::kPairMessage, id_, frame->body);
      in_.erase(in_.begin(),
                in_.begin() + static_cast<ptrdiff_t>(peer::kFrameHeaderSize + frame->body.size()));
    }
    // The largest frame and a read: no length is waited for that is not allowed here.
    if (in_.size() > peer::kFrameHeaderSize + peer::kPairMessageMax + sizeof buffer)
      return Error{.code = ErrorCode::kCorrupt, .cause = "a message that is too long"};
  }
}

}  // namespace hf::link
