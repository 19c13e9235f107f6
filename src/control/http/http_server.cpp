#include "control/http/http_server.h"

#include <pwd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "control/core/log.h"
#include "sys/unix_socket.h"

namespace hf::control {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using Unix = asio::local::stream_protocol;
using UnixStream = beast::basic_stream<Unix>;
using StringResponse = bhttp::response<bhttp::string_body>;
constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
// How often a client that follows something quiet is looked for.
constexpr std::chrono::seconds kLookForClient{5};

struct HttpServer::Inner {
  Inner(const Router& routes, HttpServerOptions settings)
      : router(routes),
        options(std::move(settings)),
        acceptor(io),
        handlers(options.handler_threads) {}

  const Router& router;
  HttpServerOptions options;
  asio::io_context io{1};
  Unix::acceptor acceptor;
  asio::thread_pool handlers;
  size_t connections = 0;  // touched by the io thread only
};

namespace {

using Inner = HttpServer::Inner;

Result<bool> is_owner(const HttpServerOptions& options, int fd, uid_t uid) {
  if (std::ranges::find(options.owner_uids, uid) != options.owner_uids.end()) return true;
  for (const gid_t group : options.owner_gids) {
    if (TRY(sys::peer_has_group(fd, group))) return true;
  }
  return false;
}

// A user's name as this machine's own file has it: no directory service is asked, on the thread
// that serves all.
std::string words_of(uid_t uid) {
  const std::string number = "uid " + std::to_string(uid);
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/etc/passwd", "re"), &std::fclose);
  if (file == nullptr) return number;
  while (const passwd* user = ::fgetpwent(file.get())) {
    if (user->pw_uid == uid) return number + " (" + user->pw_name + ")";
  }
  return number;
}

struct Caller {
  By by;
  std::optional<Error> refused;
};

Result<Caller> caller_of(const HttpServerOptions& options, int fd) {
  sys::PeerCredentials who = TRY(sys::peer_credentials(fd));
  Caller caller{.by = {.actor = words_of(who.uid), .origin = "api, pid " + std::to_string(who.pid)},
                .refused = std::nullopt};
  if (!TRY(is_owner(options, fd, who.uid))) {
    caller.refused =
        Error{.code = ErrorCode::kPermission,
              .cause = "user " + std::to_string(who.uid) + " has no role at this site",
              .effect = "nothing was done",
              .mend = options.owner_gids.empty()
                          ? "run the command as root or as the user that runs holdfastd"
                          : "run the command as root, as the user that runs holdfastd, or as a "
                            "member of the group holdfast-operators"};
  }
  return caller;
}

std::optional<Method> method_of(bhttp::verb verb) {
  switch (verb) {
    case bhttp::verb::get:
      return Method::kGet;
    case bhttp::verb::post:
      return Method::kPost;
    case bhttp::verb::put:
      return Method::kPut;
    case bhttp::verb::delete_:
      return Method::kDelete;
    default:
      return std::nullopt;
  }
}

Result<Request> translate(bhttp::request<bhttp::string_body> from, const By& by) {
  Request request;
  std::optional<Method> method = method_of(from.method());
  if (!method) return Error{.code = ErrorCode::kUnsupported, .cause = "an unknown HTTP method"};
  request.method = *method;
  TRY(parse_target(std::string_view(from.target().data(), from.target().size()), request));
  request.body = std::move(from.body());
  request.role = Role::kOwner;
  request.actor = by.actor;
  request.origin = by.origin;
  return request;
}

StringResponse serialise(const Response& response, bool keep_alive) {
  StringResponse out(static_cast<bhttp::status>(response.status), 11);
  out.set(bhttp::field::content_type, "application/json");
  out.keep_alive(keep_alive);
  out.body() = sys::to_text(response.body) + "\n";
  out.prepare_payload();
  return out;
}

asio::awaitable<Response> call_router(Inner* inner, Request request) {
  co_return inner->router.handle(std::move(request));
}

asio::awaitable<Response> call_again(const Wait* wait) {
  Result<Response> response = wait->again();
  co_return response.ok() ? std::move(response).value() : error_response(response.error());
}

asio::awaitable<std::optional<std::string>> call_next(BodyStream* stream) {
  co_return stream->next();
}

// Ends when `changed` is past `seen`, or after `limit`.
asio::awaitable<void> wait_news(Inner* inner, Notice* changed, uint64_t seen,
                                std::chrono::milliseconds limit) {
  // The teller may outlive this wait by a moment: the timer is shared with what it posts.
  auto timer = std::make_shared<asio::steady_timer>(inner->io, limit);
  struct Subscription {
    ~Subscription() { notice->unsubscribe(id); }
    Notice* notice;
    uint64_t id;
  };
  // What is posted runs on this thread, so never before the wait below has begun.
  Subscription subscription{.notice = changed, .id = changed->subscribe(seen, [inner, timer] {
                              asio::post(inner->io, [timer] { timer->cancel(); });
                            })};
  co_await timer->async_wait(kToken);
}

// False: the client has gone.
asio::awaitable<bool> send_stream(Inner* inner, UnixStream* to, BodyStream* stream) {
  bhttp::response<bhttp::empty_body> head(bhttp::status::ok, 11);
  head.set(bhttp::field::content_type, "application/octet-stream");
  head.chunked(true);
  head.keep_alive(false);
  bhttp::response_serializer<bhttp::empty_body> serializer(head);
  to->expires_after(std::chrono::seconds(inner->options.read_seconds_max));
  auto [head_failed, head_size] = co_await bhttp::async_write_header(*to, serializer, kToken);
  if (head_failed) co_return false;
  for (;;) {
    Notice* changed = stream->changed();
    uint64_t seen = changed != nullptr ? changed->version() : 0;
    std::optional<std::string> chunk =
        co_await asio::co_spawn(inner->handlers, call_next(stream), asio::use_awaitable);
    to->expires_after(std::chrono::seconds(inner->options.read_seconds_max));
    if (!chunk) break;
    if (chunk->empty()) {
      // Nothing to send: has the client gone?
      char byte = 0;
      if (::recv(to->socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        co_return false;
      to->expires_never();
      if (changed != nullptr) co_await wait_news(inner, changed, seen, kLookForClient);
      continue;
    }
    auto [failed, size] =
        co_await asio::async_write(*to, bhttp::make_chunk(asio::buffer(*chunk)), kToken);
    if (failed) co_return false;
  }
  auto [failed, size] = co_await asio::async_write(*to, bhttp::make_chunk_last(), kToken);
  co_return !failed;
}

asio::awaitable<bool> send(Inner* inner, UnixStream* to, Response response, bool keep_alive) {
  if (response.stream) {
    co_await send_stream(inner, to, response.stream.get());
    co_return false;
  }
  StringResponse out = serialise(response, keep_alive);
  to->expires_after(std::chrono::seconds(inner->options.read_seconds_max));
  auto [failed, size] = co_await bhttp::async_write(*to, out, kToken);
  co_return !failed && keep_alive;
}

// One request and its answer. False: the connection is over.
asio::awaitable<bool> serve_one(Inner* inner, UnixStream* stream, beast::flat_buffer* buffer,
                                By by) {
  bhttp::request_parser<bhttp::string_body> parser;
  parser.header_limit(inner->options.header_bytes_max);
  parser.body_limit(inner->options.body_bytes_max);
  stream->expires_after(std::chrono::seconds(inner->options.idle_seconds_max));
  auto [head_failed, head_size] =
      co_await bhttp::async_read_header(*stream, *buffer, parser, kToken);
  if (!head_failed) {
    stream->expires_after(std::chrono::seconds(inner->options.read_seconds_max));
    auto [failed, size] = co_await bhttp::async_read(*stream, *buffer, parser, kToken);
    head_failed = failed;
  }
  if (head_failed == bhttp::error::body_limit || head_failed == bhttp::error::header_limit) {
    Response refusal = error_response({.code = ErrorCode::kLimit,
                                       .cause = "the request is larger than the daemon accepts",
                                       .effect = "nothing was done",
                                       .mend = "send a smaller one"});
    refusal.status = 413;
    co_return co_await send(inner, stream, std::move(refusal), false);
  }
  if (head_failed) co_return false;
  bool keep_alive = parser.get().keep_alive();
  Result<Request> request = translate(parser.release(), by);
  if (!request.ok())
    co_return co_await send(inner, stream, error_response(request.error()), keep_alive);
  stream->expires_never();
  Response response = co_await asio::co_spawn(
      inner->handlers, call_router(inner, std::move(request).value()), asio::use_awaitable);
  while (response.wait) {
    const Wait wait = *std::exchange(response.wait, std::nullopt);
    co_await wait_news(inner, wait.changed.get(), wait.seen, wait.limit);
    response = co_await asio::co_spawn(inner->handlers, call_again(&wait), asio::use_awaitable);
  }
  co_return co_await send(inner, stream, std::move(response), keep_alive);
}

asio::awaitable<void> session(Inner* inner, Unix::socket socket) {
  Result<Caller> caller = caller_of(inner->options, socket.native_handle());
  UnixStream stream(std::move(socket));
  try {
    if (!caller.ok()) {
      co_await send(inner, &stream, error_response(caller.error()), false);
    } else if (caller->refused) {
      if (inner->options.on_stranger) {
        asio::post(inner->handlers, [inner, by = caller->by, why = *caller->refused] {
          inner->options.on_stranger(by, why);
        });
      }
      co_await send(inner, &stream, error_response(*caller->refused), false);
    } else {
      beast::flat_buffer buffer;
      while (co_await serve_one(inner, &stream, &buffer, caller->by)) {
      }
    }
  } catch (const std::exception& failure) {
    log_error(std::string("a request was broken off: ") + failure.what());
  }
  --inner->connections;
}

asio::awaitable<void> accept_all(Inner* inner) {
  for (;;) {
    auto [failed, socket] = co_await inner->acceptor.async_accept(kToken);
    if (failed == asio::error::operation_aborted) co_return;
    if (failed) {
      asio::steady_timer pause(inner->io, std::chrono::milliseconds(100));
      co_await pause.async_wait(kToken);
      continue;
    }
    if (inner->connections >= inner->options.connections_max) continue;  // closes it
    ++inner->connections;
    asio::co_spawn(inner->io, session(inner, std::move(socket)), asio::detached);
  }
}

}  // namespace

HttpServer::HttpServer(sys::UniqueFd listener, const Router& router, HttpServerOptions options)
    : inner_(std::make_unique<Inner>(router, std::move(options))) {
  inner_->acceptor.assign(Unix(), listener.release());
}

HttpServer::~HttpServer() {
  stop();
  inner_->handlers.join();
}

namespace {

asio::awaitable<void> repeat(Inner* server, std::chrono::milliseconds interval,
                             std::function<void()> work) {
  asio::steady_timer timer(server->io);
  while (true) {
    work();
    timer.expires_after(interval);
    co_await timer.async_wait(asio::use_awaitable);
  }
}

}  // namespace

void HttpServer::every(std::chrono::milliseconds interval, std::function<void()> work) {
  asio::co_spawn(inner_->io, repeat(inner_.get(), interval, std::move(work)), asio::detached);
}

void HttpServer::run() {
  asio::co_spawn(inner_->io, accept_all(inner_.get()), asio::detached);
  inner_->io.run();
}

void HttpServer::stop() {
  inner_->io.stop();
  inner_->handlers.stop();
}

}  // namespace hf::control
