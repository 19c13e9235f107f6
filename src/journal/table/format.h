// Table: an immutable, sorted list of entries in blocks under a tree of hashes (docs/formats/
// journal-maps.md). Maps, locators and death lists are tables; what an entry is, is theirs to say.
//
//   block ‖ block ‖ … ‖ page ‖ … ‖ footer (512)
//
//   block   = count (2) ‖ entries                               at most 16 KiB
//   page    = level (1) ‖ zero (1) ‖ count (2) ‖ zero (4) ‖ references, in order
//   level 1 references a block:   first key (16), offset (8), length (4), filter's length (4),
//                                 SHA-256 (32), filter
//   level n references a page of level n-1: the same, without a filter
//
// The filter stands in the page, not in pages of its own: the page has to be read for the block's
// place and hash in any case, so one read either leads to the block or says that it holds nothing.
//
// The root's hash commits to every byte but the footer's, so a block is checked as it is read: who
// trusts the footer need not read the whole table first.
#pragma once

#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace hf::journal {

// Entries are ordered by it: (volume, offset) of a map, (segment, place) of a locator.
struct TableKey {
  uint64_t major = 0;
  uint64_t minor = 0;
  auto operator<=>(const TableKey&) const = default;
};

enum class TableKind : uint16_t { kMap = 1, kLocator = 2, kDeaths = 3 };

inline constexpr uint32_t kTableMagic = 0x54464648;  // "HFFT"
inline constexpr uint16_t kTableVersion = 1;
inline constexpr size_t kTablePageMax = 16u << 10;  // of blocks and pages alike
inline constexpr size_t kTableFooterSize = 512;
inline constexpr size_t kTableAttachmentMax = 384;
inline constexpr size_t kTableAttachmentAt = 96;  // in the footer
inline constexpr uint8_t kTableLevelMax = 8;
inline constexpr size_t kPageHeaderSize = 8;
inline constexpr size_t kPageReferenceSize = 64;
inline constexpr size_t kFilterMax = 2048;  // bytes; a block that would need more has none

struct PageReference {
  TableKey first;
  uint64_t offset = 0;  // in the table
  uint32_t length = 0;
  Digest hash;
  bool operator==(const PageReference&) const = default;
};

struct TableFooter {
  TableKind kind = TableKind::kMap;
  uint64_t length = 0;  // of the table, footer included
  uint64_t entries = 0;
  uint8_t levels = 0;  // of pages; 0: no entries
  PageReference root;  // its first key is the table's
  Bytes attachment;    // what the kind has to say, and who signed it
  bool operator==(const TableFooter&) const = default;
};
Bytes encode_table_footer(const TableFooter& footer);
Result<TableFooter> decode_table_footer(ByteSpan from);

// One level-1 or upper page, checked: references in order, inside the table, before the page.
class Page {
 public:
  static Result<Page> parse(ByteSpan bytes, uint8_t level, uint64_t offset);
  size_t count() const { return starts_.size(); }
  PageReference reference(size_t index) const;
  TableKey first(size_t index) const;
  ByteSpan filter(size_t index) const;
  // The last that begins at or before `key`; 0 if none does.
  size_t find(const TableKey& key) const;

 private:
  ByteSpan bytes_;
  std::vector<uint32_t> starts_;
};

}  // namespace hf::journal
