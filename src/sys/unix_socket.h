// Blocking helpers for unix sockets, each with a time limit; messages that carry descriptors.
//
// For the control plane and for tests. The keeper's data path uses the reactor. All descriptors
// made here are close-on-exec. Any thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "sys/unique_fd.h"

namespace hf::sys {

constexpr size_t kUnixPathMax = 107;  // bytes, without the ending NUL
constexpr size_t kPassedFdsMax = 64;  // descriptors in one message

enum class SocketKind { kStream, kSeqPacket };

// A listening socket at `path` with `mode`. A socket that is already there is replaced (the
// caller holds the lock that says nobody serves it); anything else there is kExists.
Result<UniqueFd> listen_unix(const std::string& path, mode_t mode,
                             SocketKind kind = SocketKind::kStream);
// kUnavailable: nobody listens; kTimeout: the backlog stayed full.
Result<UniqueFd> connect_unix(const std::string& path, std::chrono::milliseconds limit,
                              SocketKind kind = SocketKind::kStream);

struct SocketPair {
  UniqueFd first;
  UniqueFd second;
};
Result<SocketPair> socket_pair(SocketKind kind);

struct PeerCredentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};
Result<PeerCredentials> peer_credentials(int fd);

// False when `limit` passed without any of `events` (POLLIN, POLLOUT, …). Errors and hang-ups
// count as ready: the next call tells.
Result<bool> wait_ready(int fd, short events, std::chrono::milliseconds limit);

// One message of a SEQPACKET socket (or bytes of a stream with descriptors); borrows `fds`.
Status send_message(int fd, ByteSpan data, const std::vector<int>& fds,
                    std::chrono::milliseconds limit);

struct Message {
  Bytes data;  // empty: the peer has closed
  std::vector<UniqueFd> fds;
};
// kTimeout; kLimit if the message was longer than `bytes_max` or carried too many descriptors.
Result<Message> receive_message(int fd, size_t bytes_max, std::chrono::milliseconds limit);

// Streams: all of it, or an error. kUnavailable if the peer closed first.
Status write_all(int fd, ByteSpan data, std::chrono::milliseconds limit);
Status read_exact(int fd, MutableByteSpan out, std::chrono::milliseconds limit);

}  // namespace hf::sys
