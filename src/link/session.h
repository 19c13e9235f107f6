// One connection with a paired site that has shown who it is: frames, streams, questions.
//
// What goes out has three ranks: control and short questions; long questions and answers; data,
// a frame of each stream in turn. A rank waits while one above it has something, so a stop order
// is never behind a VM's data. The kernel is given little ahead of what it can send.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>

#include "link/stream.h"
#include "link/tls_channel.h"
#include "link/uplink.h"

namespace hf::link {

class Session;

class SessionOwner {
 public:
  virtual void session_up(Session& session) = 0;
  // By how much its clock is ahead of ours, less what the frame took; negative: behind.
  virtual void session_clock(Session& session, int64_t ahead_us) = 0;
  // The last call about it; the owner buries it.
  virtual void session_down(Session& session, const Error& why) = 0;

 protected:
  ~SessionOwner() = default;
};

class Session final : public Watcher, public StreamOwner {
 public:
  Session(Uplink& uplink, SessionOwner& owner, SiteId site, std::string name,
          std::unique_ptr<TlsChannel> channel);
  ~Session();

  Status start();
  bool up() const { return up_; }
  bool dialled_by_us() const { return channel_->is_client(); }
  Micros since() const { return since_; }
  Micros last_seen_wall() const { return last_seen_wall_; }
  // Neither streams nor questions.
  bool idle() const;
  bool has(uint64_t link_id) const;
  // Ends it: everything on it fails with `why`. The other site is told, if it listens.
  void end(const Error& why, bool tell);

  // From holdfastd. `frames` are an encoded question's; a long one comes in more of them.
  void ask(uint64_t link_id, uint32_t total, uint32_t limit_ms, ByteSpan part);
  void ask_more(uint64_t link_id, ByteSpan part);
  void answer(uint64_t link_id, ByteSpan body, uint8_t flags);
  void answer_more(uint64_t link_id, ByteSpan part);
  // Says that it was asked: it had left.
  void cancel(uint64_t link_id);
  void open(uint64_t link_id, VmId vm, sys::UniqueFd keeper);
  void accept(uint64_t link_id, sys::UniqueFd keeper);
  void refuse(uint64_t link_id, ByteSpan body);
  void close(uint64_t link_id);
  // holdfastd is gone: its questions are cancelled, what waits for its answers is refused. Streams
  // that are open go on.
  void daemon_gone();
  // Another holdfastd is there, which knows of no stream.
  void close_all();

  void on_ready(uint32_t events) override;
  void stream_ready(Stream& stream) override;

 private:
  struct OurQuestion {
    uint64_t mux_id = 0;
    peer::PartCounter asked;
    bool small = false;
    std::optional<peer::PartCounter> answered;
    std::unique_ptr<CallbackTimer> limit;
  };
  struct TheirQuestion {
    uint64_t link_id = 0;
    peer::PartCounter asked;
    std::optional<peer::PartCounter> answered;
    bool small = false;
    std::unique_ptr<CallbackTimer> limit;
  };
  enum class Rank { kFirst, kSecond };

  // session.cpp
  void pump();
  Status read_some();
  Status parse(size_t& frames_left);
  Status take(const peer::Frame& frame);
  Status write_some();
  void fill();
  void queue(Bytes frame, Rank rank = Rank::kFirst);
  void check_alive();
  Status take_clock(ByteSpan body);
  void tell_clock();
  uint64_t next_id(uint64_t& counter);

  // session_questions.cpp
  Status take_ask(const peer::Frame& frame);
  Status take_ask_more(const peer::Frame& frame);
  Status take_answer(const peer::Frame& frame);
  Status take_answer_more(const peer::Frame& frame);
  void take_cancel(uint64_t mux_id);
  void refuse_question(uint64_t mux_id, const Error& error, uint8_t more_flags = 0);
  void end_ours(uint64_t link_id, const Error& error, uint8_t more_flags = 0);
  void end_theirs(uint64_t mux_id);
  void end_questions(const Error& why);

  // session_streams.cpp
  Status take_stream_frame(const peer::Frame& frame);
  Status take_open(const peer::Frame& frame);
  Status take_accept(Stream& stream);
  bool append_data();
  void step(Stream& stream);
  void end_stream(Stream& stream, peer::LinkType how, ByteSpan why, bool tell_peer);
  void end_stream(Stream& stream, const Error& why, bool tell_peer);
  void end_streams(const Error& why);

  Uplink& uplink_;
  SessionOwner& owner_;
  const SiteId site_;
  const std::string name_;
  std::unique_ptr<TlsChannel> channel_;
  CallbackTask pump_task_;
  CallbackTimer alive_timer_;
  bool watched_ = false;
  bool readable_ = true;
  bool writable_ = true;
  bool up_ = false;
  bool dead_ = false;
  Micros since_;
  Micros last_received_;
  Micros last_progress_;  // of what we send
  Micros last_seen_wall_;
  bool ping_sent_ = false;
  Micros clock_told_;

  Bytes in_;  // what is not parsed yet; at most a frame and a read
  size_t in_from_ = 0;
  size_t in_to_ = 0;
  Bytes out_;  // frames on their way into TLS
  size_t out_from_ = 0;
  std::deque<Bytes> first_;
  std::deque<Bytes> second_;
  size_t first_bytes_ = 0;
  std::optional<Bytes> pong_;

  uint64_t next_stream_ = 0;
  uint64_t next_question_ = 0;
  uint64_t their_last_stream_ = 0;
  WindowBudget budget_;
  std::map<uint64_t, std::unique_ptr<Stream>> streams_;  // by mux id
  std::map<uint64_t, uint64_t> stream_ids_;              // link id → mux id
  std::deque<uint64_t> ring_;                            // mux ids of streams that can send
  size_t theirs_open_ = 0;                               // streams that the other site began
  std::map<uint64_t, std::unique_ptr<CallbackTimer>> stream_limits_;  // of those not open yet
  std::map<uint64_t, OurQuestion> ours_;                              // by link id
  std::map<uint64_t, uint64_t> our_ids_;                              // mux id → link id
  std::map<uint64_t, TheirQuestion> theirs_;                          // by mux id
  std::map<uint64_t, uint64_t> their_ids_;                            // link id → mux id
};

}  // namespace hf::link
