// The data channel: raw TPM command in, raw TPM answer out, in lockstep. On a stream socket, as
// QEMU passes one, or on one that keeps messages apart (SOCK_SEQPACKET, SOCK_DGRAM): there a
// message is a command.
#pragma once

#include "sys/fd.h"
#include "vtpm/engine.h"

namespace hf::vtpm {

// Wakes a thread that sits in poll(). Any thread may signal; stays signalled.
class StopSignal {
 public:
  StopSignal();
  void signal();
  int fd() const { return fd_.get(); }

 private:
  sys::UniqueFd fd_;
};

enum class DataEnd {
  kClosed,   // the peer hung up
  kStopped,  // `stop` was signalled
  kBroken,   // what came was no TPM command, or the socket failed
  kFatal,    // the engine could not make a change durable: the answer was withheld
};
// A connected unix socket of one of these kinds; all else could be waited for in vain.
bool can_serve_data(int fd);
// Serves until one of these; blocks. A command that has begun is finished and answered first.
DataEnd serve_data(Engine& engine, int fd, const StopSignal& stop);

}  // namespace hf::vtpm
