// The daemon's end of the launcher's socket.
//
// Every call blocks up to its limit; calls may come from several threads at once. Events come on
// the client's own thread, in order; the callback must not call back into the client. A reply that
// arrives after its call gave up is dropped: ask for status() then.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "launcher/protocol/protocol.h"
#include "sys/fd.h"

namespace hf::launcher {

struct LauncherStatus {
  std::vector<UnitStatus> units;
  Bar first_bar;  // of every VM that is not in `bars`
  std::map<VmId, Bar> bars;
  Weaknesses weaknesses;
};

class Client {
 public:
  using OnEvent = std::function<void(const Event&)>;
  using OnLost = std::function<void()>;  // the launcher has gone; once; guests go on

  // Takes the descriptor that was handed down as "launcher".
  Client(sys::UniqueFd socket, OnEvent on_event, OnLost on_lost);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // The pid. The descriptors are borrowed and go with request.fd_names, one for one. Done when the
  // program runs: not when it serves. If it fails later an event tells.
  Result<int64_t> start(const StartRequest& request, const std::vector<int>& fds,
                        std::chrono::milliseconds limit);
  // Done when the process is gone. kNotFound: no such unit. An exited unit is no error.
  // `limit` should be longer than request.timeout_ms.
  Status stop(const StopRequest& request, std::chrono::milliseconds limit);
  // The VM's guests, or all of its processes, are killed and gone; what was decided under an older
  // bar starts no more. The new bar.
  Result<Bar> fence(VmId vm, FenceReach reach, std::chrono::milliseconds limit);
  // All pages of it. What changes meanwhile may be in it or not: then its event comes.
  Result<LauncherStatus> status(std::chrono::milliseconds limit);

 private:
  struct Inner;
  std::unique_ptr<Inner> inner_;
};

}  // namespace hf::launcher
