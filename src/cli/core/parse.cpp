#include "cli/core/parse.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <limits>
#include <span>

namespace hf::cli {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

Result<uint64_t> parse_with(std::string_view text, std::span<const Unit> units,
                            std::string_view what) {
  Error bad{
      .code = ErrorCode::kInvalidArgument,
      .cause = "\"" + std::string(text) + "\" is not a " + std::string(what),
      .effect = "nothing was done",
      .mend = what == "size" ? "write it as 512M, 4G or 1T" : "write it as 30s, 15m, 2h or 1d"};
  uint64_t value = 0;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{}) return bad;
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  for (const Unit& known : units) {
    if (unit != known.name) continue;
    if (value > std::numeric_limits<uint64_t>::max() / known.factor) return bad;
    return value * known.factor;
  }
  return bad;
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  static constexpr uint64_t kKi = 1024;
  static constexpr Unit kUnits[] = {{"", 1},
                                    {"K", kKi},
                                    {"KiB", kKi},
                                    {"M", kKi * kKi},
                                    {"MiB", kKi * kKi},
                                    {"G", kKi * kKi * kKi},
                                    {"GiB", kKi * kKi * kKi},
                                    {"T", kKi * kKi * kKi * kKi},
                                    {"TiB", kKi * kKi * kKi * kKi}};
  return parse_with(text, kUnits, "size");
}

Result<uint64_t> parse_duration(std::string_view text) {
  static constexpr Unit kUnits[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
  return parse_with(text, kUnits, "duration");
}

Result<uint64_t> parse_since(std::string_view text, uint64_t now_us) {
  const Result<uint64_t> ago = parse_duration(text);
  if (ago.ok()) return *ago > now_us / 1'000'000 ? 0 : now_us - *ago * 1'000'000;
  std::string given(text);
  std::ranges::replace(given, 'T', ' ');
  for (const char* form :
       {"%Y-%m-%d %H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"}) {
    std::tm parts{};
    const char* end = ::strptime(given.c_str(), form, &parts);
    if (end == nullptr || *end != 0) continue;
    const std::time_t seconds = ::timegm(&parts);
    if (seconds >= 0) return static_cast<uint64_t>(seconds) * 1'000'000;
  }
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "\"" + std::string(text) + "\" is neither a duration nor a time",
               .effect = "nothing was done",
               .mend = "write it as 30m, 2h or 1d, or as \"2026-11-28 14:00:00Z\""};
}

Status confirm(const std::string& question) {
  if (::isatty(STDIN_FILENO) == 0) {
    std::string on_a_line = question;
    std::ranges::replace(on_a_line, '\n', ' ');
    return Error{
        .code = ErrorCode::kInvalidArgument,
        .cause = "the command asks for confirmation and there is no terminal: " + on_a_line,
        .effect = "nothing was done",
        .mend = "give --yes"};
  }
  std::fprintf(stderr, "%s [y/N] ", question.c_str());
  char answer[8] = {};
  if (std::fgets(answer, sizeof answer, stdin) != nullptr && (answer[0] == 'y' || answer[0] == 'Y'))
    return {};
  return Error{.code = ErrorCode::kInvalidArgument,
               .cause = "not confirmed",
               .effect = "nothing was done",
               .mend = "give the command again and answer y, or give --yes"};
}

}  // namespace hf::cli
