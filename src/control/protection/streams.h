// Which of this site's VMs ship their journal to which site, and that they do: one stream a
// protected VM whose keeper runs, or its caretaker while it is stopped, from the keeper's ship
// socket through the link to the replica's keeper. What passes on it is between the two keepers;
// here is decided that it exists.
//
// By level: what is wanted is compared with what is there, after every change and when a failed
// try is due again. One thread a peer, however many VMs: what a peer that is there and says nothing
// costs, only its own VMs wait for, once and not each. It sleeps while every stream stands or waits
// for the peer to come back.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "control/protection/caretakers.h"
#include "control/services.h"
#include "peer/link_client.h"

namespace hf::control {

class Streams {
 public:
  // Opens one at the link; tests have none.
  using Open = std::function<Result<peer::StreamId>(SiteId, VmId, sys::UniqueFd)>;
  // `withdraw_again` is called on this class's thread: it must not block.
  Streams(Services& services, Caretakers& caretakers, std::function<void(VmId)> withdraw_again,
          Open open = nullptr);
  ~Streams() { stop(); }
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;

  void start();  // with every protection that leaves this site
  void stop();

  void add(VmId vm, SiteId peer);  // one that is there goes on
  void remove(VmId vm);            // and ends its stream
  bool has(VmId vm);
  // The peer still has to remove its replica of the VM: `withdraw_again` is called when it is
  // connected again, and now and then while it is, until remove().
  void add_withdrawal(VmId vm, SiteId peer);
  // Its keeper or its caretaker was started or ended.
  void look(VmId vm);

  // From the link's event thread.
  void on_stream(const peer::StreamEvent& event);
  void on_peer(const peer::PeerState& state);

  struct View {
    bool open = false;
    std::optional<Error> error;  // why it is not, if more is known than that it ended
  };
  View view(VmId vm);

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Stream {
    SiteId peer;
    bool withdrawing = false;              // no stream: the peer has to be told
    std::optional<peer::StreamId> id;      // asked for, or open
    uint64_t opening = 0;                  // the number of the try that asks for it just now
    std::vector<peer::StreamEvent> early;  // that came before that try knew its id
    bool open = false;
    Time opened{};
    bool wanted_look = true;
    Time due = Time::max();  // of the next try, if one failed
    std::chrono::milliseconds pause{0};
    std::optional<Error> error;
    std::optional<Epoch> refused_under;  // to be learned
    bool peer_asked = false;             // whether it has the VM, since this process began
  };
  void serve(SiteId peer);  // under the mutex: its thread
  void run(SiteId peer);
  // What is due of the peer's now, running VMs first. Empty: the end.
  std::vector<VmId> await_due(SiteId peer);
  void step(VmId vm);
  void open(VmId vm, SiteId peer);
  void take(Stream& stream, const peer::StreamEvent& event);
  void withdraw(Stream& stream, VmId vm);
  void try_again_later(Stream& stream, std::optional<Error> error);
  bool tend(VmId vm, SiteId peer, bool refused);
  void learn(VmId vm, SiteId peer);
  void ask_peer(VmId vm, SiteId peer);

  Services& services_;
  Caretakers& caretakers_;
  const std::function<void(VmId)> withdraw_again_;
  const Open open_;
  std::mutex mutex_;  // not held over anything that waits: look() is called by who must not wait
  std::condition_variable changed_;
  std::map<VmId, Stream> streams_;
  std::map<SiteId, Time> mute_until_;  // did not answer: not asked again before
  std::map<SiteId, std::thread> threads_;
  uint64_t tries_ = 0;
  bool started_ = false;
  bool stopping_ = false;
};

}  // namespace hf::control
