// A stand-in for QEMU in benches that need many VMs and no guests: it answers the monitor's
// questions that holdfastd asks, keeps the console open, and does nothing else. Its memory is that
// of a small program and it sleeps unless asked, so what is measured beside it is Holdfast's own.
//
// Started by the launcher as QEMU is: its listening sockets are inherited, LISTEN_FDNAMES names
// them ("qmp", "console", …).
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr int kFirstFd = 3;
constexpr const char* kGreeting =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, \"package\": "
    "\"stand-in\"}, \"capabilities\": []}}\r\n";

struct Client {
  int fd = -1;
  bool monitor = false;
  std::string line;
};

int find_listener(const std::string& wanted) {
  const char* names = std::getenv("LISTEN_FDNAMES");
  std::string rest = names != nullptr ? names : "";
  for (int fd = kFirstFd; !rest.empty(); ++fd) {
    size_t colon = rest.find(':');
    if (rest.substr(0, colon) == wanted) return fd;
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
  }
  return -1;
}

// The request's id as it was written: digits.
std::string id_of(const std::string& line) {
  size_t at = line.find("\"id\":");
  if (at == std::string::npos) return "null";
  at += 5;
  size_t end = at;
  while (end < line.size() && line[end] >= '0' && line[end] <= '9') ++end;
  return line.substr(at, end - at);
}

// False: it was the last one.
bool answer(int fd, const std::string& line) {
  bool status = line.find("\"query-status\"") != std::string::npos;
  std::string result = status ? "{\"status\": \"running\", \"running\": true}" : "{}";
  std::string text = "{\"return\": " + result + ", \"id\": " + id_of(line) + "}\r\n";
  if (::send(fd, text.data(), text.size(), MSG_NOSIGNAL) < 0) return true;
  return line.find("\"quit\"") == std::string::npos &&
         line.find("\"system_powerdown\"") == std::string::npos;
}

// False: the VM ends.
bool serve(Client& client) {
  char buffer[4096];
  ssize_t got = ::recv(client.fd, buffer, sizeof buffer, 0);
  if (got <= 0) {
    ::close(client.fd);
    client.fd = -1;
    return true;
  }
  if (!client.monitor) return true;  // what is typed at the console
  client.line.append(buffer, static_cast<size_t>(got));
  for (size_t end; (end = client.line.find('\n')) != std::string::npos;) {
    std::string line = client.line.substr(0, end);
    client.line.erase(0, end + 1);
    if (!answer(client.fd, line)) return false;
  }
  return true;
}

}  // namespace

int main() {
  const int monitor = find_listener("qmp");
  const int console = find_listener("console");
  if (monitor < 0) return 1;
  std::vector<Client> clients;
  for (;;) {
    std::vector<pollfd> waits{{monitor, POLLIN, 0}, {console, POLLIN, 0}};
    for (const Client& client : clients) waits.push_back({client.fd, POLLIN, 0});
    if (::poll(waits.data(), waits.size(), -1) < 0) continue;
    for (size_t i = 2; i < waits.size(); ++i) {
      if (waits[i].revents != 0 && !serve(clients[i - 2])) return 0;
    }
    std::erase_if(clients, [](const Client& client) { return client.fd < 0; });
    for (size_t i = 0; i < 2; ++i) {
      if (waits[i].fd < 0 || waits[i].revents == 0) continue;
      int fd = ::accept4(waits[i].fd, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      if (i == 0) static_cast<void>(::send(fd, kGreeting, std::strlen(kGreeting), MSG_NOSIGNAL));
      clients.push_back({.fd = fd, .monitor = i == 0, .line = {}});
    }
  }
}
