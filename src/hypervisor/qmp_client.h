// A blocking QMP client with a time limit on every call.
//
// QMP hangs while a flash node's server is away (QEMU then holds its big lock), so no call may wait
// for ever: kTimeout says that the monitor does not answer, not that the VM has gone. After a
// timeout the connection is dropped, because a late answer would be taken for the next call's;
// the next call connects anew. QEMU serves one monitor client at a time. One thread at a time.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/json.h"

namespace hf::hypervisor {

class QmpClient {
 public:
  // Does not connect yet.
  QmpClient(std::string socket_path, std::chrono::milliseconds call_limit);

  // Each of these connects if need be, all within the call's limit. kUnavailable: nobody listens
  // or QEMU closed; kTimeout; kConflict: QEMU refused the command, with its words.
  Result<std::string> status();  // "running", "paused", "shutdown", "prelaunch", …
  Status power_button();         // system_powerdown: ACPI; the guest decides
  Status quit();                 // QEMU ends, the guest is not asked
  Result<sys::JsonValue> execute(const std::string& command, const sys::JsonObject& arguments = {});

  bool connected() const { return socket_.valid(); }
  void disconnect();

 private:
  using Deadline = std::chrono::steady_clock::time_point;
  Status connect(Deadline deadline);
  Result<sys::JsonObject> read_message(Deadline deadline);
  Result<sys::JsonValue> call(const std::string& command, const sys::JsonObject& arguments,
                              Deadline deadline);

  std::string path_;
  std::chrono::milliseconds limit_;
  sys::UniqueFd socket_;
  std::string buffer_;
  uint64_t next_id_ = 1;
};

}  // namespace hf::hypervisor
