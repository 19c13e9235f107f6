// A client of the QEMU guest agent (qemu-ga) behind a VM's virtio-serial port.
//
// The guest is another's: whatever it answers is bounded in size and time, and nothing it says is
// taken for true here. A guest without an agent, or one that still boots, does not answer at all:
// every call ends within its limit with kUnavailable. QEMU serves one client of the port at a time
// and what an earlier client left unread comes first, so each connection begins with
// guest-sync-delimited. One thread at a time; cancel() from any.
//
// Protocol: QEMU Guest Agent Protocol Reference (docs/interop/qemu-ga-ref).
#pragma once

#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/json.h"

namespace hf::hypervisor {

inline constexpr std::string_view kGuestAgentPort = "org.qemu.guest_agent.0";
inline constexpr size_t kGuestFileMax = size_t{1} << 20;
inline constexpr std::chrono::milliseconds kGuestFileLimit{10'000};  // for all of a file
inline constexpr size_t kGuestOutputMax = size_t{64} << 10;          // each of stdout and stderr

struct GuestRun {
  int exit_status = 0;
  int signal = 0;      // not 0: it was killed by it
  std::string output;  // at most kGuestOutputMax
  std::string errors;
  bool truncated = false;
};

class GuestAgent {
 public:
  using Millis = std::chrono::milliseconds;

  // Does not connect yet. `answer_limit`: for each question.
  GuestAgent(std::string socket_path, Millis answer_limit);

  // Connects and synchronises if need be. kUnavailable: nobody answers within the limit.
  Status ping();
  // A regular or pseudo file of the guest. kNotFound, kPermission by the agent's words are told as
  // kConflict: the agent gives no codes. kLimit: longer than `bytes_max`. kTimeout: an agent
  // answers, but not with all of the file within `limit`.
  Result<Bytes> read_file(const std::string& path, size_t bytes_max = kGuestFileMax,
                          Millis limit = kGuestFileLimit);
  // Runs a program (no shell) and waits for its end, `limit` at most (kTimeout: it may run on).
  // `input` comes on its standard input.
  Result<GuestRun> run(const std::string& program, const std::vector<std::string>& arguments,
                       Millis limit, ByteSpan input = {});
  Result<sys::JsonValue> execute(const std::string& command, const sys::JsonObject& arguments = {});

  void disconnect();
  // What is under way ends at once, and whatever is asked from now on: kUnavailable.
  void cancel();

 private:
  using Deadline = std::chrono::steady_clock::time_point;
  Status connect(Deadline deadline);
  Result<sys::JsonValue> execute_until(const std::string& command, const sys::JsonObject& arguments,
                                       Deadline deadline);
  Result<Bytes> read_pieces(const std::string& path, const sys::JsonValue& handle, size_t bytes_max,
                            Deadline end);
  Result<std::string> read_line(Deadline deadline);
  Result<sys::JsonValue> ask(const std::string& command, const sys::JsonObject& arguments,
                             Deadline deadline);

  std::string path_;
  Millis limit_;
  std::mutex mutex_;  // of the next two, as cancel() sees them
  sys::UniqueFd socket_;
  bool cancelled_ = false;
  std::string buffer_;
};

// What the kernel of a Linux guest gives as its boot event log; needs securityfs mounted.
inline constexpr std::string_view kLinuxEventLogPath =
    "/sys/kernel/security/tpm0/binary_bios_measurements";

}  // namespace hf::hypervisor
