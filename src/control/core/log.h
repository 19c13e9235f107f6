// The daemon's log: lines on stderr, which the launcher keeps. Never a secret, never guest data.
#pragma once

#include <string_view>

namespace hf::control {

void log_start();
void log_info(std::string_view text);
void log_warning(std::string_view text);
void log_error(std::string_view text);

}  // namespace hf::control
