#include "sys/inherited_fds.h"

#include <charconv>
#include <cstdlib>

namespace hf::sys {
namespace {

constexpr int kFirstFd = 3;
constexpr int kFdsMax = 256;

bool parse_int(const char* text, int& value) {
  if (text == nullptr) return false;
  std::string_view view(text);
  auto [end, code] = std::from_chars(view.data(), view.data() + view.size(), value);
  return code == std::errc{} && end == view.data() + view.size();
}

}  // namespace

Result<UniqueFd> InheritedFds::take(std::string_view name) {
  auto found = fds_.find(name);
  if (found == fds_.end()) {
    return Error{.code = ErrorCode::kNotFound,
                 .cause = "no descriptor named \"" + std::string(name) + "\" was handed down",
                 .effect = "the process cannot start",
                 .mend = "start it through holdfast-launcher"};
  }
  UniqueFd fd = std::move(found->second);
  fds_.erase(found);
  return fd;
}

std::vector<std::string> InheritedFds::names() const {
  std::vector<std::string> names;
  for (const auto& [name, fd] : fds_) names.push_back(name);
  return names;
}

Result<InheritedFds> take_inherited_fds() {
  int pid = 0;
  int count = 0;
  bool ours = parse_int(std::getenv("LISTEN_PID"), pid) && pid == ::getpid() &&
              parse_int(std::getenv("LISTEN_FDS"), count);
  const char* raw_names = std::getenv("LISTEN_FDNAMES");
  std::string names = raw_names == nullptr ? "" : raw_names;
  ::unsetenv("LISTEN_PID");
  ::unsetenv("LISTEN_FDS");
  ::unsetenv("LISTEN_FDNAMES");
  std::multimap<std::string, UniqueFd, std::less<>> fds;
  if (!ours) return InheritedFds(std::move(fds));
  if (count < 0 || count > kFdsMax) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "LISTEN_FDS is not a number from 0 to 256"};
  }
  size_t start = 0;
  for (int i = 0; i < count; ++i) {
    size_t colon = names.find(':', start);
    std::string name = start > names.size() ? "" : names.substr(start, colon - start);
    start = colon == std::string::npos ? names.size() + 1 : colon + 1;
    TRY_CONTEXT(set_close_on_exec(kFirstFd + i, true), "inherited descriptor \"" + name + "\"");
    fds.emplace(std::move(name), UniqueFd(kFirstFd + i));
  }
  return InheritedFds(std::move(fds));
}

std::string listen_fdnames(const std::vector<GivenFd>& fds) {
  std::string names;
  for (const GivenFd& given : fds) {
    if (!names.empty()) names += ':';
    names += given.name;
  }
  return names;
}

}  // namespace hf::sys
