#include "secure_boot/image/sbat.h"

#include <fmt/format.h>

#include <algorithm>

namespace hf::secure_boot {
namespace {

using Row = std::vector<std::string_view>;

constexpr size_t kSectionColumns = 6;
constexpr size_t kLevelColumns = 3;

Error refused(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

// Rows end at CR or LF, the text at a NUL; columns beyond `columns` are not looked at.
Result<std::vector<Row>> rows_of(ByteSpan bytes, size_t columns) {
  if (bytes.size() > kSbatBytesMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "SBAT data of more than 64 KiB"};
  }
  std::string_view text = as_text(bytes);
  text = text.substr(0, text.find('\0'));
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::vector<Row> rows;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("\r\n"), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    if (rows.size() == kSbatRowsMax) {
      return Error{.code = ErrorCode::kLimit, .cause = "SBAT data of more than 256 rows"};
    }
    Row row;
    while (row.size() < columns) {
      const size_t comma = line.find(',');
      row.push_back(line.substr(0, comma));
      if (comma == std::string_view::npos) break;
      line.remove_prefix(comma + 1);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

// As C's atoi and a cast to 16 bits, which is what shim compares: 0 for what is no number.
uint16_t generation(std::string_view text) {
  uint32_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') break;
    value = value * 10 + static_cast<uint32_t>(c - '0');
    if (value > 0xFFFF) return 0;
  }
  return static_cast<uint16_t>(value);
}

bool has_empty(const Row& row) {
  return std::ranges::any_of(row, [](std::string_view cell) { return cell.empty(); });
}

}  // namespace

Result<std::vector<SbatComponent>> parse_sbat(ByteSpan section) {
  std::vector<SbatComponent> components;
  for (const Row& row : TRY(rows_of(section, kSectionColumns))) {
    if (row.size() < kSectionColumns || has_empty(row)) {
      return refused("an SBAT row with fewer than six columns");
    }
    components.push_back({.name = std::string(row[0]),
                          .generation = generation(row[1]),
                          .vendor = std::string(row[2]),
                          .package = std::string(row[3]),
                          .version = std::string(row[4])});
  }
  return components;
}

Result<SbatLevel> parse_sbat_level(ByteSpan text) {
  SbatLevel level;
  for (const Row& row : TRY(rows_of(text, kLevelColumns))) {
    if (row.size() < 2 || has_empty(row)) return refused("an SBAT level row without generation");
    if (level.limits.empty()) {
      if (row[0] != "sbat" || row.size() < kLevelColumns) {
        return refused("an SBAT level that does not begin with its own row");
      }
      level.date = std::string(row[2]);
    }
    level.limits.push_back({.name = std::string(row[0]), .generation = generation(row[1])});
  }
  if (level.limits.empty()) return refused("an empty SBAT level");
  return level;
}

std::optional<std::string> revoked_by(const SbatLevel& level,
                                      const std::vector<SbatComponent>& components) {
  for (const SbatComponent& component : components) {
    auto limit = std::ranges::find(level.limits, component.name, &SbatLimit::name);
    if (limit == level.limits.end() || component.generation >= limit->generation) continue;
    return fmt::format("component {} has generation {}, SBAT level {} demands {}", component.name,
                       component.generation, level.date, limit->generation);
  }
  return std::nullopt;
}

Result<ShimLevels> parse_shim_levels(ByteSpan section) {
  constexpr size_t kFormat = 4;  // a format number stands before what the offsets count from
  if (section.size() < kFormat + 8 || section.size() > kSbatBytesMax ||
      load_le<uint32_t>(section.data()) != 0) {
    return refused("a .sbatlevel section of unknown format");
  }
  const ByteSpan payload = section.subspan(kFormat);
  const uint32_t automatic = load_le<uint32_t>(payload.data());
  const uint32_t latest = load_le<uint32_t>(payload.data() + 4);
  if (automatic >= payload.size() || latest >= payload.size()) {
    return refused("a .sbatlevel section whose levels lie outside of it");
  }
  return ShimLevels{.automatic = TRY(parse_sbat_level(payload.subspan(automatic))),
                    .latest = TRY(parse_sbat_level(payload.subspan(latest)))};
}

}  // namespace hf::secure_boot
