// Serves QEMU's `-tpmdev emulator` (and swtpm_ioctl, and tpm2-tools in tests) on inherited
// listeners.
//
// Threads: one control thread (all control connections), one data thread while a QEMU is connected,
// one more if there is a TCTI data listener. TPM commands run on data threads, so CANCEL gets
// through while one runs. INIT, STOP, SHUTDOWN and HASH_* commit on the control thread: QEMU waits
// for those with its big lock held, so a StateStore that stalls stalls the whole VM there.
//
// QEMU passes its data socket once and never reconnects: the end of its connection is the end of
// its machine, and powers the TPM off in good order. The next connection is the next QEMU.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "sys/fd.h"
#include "vtpm/blob_sealer.h"
#include "vtpm/control_protocol.h"
#include "vtpm/data_channel.h"
#include "vtpm/engine.h"

namespace hf::vtpm {

enum class ControlState {
  kReady,      // no QEMU; the next one may come
  kConnected,  // a QEMU has passed its data socket
  kLost,  // a QEMU runs whose connection ended with an earlier process: TPM gone until it restarts
  kFailed,  // state could not be made durable: nothing is answered any more
};
std::string_view to_string(ControlState state);  // "ready", "connected", "lost", "failed"

struct ControlServerOptions {
  sys::UniqueFd listener;  // required: a listening unix stream socket
  // For tpm2-tools (TCTI "swtpm:path=X"): X and X.ctrl. Tests only: anyone who can connect commands
  // the TPM.
  sys::UniqueFd tcti_data_listener = {};
  sys::UniqueFd tcti_control_listener = {};
  // Without one there is no migration: the capabilities say so and QEMU refuses. Outlives the
  // server.
  BlobSealer* sealer = nullptr;
  // kLost for a process that took over under a running QEMU.
  ControlState initial = ControlState::kReady;
  // All called on the server's threads; must not call the server.
  std::function<void(ControlState)> on_state = {};
  std::function<void(const Error&)> on_error = {};  // an INIT, STOP … that failed, in words
  std::function<void()> on_shutdown = {};           // SHUTDOWN was answered: QEMU is quitting
};

class ControlServer {
 public:
  // `engine` outlives the server.
  ControlServer(Engine& engine, ControlServerOptions options);
  ~ControlServer();  // stops
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  void start();  // once
  // Ends the connections and joins the threads; waits for a command that is being executed. Leaves
  // the TPM as it is: power_off() is the owner's to call. Any thread but the server's own.
  void stop();
  ControlState state() const;

 private:
  struct Connection;
  void control_loop();
  void tcti_loop();
  void accept_from(int listener);
  void read_from(Connection& connection);
  void serve_frames(Connection& connection);
  void serve_frame(Connection& connection, size_t size);
  void begin_hash_data(Connection& connection, const FrameSize& head);
  void take_hash_data(Connection& connection);
  TpmResult refusal(ControlCommand command) const;
  void check_deadlines();
  void remove_dropped();
  Bytes execute(Connection& connection, const ControlRequest& request);
  Bytes init();
  Bytes power_off();
  Bytes get_state_blob(const ControlRequest& request);
  Bytes set_state_blob(const ControlRequest& request);
  Bytes set_data_fd(Connection& connection);
  Bytes set_buffer_size(const ControlRequest& request);
  void start_data(sys::UniqueFd fd);
  void end_data();
  TpmResult report(Status status, TpmResult otherwise);
  void set_state(ControlState state);

  Engine& engine_;
  const ControlServerOptions options_;
  StopSignal stop_;
  std::atomic<ControlState> state_;
  std::thread control_thread_;
  std::thread tcti_thread_;

  // The control thread's.
  std::vector<std::unique_ptr<Connection>> connections_;
  std::chrono::steady_clock::time_point accepts_from_;  // listeners are left alone until then
  std::unique_ptr<StopSignal> data_stop_;
  std::atomic<bool> data_ended_ = false;
  std::thread data_thread_;
  std::array<Bytes, 4> sealed_;  // by state type: what GET_STATEBLOB reads on from
};

}  // namespace hf::vtpm
