// Blocking socket calls, each with a time limit. For the control plane and for tests; the
// keeper's data path uses the reactor. Any thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "sys/unix_socket.h"

namespace hf::sys {

// False when `limit` passed without any of `events` (POLLIN, POLLOUT, …). Errors and hang-ups
// count as ready: the next call tells.
Result<bool> wait_ready(int fd, short events, std::chrono::milliseconds limit);

// As connect_unix(), but a full backlog is waited for up to `limit` (kTimeout), the path may be of
// any length, and no symbolic link is followed anywhere in it (kPermission). Needs /proc.
Result<UniqueFd> connect_unix_within(const std::string& path, std::chrono::milliseconds limit,
                                     SocketType type = SocketType::kStream);

// One message of a SEQPACKET socket; borrows `fds`. kTimeout; kUnavailable: the peer has gone.
Status send_message(int fd, ByteSpan data, const std::vector<int>& fds,
                    std::chrono::milliseconds limit);

struct Message {
  Bytes data;  // empty: the peer has closed
  std::vector<UniqueFd> fds;
};
// kTimeout; kLimit if the message was longer than `bytes_max` or carried too many descriptors.
Result<Message> receive_message(int fd, size_t bytes_max, std::chrono::milliseconds limit);

// Streams. All of `data`, or an error.
Status send_all(int fd, ByteSpan data, std::chrono::milliseconds limit);
// What is there, at least a byte, at most out.size(); 0: the peer has closed.
Result<size_t> receive_some(int fd, MutableByteSpan out, std::chrono::milliseconds limit);

}  // namespace hf::sys
