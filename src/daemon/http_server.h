// The HTTP/1.1 server on a unix socket.
//
// One thread runs all connections as coroutines; handlers run on a bounded pool and may block.
// Who asks is what the kernel says (SO_PEERCRED): the listed users are Owner, all others are
// refused.
#pragma once

#include <sys/types.h>

#include <memory>
#include <vector>

#include "daemon/router.h"
#include "sys/fd.h"

namespace hf::daemon {

struct HttpServerOptions {
  std::vector<uid_t> owner_uids;
  std::vector<gid_t> owner_gids;
  size_t connections_max = 128;
  size_t handler_threads = 24;
  uint64_t body_bytes_max = uint64_t{4} << 20;  // evidence holds a whole event log
  uint32_t header_bytes_max = 16 << 10;
  unsigned idle_seconds_max = 60;
  unsigned read_seconds_max = 15;
};

class HttpServer {
 public:
  HttpServer(sys::UniqueFd listener, const Router& router, HttpServerOptions options);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  void run();   // until stop()
  void stop();  // from any thread

  struct Inner;  // http_server.cpp's own

 private:
  std::unique_ptr<Inner> inner_;
};

}  // namespace hf::daemon
