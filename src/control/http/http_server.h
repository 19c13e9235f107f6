// The HTTP/1.1 server on a unix socket.
//
// One thread runs all connections as coroutines; handlers run on a bounded pool and may block for
// what takes moments. What takes longer is a job; who waits for one, for an event or for a console
// holds no thread (Wait, BodyStream::changed).
// Who asks is what the kernel says (SO_PEERCRED): the listed users are Owner, all others are
// refused, and told of.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "control/http/router.h"
#include "sys/fd.h"

namespace hf::control {

struct HttpServerOptions {
  std::vector<uid_t> owner_uids;
  std::vector<gid_t> owner_gids;
  size_t connections_max = 2048;  // most of them wait
  size_t handler_threads = 16;
  uint64_t body_bytes_max = uint64_t{4} << 20;  // evidence holds a whole event log
  uint32_t header_bytes_max = 16 << 10;
  unsigned idle_seconds_max = 60;
  unsigned read_seconds_max = 15;
  // Somebody without a role came. On a handler's thread.
  std::function<void(const By&, const Error&)> on_stranger;
};

class HttpServer {
 public:
  HttpServer(sys::UniqueFd listener, const Router& router, HttpServerOptions options);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // On the loop's thread, every `interval` while it runs; to be called before run().
  void every(std::chrono::milliseconds interval, std::function<void()> work);
  void run();   // until stop()
  void stop();  // from any thread

  struct Inner;  // http_server.cpp's own

 private:
  std::unique_ptr<Inner> inner_;
};

}  // namespace hf::control
