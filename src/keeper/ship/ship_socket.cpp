#include "keeper/ship/ship_socket.h"

#include <sys/socket.h>

#include <cerrno>

namespace hf::keeper {
namespace {

constexpr size_t kReceiveBytes = size_t{256} << 10;
static_assert(kReceiveBytes <= replication::FrameReader::kPushMax);
// Streams at their end, whose last words are not out. Whoever opens more loses the oldest ones'.
constexpr size_t kEndingMax = 4;
constexpr uint64_t kAcceptRetryUs = 100'000;

}  // namespace

class ShipSocket::Stream final : private sys::Timer {
 public:
  Stream(ShipSocket& owner, sys::UniqueFd socket)
      : owner_(owner), socket_(std::move(socket)), buffer_(kReceiveBytes) {}
  ~Stream() { owner_.reactor_.disarm(*this); }

  void receive() { owner_.reactor_.receive(socket_.get(), buffer_, receive_); }
  void send(Bytes frame) {
    if (closed_) return;
    unsent_.push_back(std::move(frame));
    if (!send_.in_flight()) send_next();
  }
  // No frame is handed on any more. What was sent goes out, then the other side reads the end; what
  // it still sends is taken until it has closed as well, or its writes would fail before it has
  // read why.
  void finish() {
    finishing_ = true;
    owner_.reactor_.arm(*this, Micros(owner_.reactor_.now().value + kLastWordsUs));
    if (unsent_.empty()) shut_down();
  }
  void close() {
    closed_ = finishing_ = true;
    owner_.reactor_.disarm(*this);
    if (receive_.in_flight()) owner_.reactor_.cancel_operation(receive_);
    if (send_.in_flight()) owner_.reactor_.cancel_operation(send_);
    owner_.reap_soon();
  }
  bool finished() const { return closed_ && !receive_.in_flight() && !send_.in_flight(); }
  void trim() {
    if (reader_.empty()) reader_ = replication::FrameReader();
  }

 private:
  class Receive final : public sys::Operation {
   public:
    explicit Receive(Stream& stream) : stream_(stream) {}
    void on_result(int32_t result) override { stream_.on_received(result); }
    Stream& stream_;
  };
  class Send final : public sys::Operation {
   public:
    explicit Send(Stream& stream) : stream_(stream) {}
    void on_result(int32_t result) override { stream_.on_sent(result); }
    Stream& stream_;
  };

  void on_timer() override { close(); }

  void on_received(int32_t result) {
    if (closed_) return owner_.reap_soon();
    if (finishing_) return result > 0 ? receive() : close();
    if (result <= 0) return lose(result);
    reader_.push(ByteSpan(buffer_).first(static_cast<size_t>(result)));
    while (!finishing_) {
      Result<std::optional<replication::Frame>> frame = reader_.next();
      if (!frame.ok()) return owner_.on_stream_lost(*this, std::move(frame).error());
      if (!frame->has_value()) return receive();
      owner_.handler_.on_ship_frame(**frame);
    }
    if (!closed_ && !receive_.in_flight()) receive();
  }

  void on_sent(int32_t result) {
    if (closed_) return owner_.reap_soon();
    if (result <= 0) return finishing_ ? close() : lose(result);
    sent_ += static_cast<size_t>(result);
    HF_ASSERT(!unsent_.empty() && sent_ <= unsent_.front().size());
    if (sent_ == unsent_.front().size()) {
      unsent_.pop_front();
      sent_ = 0;
    }
    if (!unsent_.empty()) return send_next();
    if (finishing_) shut_down();
  }

  void shut_down() { (void)::shutdown(socket_.get(), SHUT_WR); }

  void send_next() {
    owner_.reactor_.send(socket_.get(), ByteSpan(unsent_.front()).subspan(sent_), send_);
  }

  void lose(int32_t result) {
    Error reason{.code = ErrorCode::kUnavailable, .cause = "the stream to the peer ended"};
    if (result < 0) reason = errno_error(-result, "carry the stream to the peer");
    owner_.on_stream_lost(*this, std::move(reason));
  }

  ShipSocket& owner_;
  sys::UniqueFd socket_;
  Receive receive_{*this};
  Send send_{*this};
  Bytes buffer_;
  replication::FrameReader reader_;
  std::deque<Bytes> unsent_;
  size_t sent_ = 0;  // of the first
  bool finishing_ = false;
  bool closed_ = false;
};

ShipSocket::ShipSocket(sys::Reactor& reactor, sys::UniqueFd listener, ShipHandler& handler)
    : reactor_(reactor), listener_(std::move(listener)), handler_(handler) {}

ShipSocket::~ShipSocket() {
  HF_ASSERT(!accept_.in_flight() && streams_.empty());
  reactor_.cancel(reap_);
}

void ShipSocket::start() { reactor_.accept(listener_.get(), accept_); }

void ShipSocket::stop() {
  if (stopping_) return;
  stopping_ = true;
  reactor_.disarm(retry_);
  if (accept_.in_flight()) reactor_.cancel_operation(accept_);
  current_ = nullptr;
  for (auto& stream : streams_) stream->close();
}

bool ShipSocket::stopped() const { return stopping_ && streams_.empty() && !accept_.in_flight(); }

void ShipSocket::on_accept_result(int32_t result) {
  sys::UniqueFd socket(result >= 0 ? result : -1);
  if (stopping_) return;
  // Out of descriptors, or a client that left before it was accepted: passes.
  if (!socket) return reactor_.arm(retry_, Micros(reactor_.now().value + kAcceptRetryUs));
  if (Stream* older = std::exchange(current_, nullptr); older != nullptr) {
    older->close();
    handler_.on_ship_closed({.code = ErrorCode::kConflict, .cause = "a newer stream took over"});
  }
  if (streams_.size() > kEndingMax) streams_.front()->close();
  streams_.push_back(std::make_unique<Stream>(*this, std::move(socket)));
  current_ = streams_.back().get();
  current_->receive();
  handler_.on_ship_open();
  start();
}

void ShipSocket::on_stream_lost(Stream& stream, Error reason) {
  const bool was_current = current_ == &stream;
  if (was_current) current_ = nullptr;
  stream.close();
  if (was_current) handler_.on_ship_closed(std::move(reason));
}

void ShipSocket::send(Bytes frame) {
  if (current_ != nullptr) current_->send(std::move(frame));
}

void ShipSocket::end() {
  if (Stream* stream = std::exchange(current_, nullptr); stream != nullptr) stream->finish();
}

void ShipSocket::trim() {
  if (current_ != nullptr) current_->trim();
}

void ShipSocket::reap_soon() {
  if (!reap_.queued()) reactor_.defer(reap_);
}

void ShipSocket::reap() {
  std::erase_if(streams_, [](const auto& stream) { return stream->finished(); });
}

}  // namespace hf::keeper
