#include "launcher/tree/site_registry.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <optional>

#include "launcher/tree/tree_walk.h"

namespace hf::launcher {
namespace {

constexpr const char* kPlace = "/var/lib/holdfast-sites";
constexpr size_t kSitesMax = 4096;
constexpr size_t kConfigMax = size_t{64} << 10;

struct Entry {
  std::string name;   // the site's id
  std::string state;  // where it leads
};

std::vector<Entry> entries_of(int directory) {
  std::vector<Entry> entries;
  Result<std::vector<std::string>> names = list_directory(directory);
  if (!names.ok()) return entries;
  for (std::string& name : *names) {
    char target[PATH_MAX];
    const ssize_t size = ::readlinkat(directory, name.c_str(), target, sizeof target);
    if (size <= 0 || static_cast<size_t>(size) >= sizeof target) continue;
    if (entries.size() >= kSitesMax) break;
    entries.push_back({.name = std::move(name), .state = {target, static_cast<size_t>(size)}});
  }
  return entries;
}

// What the directory holds now, if it is that site.
std::optional<SiteConfig> site_at(const Entry& entry) {
  const sys::UniqueFd file(
      ::open((entry.state + "/site.json").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) return std::nullopt;
  const Result<Bytes> text = sys::read_all(file.get(), kConfigMax);
  if (!text.ok()) return std::nullopt;
  Result<SiteConfig> site = parse_site_config(as_text(*text));
  if (!site.ok() || site->site_id.hex() != entry.name) return std::nullopt;
  return std::move(*site);
}

}  // namespace

SiteRegistry SiteRegistry::of_host() {
  const char* place = std::getenv("HOLDFAST_SITES");
  return SiteRegistry(place == nullptr ? kPlace : place);
}

std::vector<SiteRegistry::Entered> SiteRegistry::sites() const {
  std::vector<Entered> sites;
  if (directory_.empty()) return sites;
  const sys::UniqueFd directory(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return sites;
  for (Entry& entry : entries_of(directory.get())) {
    std::optional<SiteConfig> site = site_at(entry);
    if (site) sites.push_back({.site = std::move(*site), .state = std::move(entry.state)});
  }
  return sites;
}

std::vector<TakenIds> SiteRegistry::taken(SiteId self) const {
  std::vector<TakenIds> taken;
  for (const auto& [site, state] : sites()) {
    if (site.site_id == self || site.uid_base == 0) continue;
    taken.push_back({.first = site.uid_base,
                     .count = kSiteUsers,
                     .by = "site " + site.name + " (" + state + ")"});
  }
  return taken;
}

Status SiteRegistry::enter(SiteId site, const std::string& state) const {
  HF_ASSERT(state.starts_with('/'));
  if (directory_.empty()) return {};
  if (::mkdir(directory_.c_str(), 0755) != 0 && errno != EEXIST)
    return errno_error(errno, "make " + directory_);
  const sys::UniqueFd directory(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return errno_error(errno, "open " + directory_);
  for (const Entry& entry : entries_of(directory.get())) {
    if (entry.name == site.hex() && entry.state == state) return {};
    struct stat status{};
    const bool gone = ::stat((entry.state + "/site.json").c_str(), &status) != 0 && errno == ENOENT;
    if (gone) (void)::unlinkat(directory.get(), entry.name.c_str(), 0);
  }
  const std::string fresh = site.hex() + ".new";
  (void)::unlinkat(directory.get(), fresh.c_str(), 0);
  if (::symlinkat(state.c_str(), directory.get(), fresh.c_str()) != 0 ||
      ::renameat(directory.get(), fresh.c_str(), directory.get(), site.hex().c_str()) != 0) {
    return errno_error(errno, "enter the site in " + directory_);
  }
  return {};
}

Status claim_users(const SiteConfig& site, const std::string& state, const SiteRegistry& registry) {
  if (site.uid_base == 0) return {};
  std::vector<TakenIds> taken = taken_ids(UserSource::kFiles);
  std::ranges::move(registry.taken(site.site_id), std::back_inserter(taken));
  const TakenIds* in_the_way = overlapping(site.uid_base, taken);
  if (in_the_way == nullptr) return registry.enter(site.site_id, state);
  const Result<uint32_t> free = choose_uid_base(taken, reserved_ids());
  return Error{
      .code = ErrorCode::kConflict,
      .cause = "of the users " + std::to_string(site.uid_base) + " to " +
               std::to_string(site.uid_base + kSiteUsers - 1) + ", which the site uses, " +
               std::to_string(std::max<uint64_t>(site.uid_base, in_the_way->first)) +
               " is taken by " + in_the_way->by + " too",
      .effect = "the site does not start: whoever has that user could reach its VMs' state",
      .mend = "take those users from " + in_the_way->by + ", or make the site anew" +
              (free.ok() ? ": holdfast --state DIR site init --uid-base " + std::to_string(*free)
                         : "")};
}

}  // namespace hf::launcher
