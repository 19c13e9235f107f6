// The process that the network reaches: started here with its listeners, so that its death refuses
// nobody.
#include <netdb.h>
#include <sys/socket.h>

#include <cstring>

#include "launcher/supervisor.h"

namespace hf::launcher {
namespace {

// Strangers may come in crowds; the link sorts them out as fast as it can accept.
constexpr int kPeerBacklog = 1024;

Error cannot_listen(const std::string& address, std::string_view why, std::string mend) {
  return {.code = ErrorCode::kUnavailable,
          .cause = "cannot listen at " + address + ": " + std::string(why),
          .effect = "the site does not start",
          .mend = std::move(mend)};
}

}  // namespace

Result<sys::UniqueFd> listen_for_peers(const std::string& listen, const std::string& config_path) {
  Result<HostPort> where = parse_host_port(listen);
  if (!where.ok()) {
    Error error = std::move(where).error();
    error.mend = "correct \"listen\" in " + config_path + ": " + error.mend;
    return std::move(error).with_effect("the site does not start");
  }
  return listen_for_peers(*where, config_path);
}

Result<sys::UniqueFd> listen_for_peers(const HostPort& where, const std::string& config_path) {
  const std::string listen = where.text();
  const std::string port = std::to_string(where.port);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  if (int failed = ::getaddrinfo(where.host.c_str(), port.c_str(), &hints, &list); failed != 0) {
    return cannot_listen(listen, ::gai_strerror(failed), "correct \"listen\" in " + config_path);
  }
  sys::UniqueFd fd(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  bool good = ::bind(fd.get(), list->ai_addr, list->ai_addrlen) == 0 &&
              ::listen(fd.get(), kPeerBacklog) == 0;
  int failed = errno;
  ::freeaddrinfo(list);
  if (good) return fd;
  return cannot_listen(
      listen, std::strerror(failed),
      "end what uses the address (ss -ltnp), or change \"listen\" in " + config_path);
}

Status Supervisor::start_link() {
  auto at = units_.find("link");
  if (at == units_.end()) {
    Unit unit = make_core_unit("link", Role::kLink);
    unit.spec.program = options_.programs.link;
    unit.spec.argv = {"holdfast-link"};
    unit.fds.push_back(
        TRY(tree_.listen_core("link.sock", tree_.users().daemon(), 0600, SOCK_SEQPACKET)));
    unit.fds.push_back(TRY(listen_for_peers(tree_.site().listen, tree_.path() + "/site.json")));
    unit.spec.fds = {{.name = "link", .fd = unit.fds[0].get()},
                     {.name = "peers", .fd = unit.fds[1].get()}};
    at = units_.emplace("link", std::move(unit)).first;
  }
  return launch(at->second);
}

}  // namespace hf::launcher
