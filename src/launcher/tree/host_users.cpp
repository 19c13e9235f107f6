#include "launcher/tree/host_users.h"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>

#include "launcher/protocol/site_config.h"

namespace hf::launcher {
namespace {

// systemd's list of ids (https://systemd.io/UIDS-GIDS) has nothing from 1,879,048,192, where those
// for containers end, to 2,147,352,575; SSSD maps domain users up to 2,000,200,000 (sssd-ad(5),
// ldap_idmap_range_max).
constexpr uint64_t kChoiceFirst = 2'010'000'000;
constexpr uint64_t kChoiceLast = 2'147'000'000;
constexpr uint64_t kFallbackFirst = 100'000;  // never among users who log in
constexpr uint64_t kBaseStep = 10'000;
constexpr uint64_t kIdEnd = uint64_t{UINT32_MAX};  // the last one means "nobody" to system calls

// The first base from `first` to `last` whose range is free of both lists.
std::optional<uint32_t> free_base(uint64_t first, uint64_t last, const std::vector<TakenIds>& taken,
                                  const std::vector<TakenIds>& reserved) {
  // Each round steps over what was in the way, so there are no more than there are entries.
  while (first <= last) {
    const TakenIds* in_the_way = overlapping(first, taken);
    if (in_the_way == nullptr) in_the_way = overlapping(first, reserved);
    if (in_the_way == nullptr) return static_cast<uint32_t>(first);
    const uint64_t end = in_the_way->first + in_the_way->count;
    first = (end + kBaseStep - 1) / kBaseStep * kBaseStep;
  }
  return std::nullopt;
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

std::vector<TakenIds> parse_login_defs(std::string_view text) {
  struct Range {
    std::string_view name;
    uint64_t first;
    uint64_t last;
  };
  std::array<Range, 4> ranges{{{"UID", 1000, 60000},
                               {"GID", 1000, 60000},
                               {"SUB_UID", 100'000, 600'100'000},
                               {"SUB_GID", 100'000, 600'100'000}}};
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key;
    std::string value;
    uint64_t number = 0;
    if (!(words >> key >> value) || !read_number(value, number)) continue;
    for (Range& range : ranges) {
      if (key == std::string(range.name) + "_MIN") range.first = number;
      if (key == std::string(range.name) + "_MAX") range.last = number;
    }
  }
  std::vector<TakenIds> reserved;
  for (const Range& range : ranges) {
    if (range.last < range.first) continue;
    reserved.push_back({.first = range.first,
                        .count = range.last - range.first + 1,
                        .by = "/etc/login.defs (" + std::string(range.name) + "_MIN to " +
                              std::string(range.name) + "_MAX)"});
  }
  return reserved;
}

std::vector<TakenIds> parse_unmapped_ids(std::string_view map, std::string_view file) {
  std::vector<std::pair<uint64_t, uint64_t>> mapped;  // first, end
  std::istringstream lines{std::string(map)};
  for (uint64_t inside = 0, outside = 0, count = 0; lines >> inside >> outside >> count;) {
    mapped.emplace_back(inside, inside + count);
  }
  if (mapped.empty()) return {};
  std::ranges::sort(mapped);
  mapped.emplace_back(kIdEnd, kIdEnd);
  std::vector<TakenIds> unmapped;
  uint64_t at = 0;
  for (const auto& [first, end] : mapped) {
    if (first > at) {
      unmapped.push_back({.first = at,
                          .count = first - at,
                          .by = "no user of this container (" + std::string(file) + ")"});
    }
    at = std::max(at, end);
  }
  return unmapped;
}

namespace {

void add_name_service(std::vector<TakenIds>& taken) {
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
}

struct CloseFile {
  void operator()(FILE* file) const { std::fclose(file); }
};

void add_files(std::vector<TakenIds>& taken) {
  const std::unique_ptr<FILE, CloseFile> users(std::fopen("/etc/passwd", "re"));
  while (const passwd* user = users ? ::fgetpwent(users.get()) : nullptr) {
    taken.push_back({.first = user->pw_uid, .by = std::string("user ") + user->pw_name});
  }
  const std::unique_ptr<FILE, CloseFile> groups(std::fopen("/etc/group", "re"));
  while (const group* entry = groups ? ::fgetgrent(groups.get()) : nullptr) {
    taken.push_back({.first = entry->gr_gid, .by = std::string("group ") + entry->gr_name});
  }
}

}  // namespace

std::vector<TakenIds> taken_ids(UserSource source) {
  std::vector<TakenIds> taken;
  if (source == UserSource::kNameService) {
    add_name_service(taken);
  } else {
    add_files(taken);
  }
  for (const char* file : {"/etc/subuid", "/etc/subgid"}) {
    std::ranges::move(parse_subordinate_ids(file_text(file), file), std::back_inserter(taken));
  }
  for (const char* file : {"/proc/self/uid_map", "/proc/self/gid_map"}) {
    std::ranges::move(parse_unmapped_ids(file_text(file), file), std::back_inserter(taken));
  }
  return taken;
}

std::vector<TakenIds> reserved_ids() { return parse_login_defs(file_text("/etc/login.defs")); }

const TakenIds* overlapping(uint64_t uid_base, const std::vector<TakenIds>& taken) {
  const uint64_t end = uid_base + kSiteUsers;
  const TakenIds* lowest = nullptr;
  for (const TakenIds& ids : taken) {
    bool inside = ids.first < end && uid_base < ids.first + ids.count;
    if (inside && (lowest == nullptr || ids.first < lowest->first)) lowest = &ids;
  }
  return lowest;
}

Result<uint32_t> choose_uid_base(const std::vector<TakenIds>& taken,
                                 const std::vector<TakenIds>& reserved) {
  if (auto base = free_base(kChoiceFirst, kChoiceLast, taken, reserved)) return *base;
  if (auto base = free_base(kFallbackFirst, kUidBaseMax, taken, reserved)) return *base;
  if (auto base = free_base(kFallbackFirst, kUidBaseMax, taken, {})) return *base;
  return Error{.code = ErrorCode::kConflict,
               .cause = "this host has no " + std::to_string(kSiteUsers) +
                        " users in a row that are nobody's",
               .effect = "no site was made",
               .mend = "let all of the site run as one user: --uid-base 0"};
}

Status check_user_range(uint32_t uid_base, const std::vector<TakenIds>& taken,
                        const std::vector<TakenIds>& reserved) {
  if (uid_base == 0) return {};
  const Result<uint32_t> free = choose_uid_base(taken, reserved);
  const std::string mend = free.ok()
                               ? "use a range that is free: --uid-base " + std::to_string(*free)
                               : free.error().mend;
  if (uid_base < kUidBaseMin || uid_base > kUidBaseMax) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "the users of a site begin at " + std::to_string(kUidBaseMin) + " to " +
                          std::to_string(kUidBaseMax) + ", not at " + std::to_string(uid_base),
                 .effect = "no site was made",
                 .mend = mend};
  }
  const TakenIds* in_the_way = overlapping(uid_base, taken);
  if (in_the_way == nullptr) return {};
  return Error{.code = ErrorCode::kConflict,
               .cause = "of the users " + std::to_string(uid_base) + " to " +
                        std::to_string(uid_base + kSiteUsers - 1) + ", which the site would use, " +
                        std::to_string(std::max<uint64_t>(uid_base, in_the_way->first)) +
                        " is taken by " + in_the_way->by,
               .effect = "no site was made",
               .mend = mend};
}

std::optional<gid_t> operators_group() {
  const group* found = ::getgrnam(kOperatorsGroup);
  // Root's would be everything's that runs as it.
  if (found == nullptr || found->gr_gid == 0) return std::nullopt;
  return found->gr_gid;
}

std::optional<gid_t> device_group(const std::string& device, std::string_view name) {
  struct stat status{};
  if (::stat(device.c_str(), &status) != 0 || status.st_gid == 0) return std::nullopt;
  const group* entry = ::getgrgid(status.st_gid);
  if (entry == nullptr || entry->gr_name != name) return std::nullopt;
  return status.st_gid;
}

}  // namespace hf::launcher
