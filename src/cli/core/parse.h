// What commands read from words on the line, and what they ask on the terminal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hf::cli {

// "4G", "512M", "10GiB", "1048576" → bytes; "90s", "15m", "2h", "1d" → seconds.
Result<uint64_t> parse_size(std::string_view text);
Result<uint64_t> parse_duration(std::string_view text);
// "2h", that long before `now_us`; "2026-11-28 14:00:00Z", with T or without the seconds or the
// time too: microseconds since the epoch, in UTC.
Result<uint64_t> parse_since(std::string_view text, uint64_t now_us);
// A yes on the terminal; an error that names --yes where there is none to ask.
Status confirm(const std::string& question);

}  // namespace hf::cli
