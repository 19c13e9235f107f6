// One data stream: bytes between a keeper's socket here and a session. What it does not do: frames,
// ids, whom to tell. Those are the session's.
//
// Flow control: a side sends at most what the other has granted. The receiver grants anew what the
// keeper has taken; while the keeper keeps up the window grows, as far as all windows of the
// session together may.
#pragma once

#include <optional>

#include "base/ids.h"
#include "link/event_loop.h"
#include "peer/frame.h"

namespace hf::link {

inline constexpr uint32_t kWindowMax = 4u << 20;         // of a stream
inline constexpr uint64_t kWindowsTotalMax = 96u << 20;  // of a session: bytes held for keepers

// What the windows of a session's streams take together.
struct WindowBudget {
  uint64_t granted = 0;
};

class Stream;

class StreamOwner {
 public:
  virtual void stream_ready(Stream& stream) = 0;  // there is something to do: step()

 protected:
  ~StreamOwner() = default;
};

class Stream final : public Watcher {
 public:
  enum class State {
    kOffered,  // the other site's answer is waited for
    kAsked,    // holdfastd's answer is waited for
    kOpen,
  };
  Stream(EventLoop& loop, StreamOwner& owner, WindowBudget& budget, uint64_t mux_id,
         uint64_t link_id, VmId vm, State state);
  ~Stream();

  // The keeper's socket: with the offer, or with holdfastd's answer. kInvalidArgument: it is no
  // stream socket.
  Status give_socket(sys::UniqueFd socket);
  // Both sides have one: bytes may pass.
  Status open();

  // No event comes after this.
  void close();

  // From the session. kCorrupt: more than was granted, or after the end.
  Status take_data(ByteSpan data);
  Status take_credit(uint32_t bytes);
  Status take_fin();

  // Writes to the keeper what is held. An error: the keeper is gone.
  Status flush();
  // What the other side may send in addition now; 0: nothing to say yet.
  uint32_t take_grant();
  bool can_send() const { return state_ == State::kOpen && readable_ && credit_ > 0 && !eof_; }
  // Up to to.size() bytes of the keeper; 0 with can_send() false afterwards: none there, or eof().
  Result<size_t> read(MutableByteSpan to);
  bool eof() const { return eof_; }
  bool over() const { return eof_ && fin_sent && fin_taken_ && held_.empty(); }

  void on_ready(uint32_t events) override;

  uint64_t mux_id() const { return mux_id_; }
  uint64_t link_id() const { return link_id_; }
  VmId vm() const { return vm_; }
  State state() const { return state_; }

  bool fin_sent = false;
  bool in_ring = false;  // the session's: waits for its turn to send

 private:
  EventLoop& loop_;
  StreamOwner& owner_;
  WindowBudget& budget_;
  const uint64_t mux_id_;
  const uint64_t link_id_;
  const VmId vm_;
  State state_;
  sys::UniqueFd socket_;
  bool watched_ = false;
  bool readable_ = false;
  bool writable_ = false;
  bool eof_ = false;
  bool fin_taken_ = false;
  bool shut_ = false;
  uint64_t credit_ = peer::kFirstWindow;
  uint32_t window_ = peer::kFirstWindow;
  uint64_t granted_ = peer::kFirstWindow;  // and not yet used
  uint64_t consumed_ = 0;                  // since the last grant
  Micros last_grant_;
  Bytes held_;
  size_t held_from_ = 0;
};

}  // namespace hf::link
