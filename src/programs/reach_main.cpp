// holdfast-reach FILE …: for tests, in the place of a program that was taken over: tries what each
// line of FILE names and says on stderr whether it could. Other words are passed over.
//
//   socket PATH  abstract NAME  tcp PORT        connect
//   read PATH  write PATH  list PATH            open
//   create PATH  link PATH  rename PATH         change a directory
//   signal PID  trace PID  memory PID           another process
//   userns  mount  setuid  keyring  netlink     more than it was given
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>

namespace {

bool closes(int fd) {
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

bool connects_unix(const std::string& name, bool abstract) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  size_t at = abstract ? 1 : 0;
  if (name.size() + at >= sizeof address.sun_path) return false;
  std::memcpy(&address.sun_path[at], name.data(), name.size());
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + at + name.size());
  bool good = fd >= 0 && ::connect(fd, reinterpret_cast<sockaddr*>(&address), length) == 0;
  closes(fd);
  return good;
}

bool connects_tcp(const std::string& port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(port.c_str())));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool good = fd >= 0 && ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  closes(fd);
  return good;
}

pid_t pid_of(const std::string& text) { return std::atoi(text.c_str()); }

bool traces(const std::string& pid) {
  if (::ptrace(PTRACE_SEIZE, pid_of(pid), nullptr, nullptr) != 0) return false;
  ::ptrace(PTRACE_DETACH, pid_of(pid), nullptr, nullptr);
  return true;
}

using Attempt = std::function<bool(const std::string&)>;

const std::map<std::string, Attempt>& attempts() {
  static const std::map<std::string, Attempt> kAll{
      {"socket", [](const std::string& path) { return connects_unix(path, false); }},
      {"abstract", [](const std::string& name) { return connects_unix(name, true); }},
      {"tcp", connects_tcp},
      {"read", [](const std::string& path) { return closes(::open(path.c_str(), O_RDONLY)); }},
      {"write", [](const std::string& path) { return closes(::open(path.c_str(), O_WRONLY)); }},
      {"list",
       [](const std::string& path) {
         return closes(::open(path.c_str(), O_RDONLY | O_DIRECTORY));
       }},
      {"create",
       [](const std::string& path) {
         return closes(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600));
       }},
      {"link", [](const std::string& path) { return ::symlink("/", path.c_str()) == 0; }},
      {"rename",
       [](const std::string& path) { return ::rename(path.c_str(), (path + "2").c_str()) == 0; }},
      {"signal", [](const std::string& pid) { return ::kill(pid_of(pid), 0) == 0; }},
      {"trace", traces},
      {"memory",
       [](const std::string& pid) {
         return closes(::open(("/proc/" + pid + "/mem").c_str(), O_RDONLY));
       }},
      {"userns", [](const std::string&) { return ::unshare(CLONE_NEWUSER) == 0; }},
      {"mount",
       [](const std::string&) { return ::mount("none", "/tmp", "tmpfs", 0, nullptr) == 0; }},
      {"setuid", [](const std::string&) { return ::setuid(0) == 0; }},
      {"keyring",
       [](const std::string&) { return ::syscall(SYS_keyctl, 0, -4 /* user's */, 1) >= 0; }},
      {"netlink",
       [](const std::string&) { return closes(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0)); }},
  };
  return kAll;
}

}  // namespace

int main(int count, char** values) {
  if (count < 2) return 2;
  std::ifstream lines(values[1]);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    std::string argument;
    words >> word >> argument;
    auto attempt = attempts().find(word);
    if (attempt == attempts().end()) return 2;
    bool could = attempt->second(argument);
    std::fprintf(stderr, "%s %s\n", could ? "yes" : "no", line.c_str());
  }
  return 0;
}
