#include "control/core/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace hf::control {

void log_start() {
  auto logger = spdlog::stderr_logger_mt("holdfastd");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

// As an argument, never as the format: the text may hold braces.
void log_info(std::string_view text) { spdlog::info("{}", text); }
void log_warning(std::string_view text) { spdlog::warn("{}", text); }
void log_error(std::string_view text) { spdlog::error("{}", text); }

}  // namespace hf::control
