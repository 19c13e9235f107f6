// The catalog's tables, as steps that are applied once each, in order. Steps are only ever added.
#pragma once

#include <span>
#include <string_view>

namespace hf::control {

// Step n (from 1) takes user_version n-1 to n.
std::span<const std::string_view> catalog_migrations();

}  // namespace hf::control
