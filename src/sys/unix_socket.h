// Unix sockets: listening, connecting, who is at the other end, passing descriptors.
// All descriptors are made close-on-exec.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

#include "sys/fd.h"

namespace hf::sys {

enum class SocketType { kStream, kSeqPacket };

// A path of any length as one that fits a socket's address (107 bytes): itself, or its file by a
// descriptor of its directory, through /proc. Valid for this process while `directory` is open.
struct SocketPath {
  std::string text;
  UniqueFd directory;
};
// kUnavailable: there is no such directory; kInvalidArgument: the file's own name is too long.
Result<SocketPath> short_socket_path(const std::string& path);

// A listener at `path`, of any length, with the given mode; a stale socket file is replaced.
Result<UniqueFd> listen_unix(const std::string& path, SocketType type, mode_t mode = 0600);
// Connects or fails at once (kUnavailable: nobody listens).
Result<UniqueFd> connect_unix(const std::string& path, SocketType type);

struct SocketPair {
  UniqueFd first;
  UniqueFd second;
};
Result<SocketPair> socket_pair(SocketType type);

// As the kernel noted them when the connection was made.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
Result<PeerCredentials> peer_credentials(int fd);
// Whether the peer had that group when it connected, as its own or beside it.
Result<bool> peer_has_group(int fd, gid_t group);

inline constexpr size_t kPassedFdsMax = 64;

// One message with descriptors attached (SCM_RIGHTS). On a stream socket `bytes` must not be empty.
Status send_with_fds(int fd, ByteSpan bytes, std::span<const int> fds);

struct ReceivedMessage {
  size_t size = 0;            // 0: the peer closed
  bool truncated = false;     // the datagram was longer than the buffer
  std::vector<UniqueFd> fds;  // close-on-exec
};
Result<ReceivedMessage> receive_with_fds(int fd, MutableByteSpan to);

// SO_RCVTIMEO and SO_SNDTIMEO: a blocking call then fails with EAGAIN.
Status set_socket_timeouts(int fd, unsigned milliseconds);

}  // namespace hf::sys
