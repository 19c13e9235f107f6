#include "launcher/tree/host_users.h"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

#include "launcher/protocol/site_config.h"

namespace hf::launcher {
namespace {

constexpr uint64_t kBaseStep = 100'000;

// The lowest of those that lie in the range.
const TakenIds* overlapping(uint64_t base, const std::vector<TakenIds>& taken) {
  uint64_t end = base + kSiteUsers;
  const TakenIds* lowest = nullptr;
  for (const TakenIds& ids : taken) {
    bool inside = ids.first < end && base < ids.first + ids.count;
    if (inside && (lowest == nullptr || ids.first < lowest->first)) lowest = &ids;
  }
  return lowest;
}

bool read_number(std::string_view text, uint64_t& value) {
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failed == std::errc() && end == text.data() + text.size() && value <= UINT32_MAX;
}

std::string file_text(const char* path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

std::vector<TakenIds> parse_subordinate_ids(std::string_view text, std::string_view file) {
  std::vector<TakenIds> taken;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    size_t first_at = line.find(':');
    size_t count_at = line.rfind(':');
    if (first_at == std::string_view::npos || count_at == first_at) continue;
    TakenIds ids{.by = std::string(file) + " (" + std::string(line.substr(0, first_at)) + ")"};
    if (!read_number(line.substr(first_at + 1, count_at - first_at - 1), ids.first)) continue;
    if (!read_number(line.substr(count_at + 1), ids.count)) continue;
    taken.push_back(std::move(ids));
  }
  return taken;
}

std::vector<TakenIds> taken_ids() {
  std::vector<TakenIds> taken;
  ::setpwent();
  while (const passwd* user = ::getpwent()) {
    taken.push_back({.first = user->pw_uid, .by = std::string("user ") + user->pw_name});
  }
  ::endpwent();
  ::setgrent();
  while (const group* entry = ::getgrent()) {
    taken.push_back({.first = entry->gr_gid, .by = std::string("group ") + entry->gr_name});
  }
  ::endgrent();
  for (const char* file : {"/etc/subuid", "/etc/subgid"}) {
    std::ranges::move(parse_subordinate_ids(file_text(file), file), std::back_inserter(taken));
  }
  return taken;
}

Status check_user_range(uint32_t uid_base, const std::vector<TakenIds>& taken) {
  if (uid_base == 0) return {};
  const TakenIds* in_the_way = overlapping(uid_base, taken);
  if (in_the_way == nullptr) return {};
  uint64_t free = kBaseStep;
  while (free + kSiteUsers < UINT32_MAX && overlapping(free, taken) != nullptr) free += kBaseStep;
  return Error{.code = ErrorCode::kConflict,
               .cause = "of the users " + std::to_string(uid_base) + " to " +
                        std::to_string(uid_base + kSiteUsers - 1) + ", which the site would use, " +
                        std::to_string(std::max<uint64_t>(uid_base, in_the_way->first)) +
                        " is taken by " + in_the_way->by,
               .effect = "no site was made",
               .mend = "use a range that is free: --uid-base " + std::to_string(free)};
}

std::optional<gid_t> device_group(const std::string& device, std::string_view name) {
  struct stat status{};
  if (::stat(device.c_str(), &status) != 0 || status.st_gid == 0) return std::nullopt;
  const group* entry = ::getgrgid(status.st_gid);
  if (entry == nullptr || entry->gr_name != name) return std::nullopt;
  return status.st_gid;
}

}  // namespace hf::launcher
